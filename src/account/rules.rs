//! Pace rules of an account: the operator's rule for a model, and DashScope's own limits where the rule has none.

use crate::config::{PaceLimit, PaceRule};
use crate::dashscope::pattern::matches;
use crate::dashscope::submit_rules::{self, SubmitRule};

/// Pace rules of one account.
#[derive(Debug)]
pub(super) struct PaceRules {
    written: Vec<PaceRule>,
    host: Box<str>,
}

impl PaceRules {
    pub(super) fn new(written: &[PaceRule], host: &str) -> Self {
        Self { written: written.to_vec(), host: host.into() }
    }

    /// The rule of a model; `None` if the model is not paced. Only a rule for `*` fits a model without a known name.
    pub(super) fn of(&self, model: &str) -> Option<SubmitRule> {
        let mut rule = submit_rules::rule(model, &self.host);
        let is_meant = |written: &&PaceRule| written.models.iter().any(|pattern| matches(pattern, model));
        if let Some(written) = self.written.iter().find(is_meant) {
            rule.requests_per_second = or(written.requests_per_second, rule.requests_per_second);
            rule.running = or(written.running, rule.running);
        }
        (rule != SubmitRule::default()).then_some(rule)
    }

    /// Tells whether any model is paced.
    pub(super) fn any(&self) -> bool {
        let is_for_all = |written: &PaceRule| written.models.iter().any(|pattern| pattern == "*");
        let is_off = |written: &PaceRule| {
            written.requests_per_second == Some(PaceLimit::Unlimited)
                && written.running == Some(PaceLimit::Unlimited)
        };
        !self.written.first().is_some_and(|first| is_for_all(first) && is_off(first))
    }
}

fn or<T>(written: Option<PaceLimit<T>>, usual: Option<T>) -> Option<T> {
    match written {
        None => usual,
        Some(PaceLimit::Unlimited) => None,
        Some(PaceLimit::At(most)) => Some(most),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Row = (&'static [&'static str], Option<PaceLimit<f64>>, Option<PaceLimit<u32>>);

    fn rules(written: &[Row]) -> PaceRules {
        let rule = |(models, requests_per_second, running): &Row| PaceRule {
            models: models.iter().map(|model| (*model).to_owned()).collect(),
            requests_per_second: *requests_per_second,
            running: *running,
        };
        PaceRules::new(&written.iter().map(rule).collect::<Vec<_>>(), "dashscope.aliyuncs.com")
    }

    fn rule(requests_per_second: Option<f64>, running: Option<u32>) -> Option<SubmitRule> {
        Some(SubmitRule { requests_per_second, running })
    }

    #[test]
    fn the_first_that_fits_counts_and_what_it_leaves_out_is_as_usual() {
        let rules = rules(&[
            (&["wan2.6-i2v", "wan2.7-*"], Some(PaceLimit::At(0.5)), None),
            (&["wan2.6-*"], None, Some(PaceLimit::At(3))),
            (&["wan2.2-*", "text-embedding-async-*"], Some(PaceLimit::Unlimited), None),
        ]);
        assert_eq!(rules.of("wan2.6-i2v"), rule(Some(0.5), None));
        assert_eq!(rules.of("wan2.7-t2v"), rule(Some(0.5), None));
        assert_eq!(rules.of("wan2.6-t2v"), rule(Some(5.0), Some(3)));
        assert_eq!(rules.of("wan2.2-t2v-plus"), None);
        assert_eq!(rules.of("text-embedding-async-v1"), rule(None, Some(53)));
        assert_eq!(rules.of("wan3.0-video"), None);
        assert_eq!(rules.of(""), None);
        assert!(rules.any());
    }

    #[test]
    fn all_can_be_paced_or_none() {
        let off = rules(&[(&["*"], Some(PaceLimit::Unlimited), Some(PaceLimit::Unlimited))]);
        assert_eq!((off.of("wan2.6-t2v"), off.of("text-embedding-async-v1"), off.any()), (None, None, false));
        let all = rules(&[(&["*"], Some(PaceLimit::At(3.0)), None)]);
        assert_eq!((all.of(""), all.any()), (rule(Some(3.0), None), true));
    }
}

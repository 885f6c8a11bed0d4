//! Labels of models in metrics. Only models that the configuration names have a label of their own, as clients could
//! name any number of models.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::config::Config;
use crate::dashscope::pattern::matches;
use crate::telemetry::metrics::{Metrics, ModelSeries};

/// Metrics of the named models, the most specific names and patterns first.
#[derive(Debug)]
pub(super) struct ModelLabels {
    named: Vec<Arc<ModelSeries>>,
    others: Arc<ModelSeries>,
}

impl ModelLabels {
    pub(super) fn new(config: &Config, metrics: &Metrics) -> Self {
        let of_tenants = config.tenants.iter().flat_map(|tenant| {
            let of_tokens = tenant.tokens.iter().flat_map(|tokens| &tokens.models);
            let of_limits = tenant.limits.models.iter().chain(&*tenant.tenant_limits.models);
            tenant.models.iter().chain(of_limits).chain(of_tokens)
        });
        let of_accounts =
            config.accounts.iter().flat_map(|account| &account.pace).flat_map(|rule| &rule.models);
        let written: BTreeSet<&str> = of_tenants.chain(of_accounts).map(String::as_str).collect();
        let mut written: Vec<&str> = written.into_iter().filter(|name| *name != "*").collect();
        written.sort_by_key(|name| (name.contains('*'), std::cmp::Reverse(name.len())));
        let named = written.into_iter().take(MOST_NAMED).map(|name| metrics.model(&name.into()));
        Self { named: named.collect(), others: Arc::clone(&metrics.other_models) }
    }

    pub(super) fn series(&self, model: &str) -> &Arc<ModelSeries> {
        self.named.iter().find(|series| matches(series.name(), model)).unwrap_or(&self.others)
    }
}

/// The number is limited because each named model has a histogram.
const MOST_NAMED: usize = 200;

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_most_particular_name_counts() {
        let text = r#"
            accounts = [{ name = "main", base_url = "https://h", keys = ["sk-1"],
                          pace = [{ models = ["*"], requests_per_second = 1 },
                                  { models = ["wan2.7-t2v"], requests_per_second = 1 }] }]
            tenants = [{ name = "one", keys = [], models = ["wan*", "wan2.7-*"], limits = { models = ["qwen*"] } }]"#;
        let config = Config::parse(text, Path::new("."), &|_| None).expect("a configuration").config;
        let models = ModelLabels::new(&config, &Metrics::default());
        for (model, label) in [
            ("wan2.7-t2v", "wan2.7-t2v"),
            ("wan2.7-i2v", "wan2.7-*"),
            ("wan2.6-i2v", "wan*"),
            ("qwen-plus", "qwen*"),
            ("paraformer-v2", "other"),
            ("", "other"),
        ] {
            assert_eq!(&**models.series(model).name(), label, "{model}");
        }
    }
}

//! Counts of what one tenant used, by model, unit and class.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::dashscope::usage::{Unit, Units};

/// Counts in thousandths of a unit. One lock guards them: a call counts once, when its answer has ended.
#[derive(Debug, Default)]
pub(super) struct UseCounts(Mutex<BTreeMap<(Arc<str>, &'static str), Units>>);

/// Label of the model, unit, and label of the class.
type UseLabels = (Arc<str>, Unit, &'static str);

impl UseCounts {
    pub(super) fn count(&self, model: &Arc<str>, units: &Units, class: &str) {
        let class = class_label(class);
        let mut counts = self.0.lock();
        let counted = counts.entry((Arc::clone(model), class)).or_default();
        for (unit, thousandths) in units.iter() {
            counted.set(unit, counted.get(unit).saturating_add(thousandths));
        }
    }

    /// All counts of models with these labels. Counts of other models, which a reload took away, are dropped.
    pub(super) fn of(&self, models: &[&Arc<str>]) -> Vec<(UseLabels, u64)> {
        let mut counts = self.0.lock();
        counts.retain(|(model, _), _| models.contains(&model));
        let of_units = |((model, class), units): (&(Arc<str>, &'static str), &Units)| {
            let each = units.iter().map(|(unit, count)| ((Arc::clone(model), unit, *class), count));
            each.collect::<Vec<_>>()
        };
        counts.iter().flat_map(of_units).collect()
    }
}

/// The class as a label: one that DashScope documents, `none`, or `other` for all else that an answer may name.
fn class_label(class: &str) -> &'static str {
    if class.is_empty() {
        return "none";
    }
    CLASSES.into_iter().find(|known| *known == class).unwrap_or("other")
}

const CLASSES: [&str; 16] = [
    "480P", "720P", "1080P", "1440P", "2160P", "4320P", "1K", "2K", "4K", "8K", "standard", "pro", "wan-std",
    "wan-pro", "1:1", "3:4",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_add_up_and_labels_are_bounded() {
        let counts = UseCounts::default();
        let [one, two] = ["one", "two"].map(Arc::<str>::from);
        let seconds = |thousandths| Units::from_iter([(Unit::VideoSecond, thousandths)]);
        counts.count(&one, &seconds(5_020), "720P");
        counts.count(&one, &seconds(5_020), "720P");
        counts.count(&one, &Units::default(), "720P");
        for class in ["a", "b", "16:9"] {
            counts.count(&two, &seconds(u64::MAX), class);
        }
        counts.count(&two, &seconds(1), "");
        let found = counts.of(&[&one, &two]);
        let shown: Vec<_> =
            found.iter().map(|((model, unit, class), count)| (&**model, *unit, *class, *count)).collect();
        assert_eq!(
            shown,
            [
                ("one", Unit::VideoSecond, "720P", 10_040),
                ("two", Unit::VideoSecond, "none", 1),
                ("two", Unit::VideoSecond, "other", u64::MAX),
            ]
        );
        assert_eq!(counts.of(&[&one]).len(), 1);
        assert!(counts.of(&[&two]).is_empty(), "a model that was taken away begins anew");
    }
}

//! The pace of submits, as written and checked: `[submit]`, and `pace` of an account.

use super::node::Node;
use super::reader::{ConfigReader, Located, Text};
use super::{PaceLimit, PaceRule};

/// One pace rule as written.
pub(super) struct RawPaceRule {
    models: Option<Located<Vec<Text>>>,
    requests_per_second: Option<PaceLimit<f64>>,
    running: Option<PaceLimit<u32>>,
}

/// Reads `max_wait` of `[submit]`.
pub(super) fn max_wait(node: Node<'_>) -> Option<Text> {
    let mut table = node.table("write [submit]")?;
    let max_wait = table.field("max_wait").and_then(|node| node.string("write it like \"5s\""));
    table.finish();
    max_wait
}

/// Reads the rules of one account.
pub(super) fn read(node: Node<'_>) -> Vec<RawPaceRule> {
    let items = node.items(HINT).unwrap_or_default();
    items.iter().filter_map(rule).collect()
}

fn rule(node: &Node<'_>) -> Option<RawPaceRule> {
    let mut table = node.table(HINT)?;
    let models = table.required("models", "name models, or patterns: models = [\"wan2.6-*\"]");
    let models = models.and_then(|node| {
        let value = node.strings("write names in quotes between [ and ]")?;
        Some(Located { value, location: node.location })
    });
    if !table.has("requests_per_second") && !table.has("running") {
        table.missing("says nothing of its models", "give `requests_per_second`, `running`, or both");
    }
    let submits = table.field("requests_per_second").and_then(|node| {
        let problem = "must be from 0.01 to 1000";
        let number = |node: &Node<'_>| node.decimal(0.01..=1000.0, problem, OR_UNLIMITED);
        bound(&node, |node| Some(number(node)?.value))
    });
    let running = table.field("running").and_then(|node| {
        let number = |node: &Node<'_>| node.whole(1..=u64::from(u32::MAX));
        bound(&node, |node| u32::try_from(number(node)?.value).ok())
    });
    table.finish();
    Some(RawPaceRule { models, requests_per_second: submits, running })
}

fn bound<T>(node: &Node<'_>, number: impl FnOnce(&Node<'_>) -> Option<T>) -> Option<PaceLimit<T>> {
    if node.raw().is_none() {
        return number(node).map(PaceLimit::At);
    }
    if node.string(OR_UNLIMITED)?.value == "unlimited" {
        return Some(PaceLimit::Unlimited);
    }
    node.reader.fault(&node.location, "must be a number, or \"unlimited\"", OR_UNLIMITED);
    None
}

/// The checked rule; `None` if `models` is missing. Faults of the other keys are noted already.
pub(super) fn check(reader: &ConfigReader<'_>, file: &RawPaceRule) -> Option<PaceRule> {
    let written = file.models.as_ref()?;
    if written.value.is_empty() {
        reader.fault(&written.location, "is empty", "for all models write [\"*\"]");
    }
    for model in written.value.iter().filter(|model| model.value.is_empty()) {
        reader.fault(&model.location, "is empty", "write a model's name, or a pattern like \"wan2.6-*\"");
    }
    Some(PaceRule {
        models: written.value.iter().map(|model| model.value.clone()).collect(),
        requests_per_second: file.requests_per_second,
        running: file.running,
    })
}

const HINT: &str = "write it like pace = [{ models = [\"wan2.6-*\"], requests_per_second = 5 }]";
const OR_UNLIMITED: &str =
    "write a number, or \"unlimited\"; left out, it is as DashScope has it for these models";

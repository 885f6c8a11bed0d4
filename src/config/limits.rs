//! The tables `limits` and `tenant_limits` of a tenant.

use std::sync::Arc;

use super::node::{Node, Table};
use super::reader::ValueFault;

/// Limits of each key of a tenant, or of all its keys together. `None` and an empty list stand for no limit.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Limits {
    /// Rule for every call. The three rules below override its fields for their kind of call.
    pub all: Rule,
    pub polls: Rule,
    pub submits: Rule,
    pub streams: Rule,
    pub tasks_in_flight: Option<u32>,
    pub max_duration_seconds: Option<u32>,
    /// Number of lines: 720 for 720P.
    pub max_resolution: Option<u32>,
    /// Patterns with `*`.
    pub models: Arc<[String]>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Rule {
    pub rate: Option<Rate>,
    pub concurrent_requests: Option<u32>,
}

/// A rate of requests, evenly spaced, with `burst` requests at once after a pause.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    pub requests_per_second: f64,
    pub burst: u32,
}

impl Rate {
    /// Nanoseconds from one request to the next. They are rounded up, so that the rate is never exceeded.
    pub fn interval_nanos(&self) -> u64 {
        (1e9 / self.requests_per_second).ceil() as u64
    }
}

/// Reads one of the two tables. Only `limits` may list models.
pub(super) fn limits(node: Node<'_>, lists_models: bool) -> Option<Limits> {
    let mut table = node.table("write it like { requests_per_second = 10, burst = 20 }")?;
    let limits = Limits {
        all: rule(&mut table),
        polls: kind(&mut table, "polls"),
        submits: kind(&mut table, "submits"),
        streams: kind(&mut table, "streams"),
        tasks_in_flight: whole(&mut table, "tasks_in_flight"),
        max_duration_seconds: whole(&mut table, "max_duration_seconds"),
        max_resolution: table.field("max_resolution").and_then(|node| {
            let written = node.string("write it like \"720P\"")?;
            node.reader.check(&written, lines)
        }),
        models: if lists_models { table.field("models").and_then(models) } else { None }
            .unwrap_or_default()
            .into(),
    };
    if !lists_models {
        table.refuse("models", "is a limit of each key", "write it in `limits`, or as the tenant's `models`");
    }
    table.finish();
    Some(limits)
}

/// A list of models: names or patterns.
pub(super) fn models(node: Node<'_>) -> Option<Vec<String>> {
    let list = node.strings("write names of models in quotes between [ and ]")?;
    if list.is_empty() {
        node.reader.fault(&node.location, "is empty", "leave it out to allow all models");
        return None;
    }
    for model in &list {
        if model.value.is_empty() {
            let hint = "write a model's name, or a pattern like \"wan2.7-*\"";
            node.reader.fault(&model.location, "is empty", hint);
        }
    }
    Some(list.into_iter().map(|model| model.value).collect())
}

fn kind(table: &mut Table<'_>, name: &'static str) -> Rule {
    let inner = table.field(name).and_then(|node| node.table("write it like { requests_per_second = 10 }"));
    let Some(mut inner) = inner else { return Rule::default() };
    let rule = rule(&mut inner);
    inner.finish();
    rule
}

fn rule(table: &mut Table<'_>) -> Rule {
    let per_second = table.field("requests_per_second").and_then(|node| node.rate());
    let burst = table.field("burst").and_then(|node| node.whole(1..=u64::from(u32::MAX)));
    if let Some(burst) = burst.as_ref().filter(|_| !table.has("requests_per_second")) {
        let hint = "give `requests_per_second` beside it, or remove it";
        table.reader.fault(&burst.location, "is the burst of no rate", hint);
    }
    let concurrent_requests = whole(table, "concurrent_requests");
    let rate = per_second.and_then(|written| {
        let burst = burst.as_ref().and_then(|burst| u32::try_from(burst.value).ok());
        table.reader.check(&written, |per_second: &f64| rate(*per_second, burst))
    });
    Rule { rate, concurrent_requests }
}

fn rate(requests_per_second: f64, burst: Option<u32>) -> Result<Rate, ValueFault> {
    if !(SLOWEST..=FASTEST).contains(&requests_per_second) {
        return Err(ValueFault::new("must be from 0.00001 to 1000000", "leave it out for no limit"));
    }
    // The default burst is the number of requests in one second.
    let burst = burst.unwrap_or((requests_per_second.ceil() as u32).max(1));
    let rate = Rate { requests_per_second, burst };
    if rate.interval_nanos().checked_mul(burst.into()).is_none_or(|nanos| nanos > LONGEST_REFILL_NANOS) {
        return Err(ValueFault::new("would take years to refill its burst", "lower `burst`"));
    }
    Ok(rate)
}

fn whole(table: &mut Table<'_>, name: &'static str) -> Option<u32> {
    let written = table.field(name)?.whole(1..=u64::from(u32::MAX))?;
    u32::try_from(written.value).ok()
}

/// "720P" has 720 lines.
fn lines(text: &str) -> Result<u32, ValueFault> {
    let digits = text.strip_suffix(['P', 'p']).filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()));
    let lines = digits.and_then(|digits| digits.parse().ok()).filter(|lines| (1..=10_000).contains(lines));
    lines.ok_or_else(|| {
        ValueFault::new("is not a resolution", "write it like \"480P\", \"720P\" or \"1080P\"")
    })
}

/// About one request a day.
const SLOWEST: f64 = 0.000_01;
const FASTEST: f64 = 1_000_000.0;
const LONGEST_REFILL_NANOS: u64 = 2 * 365 * 86_400 * 1_000_000_000;

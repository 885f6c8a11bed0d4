//! Limits that a key made at run time has for itself: the keys of the table `limits` as JSON, under the same check as
//! those of a file.

use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use toml::de::DeTable;

use super::fault::Fault;
use super::files::Files;
use super::limits::{Limits, Rule, limits};
use super::node::Table;
use super::reader::ConfigReader;
use super::runtime_tenant::write;

/// Limits of one key. As text, they are a JSON object.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct KeyLimits {
    written: Map<String, Value>,
    rules: Limits,
}

impl KeyLimits {
    /// Checks a table of limits. A key that is null is left out.
    ///
    /// # Errors
    /// All faults, each with the path of its key.
    pub fn check(written: Map<String, Value>) -> Result<Self, Vec<Fault>> {
        let written = without_nulls(written);
        let mut text = "limits = ".to_owned();
        write(&written.clone().into(), &mut text);
        text.push('\n');
        let (tree, errors) = DeTable::parse_recoverable(&text);
        let reader = ConfigReader::new(&text, Path::new(""), &|_| None, &errors, Files::default());
        let mut table = Table::root(&reader, tree.get_ref());
        let rules = table.field("limits").and_then(|node| limits(node, true));
        let (faults, _) = reader.finish();
        match rules {
            Some(rules) if faults.is_empty() => Ok(Self { written, rules }),
            Some(_) | None => {
                Err(faults.into_iter().map(|fault| Fault { position: None, ..fault }).collect())
            }
        }
    }

    /// The limits as they were given.
    pub fn written(&self) -> &Map<String, Value> {
        &self.written
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.written.is_empty()
    }

    /// The limits of the key, where each that it does not have is the one of its tenant's keys.
    pub fn over(&self, of_tenant: &Limits) -> Limits {
        let rule = |own: &Rule, of_tenant: &Rule| Rule {
            rate: own.rate.or(of_tenant.rate),
            concurrent_requests: own.concurrent_requests.or(of_tenant.concurrent_requests),
        };
        let own = &self.rules;
        let models = if own.models.is_empty() { &of_tenant.models } else { &own.models };
        Limits {
            all: rule(&own.all, &of_tenant.all),
            polls: rule(&own.polls, &of_tenant.polls),
            submits: rule(&own.submits, &of_tenant.submits),
            streams: rule(&own.streams, &of_tenant.streams),
            tasks_in_flight: own.tasks_in_flight.or(of_tenant.tasks_in_flight),
            max_duration_seconds: own.max_duration_seconds.or(of_tenant.max_duration_seconds),
            max_resolution: own.max_resolution.or(of_tenant.max_resolution),
            models: Arc::clone(models),
        }
    }
}

/// Leaves out keys that are null, and tables of which nothing is left.
fn without_nulls(table: Map<String, Value>) -> Map<String, Value> {
    let kept = table.into_iter().filter_map(|(key, value)| match value {
        Value::Null => None,
        Value::Object(inner) => {
            let inner = without_nulls(inner);
            (!inner.is_empty()).then(|| (key, inner.into()))
        }
        other @ (Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_)) => {
            Some((key, other))
        }
    });
    kept.collect()
}

/// The rules hold numbers that are not NaN.
impl Eq for KeyLimits {}

impl From<KeyLimits> for String {
    fn from(limits: KeyLimits) -> Self {
        Value::Object(limits.written).to_string()
    }
}

/// The text holds no limits.
#[derive(Debug)]
pub struct UnreadableLimits;

impl std::fmt::Display for UnreadableLimits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("these are no limits of a key")
    }
}

impl TryFrom<String> for KeyLimits {
    type Error = UnreadableLimits;

    fn try_from(text: String) -> Result<Self, UnreadableLimits> {
        text.parse()
    }
}

impl std::str::FromStr for KeyLimits {
    type Err = UnreadableLimits;

    fn from_str(text: &str) -> Result<Self, UnreadableLimits> {
        let written = serde_json::from_str(text).map_err(|_| UnreadableLimits)?;
        Self::check(written).map_err(|_| UnreadableLimits)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::Rate;

    fn check(written: Value) -> Result<KeyLimits, Vec<String>> {
        let Value::Object(written) = written else { panic!("an object") };
        KeyLimits::check(written).map_err(|faults| {
            faults.into_iter().map(|fault| format!("{}: {}", fault.path, fault.problem)).collect()
        })
    }

    #[test]
    fn a_key_has_its_own_limits_and_else_those_of_its_tenants_keys() {
        let own = check(json!({
            "requests_per_second": 2, "streams": {"concurrent_requests": 3}, "tasks_in_flight": null,
            "models": ["wan*"], "polls": {"requests_per_second": null},
        }));
        let own = own.expect("limits");
        let of_tenant = check(json!({
            "requests_per_second": 9, "burst": 50, "concurrent_requests": 7, "tasks_in_flight": 4, "models": ["qwen*"],
        }));
        let limits = own.over(&of_tenant.expect("limits").rules);
        assert_eq!(limits.all.rate, Some(Rate { requests_per_second: 2.0, burst: 2 }));
        assert_eq!((limits.all.concurrent_requests, limits.tasks_in_flight), (Some(7), Some(4)));
        assert_eq!((limits.streams.concurrent_requests, limits.polls), (Some(3), Rule::default()));
        assert_eq!(limits.models[..], ["wan*"]);
        let text = String::from(own.clone());
        assert_eq!(
            text,
            r#"{"models":["wan*"],"requests_per_second":2,"streams":{"concurrent_requests":3}}"#
        );
        assert_eq!(text.parse::<KeyLimits>().ok(), Some(own));
        assert!(check(json!({"polls": {}})).is_ok_and(|none| none.is_empty()));
    }

    #[test]
    fn faults_name_the_limit() {
        for (wrong, expected) in [
            (json!({"concurrent_requests": "many"}), "limits.concurrent_requests: must be"),
            (json!({"concurrent_requests": 0}), "limits.concurrent_requests: "),
            (json!({"burst": 3}), "limits.burst: is the burst of no rate"),
            (json!({"colour": 1}), "limits.colour: "),
            (json!({"polls": {"tasks_in_flight": 1}}), "limits.polls.tasks_in_flight: "),
            (json!({"models": []}), "limits.models: is empty"),
        ] {
            let faults = check(wrong).expect_err(expected);
            assert!(faults[0].starts_with(expected), "{faults:?}");
        }
        for wrong in ["", "[]", "1", "{\"burst\":3}"] {
            assert!(wrong.parse::<KeyLimits>().is_err(), "{wrong}");
        }
    }
}

//! Settings of a tenant on the command line: `KEY=VALUE`, as a file would have them in `[[tenants]]`.

use serde_json::{Map, Value};

use super::admin_client::{AdminFailure, misused};

/// Puts settings together. A key with dots names a table's key: `limits.requests_per_second=10`. A value is JSON, or else
/// a text.
///
/// # Errors
/// A setting without `=`, or one in a table that another one says is none.
pub(super) fn read(written: &[String]) -> Result<Map<String, Value>, AdminFailure> {
    let mut settings = Map::new();
    for setting in written {
        let (path, value) = setting
            .split_once('=')
            .filter(|(path, _)| !path.is_empty())
            .ok_or_else(|| misused("a setting is KEY=VALUE, like limits.requests_per_second=10"))?;
        let value = serde_json::from_str(value).unwrap_or_else(|_| value.into());
        let mut table = &mut settings;
        let mut keys: Vec<&str> = path.split('.').collect();
        let last = keys.pop().unwrap_or_default();
        for key in keys {
            let inner = table.entry(key).or_insert_with(|| Map::new().into());
            let problem = || misused(&format!("{path} is in no table: {key} has a value of its own"));
            table = inner.as_object_mut().ok_or_else(problem)?;
        }
        table.insert(last.to_owned(), value);
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn settings_are_read_as_json_or_text() {
        let written = [
            "models=[\"wan*\"]",
            "limits.requests_per_second=10",
            "limits.polls.requests_per_second=2.5",
            "prices=default",
            "enabled=false",
            "async_header=null",
        ];
        let read = read(&written.map(str::to_owned)).ok().map(Value::Object);
        let expected = json!({
            "models": ["wan*"], "prices": "default", "enabled": false, "async_header": null,
            "limits": {"requests_per_second": 10, "polls": {"requests_per_second": 2.5}},
        });
        assert_eq!(read, Some(expected));
        for wrong in [&["models"][..], &["=1"], &["limits=1", "limits.burst=2"]] {
            assert!(super::read(&wrong.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>()).is_err());
        }
    }
}

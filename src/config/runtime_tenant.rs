//! A tenant that is made at run time: the keys of `[[tenants]]` as JSON, under the same check as those of a file.

use std::path::Path;
use std::time::SystemTime;

use serde_json::{Map, Value};
use toml::de::DeTable;

use super::fault::Fault;
use super::files::Files;
use super::node::Table;
use super::reader::ConfigReader;
use super::{Config, TenantSettings, file, tenants};

/// Checks a tenant by the accounts and the prices of a configuration. A key that is null is left out. Neither the
/// environment nor any file is read.
///
/// # Errors
/// All faults, each with the path of its key.
pub fn check_tenant(
    config: &Config,
    name: &str,
    settings: &Map<String, Value>,
) -> Result<TenantSettings, Vec<Fault>> {
    let mut faults = Vec::new();
    for (key, hint) in REFUSED {
        if settings.contains_key(key) {
            faults.push(Fault::elsewhere(key, "is for tenants of the file alone", hint));
        }
    }
    settings.iter().for_each(|(key, value)| refuse_files(key, key, value, &mut faults));
    if !faults.is_empty() {
        return Err(faults);
    }
    let mut text = "tenants = [{ name = ".to_owned();
    write(&name.into(), &mut text);
    for (key, value) in settings.iter().filter(|(key, value)| *key != "name" && !value.is_null()) {
        text.push_str(", ");
        write(&key.as_str().into(), &mut text);
        text.push_str(" = ");
        write(value, &mut text);
    }
    text.push_str(" }]\n");
    let (tree, errors) = DeTable::parse_recoverable(&text);
    let reader = ConfigReader::new(&text, Path::new(""), &|_| None, &errors, Files::default());
    let written = file::read_tenant(Table::root(&reader, tree.get_ref()));
    let checked =
        written.and_then(|written| tenants::check_one(&reader, &written, config, SystemTime::now()));
    let (mut faults, _) = reader.finish();
    if checked
        .as_ref()
        .is_some_and(|tenant| tenant.webhooks.endpoints.iter().any(|endpoint| endpoint.is_private))
    {
        let hint = "put the tenant into the configuration's file";
        faults.push(Fault::elsewhere("webhooks", "has an endpoint that is private", hint));
    }
    match checked {
        Some(checked) if faults.is_empty() => Ok(checked),
        Some(_) | None => Err(faults.into_iter().map(placed).collect()),
    }
}

/// The fault with a path that begins at the tenant. There is no text for a position.
fn placed(fault: Fault) -> Fault {
    let path = fault.path.strip_prefix("tenants[0]").unwrap_or(&fault.path);
    Fault { position: None, path: path.trim_start_matches('.').to_owned(), ..fault }
}

/// Refuses keys that name a file: whoever may call the API need not be allowed to read the gateway's files.
fn refuse_files(path: &str, key: &str, value: &Value, faults: &mut Vec<Fault>) {
    if key.ends_with("_file") {
        let hint = "write the value itself, or put the tenant into the configuration's file";
        faults.push(Fault::elsewhere(path, "names a file", hint));
    }
    match value {
        Value::Object(inner) => {
            inner.iter().for_each(|(key, value)| refuse_files(&format!("{path}.{key}"), key, value, faults));
        }
        Value::Array(items) => {
            for (number, item) in items.iter().enumerate() {
                refuse_files(&format!("{path}[{number}]"), "", item, faults);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Writes JSON as TOML on one line. TOML has no null: its place stays empty, which is a fault.
pub(super) fn write(value: &Value, into: &mut String) {
    match value {
        Value::Null => {}
        // TOML escapes texts as JSON does, and also the one character behind `~`.
        Value::String(_) => into.push_str(&value.to_string().replace('\u{7f}', "\\u007f")),
        Value::Bool(_) | Value::Number(_) => into.push_str(&value.to_string()),
        Value::Array(items) => {
            into.push('[');
            for (number, item) in items.iter().enumerate() {
                into.push_str(if number > 0 { ", " } else { "" });
                write(item, into);
            }
            into.push(']');
        }
        Value::Object(inner) => {
            into.push_str("{ ");
            for (number, (key, value)) in inner.iter().enumerate() {
                into.push_str(if number > 0 { ", " } else { "" });
                write(&key.as_str().into(), into);
                into.push_str(" = ");
                write(value, into);
            }
            into.push_str(" }");
        }
    }
}

/// Keys of `[[tenants]]` that only a file may have, each with what to do instead.
const REFUSED: [(&str, &str); 3] = [
    ("keys", "make its keys with `dashgate keys create`"),
    ("renamed_from", "rename tenants in the configuration's file"),
    ("client_certificates", "put the tenant into the configuration's file"),
];

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn config() -> Config {
        let text = r#"
            accounts = [{ name = "main", base_url = "https://h", keys = ["sk-upstream-1"] }]
            tenants = [{ name = "one", keys = [{ id = "k", key = "0123456789abcdef" }] }]
            [[prices]]
            list = "default"
            models = ["*"]
            unit = "image"
            price = "1""#;
        Config::parse(text, Path::new(""), &|_| None).expect("a configuration").config
    }

    fn check(settings: Value) -> Result<TenantSettings, Vec<(String, String)>> {
        let Value::Object(settings) = settings else { panic!("an object") };
        check_tenant(&config(), "two", &settings)
            .map_err(|faults| faults.into_iter().map(|fault| (fault.path, fault.problem)).collect())
    }

    #[test]
    fn json_is_checked_as_a_file_is() {
        let checked = check(json!({
            "accounts": ["main"], "models": ["wan\u{7f}\"2.7*"], "enabled": false, "prices": "default",
            "limits": {"requests_per_second": 2.5, "polls": {"requests_per_second": 30}},
            "budgets": [{"amount": "5", "period": "month"}], "async_header": null,
        }));
        let checked = checked.expect("a tenant");
        assert_eq!((&*checked.name, checked.enabled), ("two", false));
        assert_eq!(checked.models, ["wan\u{7f}\"2.7*"]);
        assert!(checked.billing.has_limit());
        assert_eq!(check(json!({})).expect("a tenant").accounts, [0]);
    }

    #[test]
    fn faults_name_the_key() {
        let faults = check(json!({
            "accounts": ["other"], "limits": {"requests_per_second": -1}, "colour": "red", "prices": 7,
        }));
        let paths: Vec<String> = faults.expect_err("faults").into_iter().map(|(path, _)| path).collect();
        for path in ["accounts[0]", "limits.requests_per_second", "colour", "prices"] {
            assert!(paths.contains(&path.to_owned()), "{path}: {paths:?}");
        }
        assert!(check(json!({"models": [null]})).is_err());
    }

    #[test]
    fn no_file_and_no_variable_is_read() {
        for settings in [
            json!({"keys": [{"id": "k", "key_file": "/etc/passwd"}]}),
            json!({"webhooks": [{"secrets_file": "/etc/passwd"}]}),
            json!({"async_header": "${HOME}"}),
            json!({"renamed_from": "one"}),
            json!({"client_certificates": ["CN=a"]}),
        ] {
            assert!(check(settings.clone()).is_err(), "{settings}");
        }
    }
}

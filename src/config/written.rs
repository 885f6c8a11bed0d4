//! A file as operators may see it: what stands in it, with variables not replaced, and without secrets.

use serde_json::{Map, Value, json};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::reader::ConfigReader;
use super::secret::may_be_shown;

/// The tables of a file that was read. A value that was read as a secret, or that looks like one, is `***`. Of an array
/// the first hundred items are there, and then an object with the number of the others, as `more`.
pub(super) fn written(reader: &ConfigReader<'_>, tables: &DeTable<'_>) -> Value {
    let mut secrets = reader.secrets.take();
    secrets.sort_unstable();
    table(&secrets, tables)
}

fn table(secrets: &[usize], entries: &DeTable<'_>) -> Value {
    let shown = |name: &str| if may_be_shown(name) { name.to_owned() } else { HIDDEN.to_owned() };
    let entries = entries.iter().map(|(name, entry)| (shown(name.get_ref()), value(secrets, entry)));
    Value::Object(entries.collect::<Map<_, _>>())
}

fn value(secrets: &[usize], value: &Spanned<DeValue<'_>>) -> Value {
    if secrets.binary_search(&value.span().start).is_ok() {
        return HIDDEN.into();
    }
    match value.get_ref() {
        // The query of a URL may be a secret, however short.
        DeValue::String(text) if may_be_shown(text) => match text.split_once('?') {
            Some((before, _)) if before.contains("://") => format!("{before}?{HIDDEN}").into(),
            Some(_) | None => Value::from(&**text),
        },
        DeValue::String(_) => HIDDEN.into(),
        DeValue::Integer(integer) => {
            let number = i64::from_str_radix(integer.as_str(), integer.radix());
            number.map_or_else(|_| integer.as_str().into(), Value::from)
        }
        DeValue::Float(float) => {
            let number = float.as_str().parse::<f64>();
            number.map_or_else(|_| float.as_str().into(), Value::from)
        }
        DeValue::Boolean(yes) => (*yes).into(),
        DeValue::Datetime(moment) => moment.to_string().into(),
        DeValue::Array(items) => {
            let mut shown: Vec<Value> =
                items.iter().take(MOST_ITEMS).map(|item| self::value(secrets, item)).collect();
            if items.len() > MOST_ITEMS {
                shown.push(json!({ "more": items.len() - MOST_ITEMS }));
            }
            shown.into()
        }
        DeValue::Table(entries) => table(secrets, entries),
    }
}

const HIDDEN: &str = "***";
/// Items of an array that are shown, so that a file with a million keys takes no memory twice.
const MOST_ITEMS: usize = 100;

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Config;

    fn shown(text: &str) -> Value {
        let environment =
            |name: &str| name.starts_with("SECRET").then(|| "environment-0123456789".to_owned());
        Config::parse(text, Path::new("."), &environment).expect("a configuration").written
    }

    const FILE: &str = r#"
        admin = { token = "operators-word-only" }
        store = { url = "postgres://gate:passphrase@db/gate?sslmode=disable" }
        server = { listen = "${LISTEN:-127.0.0.1:8080}", workers = 2 }
        accounts = [
            { name = "main", base_url = "https://h", keys = ["sk-upstream", "${SECRET_KEY}"], proxy = "http://u:passphrase@p:1" },
        ]
        tenants = [
            { name = "one", keys = [{ id = "k", key = "plain-words-alone" }], weight = 3 },
            { name = "two", keys = [{ id = "l", sha256 = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef" }] },
        ]"#;

    #[test]
    fn a_file_is_shown_as_written_without_its_secrets() {
        let shown = shown(FILE);
        let text = shown.to_string();
        for secret in [
            "operators-word",
            "passphrase",
            "sk-upstream",
            "environment-0123",
            "plain-words",
            "0123456789abcdef",
        ] {
            assert!(!text.contains(secret), "{secret}: {text}");
        }
        assert_eq!(shown["server"], json!({ "listen": "${LISTEN:-127.0.0.1:8080}", "workers": 2 }));
        assert_eq!(shown["accounts"][0]["keys"], json!(["***", "***"]));
        assert_eq!(
            shown["tenants"][0],
            json!({ "name": "one", "keys": [{ "id": "k", "key": "***" }], "weight": 3 })
        );
        assert_eq!(shown["tenants"][1]["keys"][0]["sha256"], "***");
    }

    #[test]
    fn a_long_list_is_shown_in_part() {
        let keys: String =
            (0..250).map(|at| format!("{{ id = \"k-{at}\", key = \"plain-words-alone-{at}\" }},")).collect();
        let file = format!(
            "accounts = [{{ name = \"main\", base_url = \"https://h\", keys = [\"sk-1\"] }}]\n\
             tenants = [{{ name = \"one\", keys = [{keys}] }}]"
        );
        let shown = shown(&file);
        let keys = shown["tenants"][0]["keys"].as_array().expect("keys");
        assert_eq!((keys.len(), &keys[100]), (101, &json!({ "more": 150 })));
    }
}

//! The schema for editors, the example and the configuration reader agree: each key of one is a key of the other two,
//! the reader refuses every document that the schema refuses, and both refuse wrong types and ranges.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use dashgate::config::{Config, Fault};
use jsonschema::Validator;
use serde_json::{Value, json};

use super::schema_places::{
    PathStep, SchemaPlace, below_the_root, is_list_of_strings, places, pointer, probes, with, words, written,
};
use super::tools::root;

#[test]
fn the_reader_and_the_schema_know_the_same_keys() {
    let schema = schema();
    let tables = places(&schema).into_iter().filter(|place| place.properties.is_some());
    let mut checked = 0;
    for place in tables {
        let mut path = place.path.clone();
        path.push(PathStep::Key(UNKNOWN.to_owned()));
        let document = with(&path, json!(1));
        let faults = read(&document).expect_err("an unknown key is a fault");
        let hint = faults.iter().find(|fault| fault.path == written(&path)).map(|fault| fault.hint.as_str());
        let known = hint.and_then(|hint| hint.strip_prefix("known here: "));
        let known = known.unwrap_or_else(|| panic!("{}: {hint:?} in {faults:?}", written(&place.path)));
        let listed: BTreeSet<&str> = place.properties.iter().flatten().map(String::as_str).collect();
        let is_key = |key: &&str| listed.contains(key) || !is_always_refused(&place.path, key);
        let known: BTreeSet<&str> = known.split(", ").filter(is_key).collect();
        assert_eq!(known, listed, "in {:?}: what the reader knows, and what the schema has", place.pattern());
        checked += 1;
    }
    assert!(checked >= 20, "tables checked: {checked}");
}

#[test]
fn the_schema_refuses_nothing_that_the_reader_takes() {
    let (schema, validator) = (schema(), validator());
    let (mut taken, mut refused) = (0, 0);
    for place in below_the_root(&schema) {
        for probe in probes(&place.schema) {
            let document = with(&place.path, probe.clone());
            let valid = validator.is_valid(&document);
            match read(&document) {
                Ok(()) => {
                    let errors: Vec<String> =
                        validator.iter_errors(&document).map(|e| e.to_string()).collect();
                    assert!(valid, "{} = {probe} is fine, but: {errors:?}", written(&place.path));
                    taken += 1;
                }
                Err(faults) => {
                    let may_pass = probe.is_string() || probe.is_object() || is_list_of_strings(&probe);
                    assert!(
                        !valid || may_pass,
                        "{} = {probe} passes the schema, but: {faults:?}",
                        written(&place.path)
                    );
                    refused += 1;
                }
            }
        }
    }
    assert!(taken > 200 && refused > 1000, "taken: {taken}, refused: {refused}");
}

#[test]
fn each_word_that_the_schema_offers_is_one_of_the_reader_s_and_the_other_way_round() {
    let schema = schema();
    let mut checked = 0;
    for place in below_the_root(&schema) {
        let offered: BTreeSet<&str> = words(&place.schema).into_iter().collect();
        let Err(faults) = read(&with(&place.path, json!("no such word"))) else { continue };
        let at = written(&place.path);
        let said = faults.iter().find(|fault| fault.path == at).map_or("", |fault| fault.problem.as_str());
        let Some(list) = said.strip_prefix("must be one of ") else { continue };
        let known: BTreeSet<&str> = list.split(", ").map(|word| word.trim_matches('"')).collect();
        assert_eq!(offered, known, "{at}: what the schema offers, and what the reader knows");
        checked += 1;
    }
    assert!(checked >= 4, "lists of words: {checked}");
}

#[test]
fn the_example_validates_and_shows_every_key_with_its_default() {
    let (schema, validator) = (schema(), validator());
    let text = fs::read_to_string(root().join("deploy/dashgate.example.toml")).expect("the example");
    let shown = all_keys_of(&text);
    for text in [&text, &shown] {
        let errors: Vec<String> =
            validator.iter_errors(&json_of(text)).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{errors:?}\n{text}");
    }
    assert!(shown.contains("\nlimits.burst"), "the keys that may be left out are shown as '# key ='");
    let document = json_of(&shown);
    let mut keys = BTreeSet::new();
    note_keys(&document, "", &mut keys);
    let places = places(&schema);
    let mut compared = 0;
    for place in &places {
        let Some(PathStep::Key(key)) = place.path.last() else { continue };
        let table =
            places.iter().find(|table| table.path == place.path[..place.path.len() - 1]).expect("a table");
        let is_shown = |other: &SchemaPlace| {
            other.properties == table.properties && keys.contains(&in_table(&other.pattern(), key))
        };
        let is_in_comment = table.has_alternative(key) && text.contains(&format!("{key} = "));
        assert!(places.iter().any(is_shown) || is_in_comment, "{} is not in the example", place.pattern());
        let value = document.pointer(&pointer(&place.path));
        if let (Some(default), Some(value)) = (place.schema.get("default"), value)
            && !EXAMPLES.contains(&written(&place.path).as_str())
        {
            assert_eq!(default, value, "{}: the schema's default and the example's", written(&place.path));
            compared += 1;
        }
    }
    assert!(compared >= 15, "defaults compared: {compared}");
}

#[test]
fn what_is_wrong_is_wrong_for_both() {
    let validator = validator();
    let of =
        |account, tenant, rest| format!("accounts = [{{ {account} }}]\ntenants = [{{ {tenant} }}]\n{rest}");
    let right = json_of(&of(ACCOUNT, TENANT, ""));
    assert!(validator.is_valid(&right) && read(&right).is_ok(), "{right}");
    let lacking =
        [json!({}), json!({ "accounts": right["accounts"] }), json!({ "tenants": right["tenants"] })];
    let wrong = WRONG.iter().map(|(account, tenant, rest)| json_of(&of(account, tenant, rest)));
    for document in wrong.chain(lacking) {
        assert!(read(&document).is_err(), "the reader takes {document}");
        assert!(!validator.is_valid(&document), "the schema takes {document}");
    }
}

/// True if the reader knows the key only to refuse it: the fault is the same for every type of value.
fn is_always_refused(table: &[PathStep], key: &str) -> bool {
    let path = [table, &[PathStep::Key(key.to_owned())]].concat();
    let problems = [json!(1), json!("x"), json!({}), json!([])].map(|value| {
        let faults = read(&with(&path, value)).err().unwrap_or_default();
        faults.into_iter().find(|fault| fault.path == written(&path)).map(|fault| fault.problem)
    });
    problems[0].is_some() && problems.iter().all(|problem| *problem == problems[0])
}

/// Notes every key of a document by its pattern, as in `tenants.keys.id`.
fn note_keys(document: &Value, table: &str, keys: &mut BTreeSet<String>) {
    for (key, value) in document.as_object().into_iter().flatten() {
        let pattern = in_table(table, key);
        note_keys(value, &pattern, keys);
        value.as_array().into_iter().flatten().for_each(|item| note_keys(item, &pattern, keys));
        keys.insert(pattern);
    }
}

fn in_table(table: &str, key: &str) -> String {
    if table.is_empty() { key.to_owned() } else { format!("{table}.{key}") }
}

/// The result of the configuration reader.
fn read(document: &Value) -> Result<(), Vec<Fault>> {
    let text = toml::to_string(document).unwrap_or_else(|error| panic!("{document}: {error}"));
    let environment = |name: &str| (name == "PATH").then(|| "/bin".to_owned());
    Config::parse(&text, Path::new("/nonexistent"), &environment).map(|_| ())
}

/// The JSON value of a TOML file, as editors compare it with a schema: a date becomes a text.
fn json_of(text: &str) -> Value {
    fn json(value: toml::Value) -> Value {
        match value {
            toml::Value::String(text) => text.into(),
            toml::Value::Integer(number) => number.into(),
            toml::Value::Float(number) => number.into(),
            toml::Value::Boolean(truth) => truth.into(),
            toml::Value::Datetime(moment) => moment.to_string().into(),
            toml::Value::Array(items) => items.into_iter().map(json).collect(),
            toml::Value::Table(entries) => {
                entries.into_iter().map(|(key, value)| (key, json(value))).collect()
            }
        }
    }
    json(toml::from_str(text).unwrap_or_else(|error| panic!("{error}\n{text}")))
}

/// The example with the keys that may be left out, which are its lines `# key = ...`.
fn all_keys_of(example: &str) -> String {
    let is_key = |rest: &str| {
        let name = rest.split(" = ").next().unwrap_or_default();
        rest.contains(" = ")
            && !name.is_empty()
            && name.bytes().all(|b| b.is_ascii_lowercase() || b"._".contains(&b))
    };
    let lines = example.lines().map(|line| match line.strip_prefix("# ") {
        Some(rest) if is_key(rest) => rest,
        Some(_) | None => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn schema() -> Value {
    let path = root().join("deploy/dashgate.schema.json");
    serde_json::from_str(&fs::read_to_string(path).expect("the schema")).expect("JSON")
}

fn validator() -> Validator {
    jsonschema::draft7::new(&schema()).expect("a schema of draft 7")
}

const UNKNOWN: &str = "qqqqqqqqqq";
/// Keys that the example shows with another value than the default.
const EXAMPLES: [&str; 2] = ["mounts[0].poll.hold", "tenants[0].price_factor"];

const ACCOUNT: &str = "name = \"a\", base_url = \"https://h\", keys = [\"k\"]";
const TENANT: &str = "name = \"t\"";

/// Lines of an account, a tenant and the rest of a file, each with one fault.
const WRONG: [(&str, &str, &str); 23] = [
    ("base_url = \"https://h\", keys = [\"k\"]", TENANT, ""),
    ("name = \"a b\", base_url = \"https://h\", keys = [\"k\"]", TENANT, ""),
    ("name = \"a\", base_url = \"h\", keys = [\"k\"]", TENANT, ""),
    ("name = \"a\", base_url = \"https://h/\", keys = [\"k\"]", TENANT, ""),
    ("name = \"a\", base_url = \"https://h\"", TENANT, ""),
    ("name = \"a\", base_url = \"https://h\", keys = []", TENANT, ""),
    ("name = \"a\", base_url = \"https://h\", keys = [\"k\"], key_file = \"f\"", TENANT, ""),
    ("name = \"a\", base_url = \"https://h\", keys = [\"k\"], pace = [{ models = [\"*\"] }]", TENANT, ""),
    (ACCOUNT, "keys = []", ""),
    (ACCOUNT, "name = \"t\", limits = { burst = 5 }", ""),
    (ACCOUNT, "name = \"t\", keys = [{ id = \"k\" }]", ""),
    (ACCOUNT, "name = \"t\", keys = [{ id = \"k\", sha256 = \"abc\" }]", ""),
    (ACCOUNT, "name = \"t\", keys = [{ id = \"k\", key = \"0123456789abcdef\", expires = \"soon\" }]", ""),
    (ACCOUNT, "name = \"t\", allow = [\"all\"]", ""),
    (ACCOUNT, TENANT, "server = { port = 1 }"),
    (ACCOUNT, TENANT, "server = { listen = \":8080\" }"),
    (ACCOUNT, TENANT, "server = { timeouts = { idle = 10 } }"),
    (ACCOUNT, TENANT, "admin = { token = \"x\", key_file = \"f\" }"),
    (ACCOUNT, TENANT, "store = { url = \"mysql://me@db/db\" }"),
    (ACCOUNT, TENANT, "store = { password_file = \"/dev/null\" }"),
    (ACCOUNT, TENANT, "store = { refuse_stale_keys_after = \"1h\" }"),
    (ACCOUNT, TENANT, "mounts = [{ prefix = \"wan\" }]"),
    (ACCOUNT, TENANT, "mounts = [{ prefix = \"/\", dialect = \"other\" }]"),
];

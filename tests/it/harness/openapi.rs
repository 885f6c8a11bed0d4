//! Checks answers of the admin listener against its OpenAPI document.

use std::collections::BTreeSet;
use std::sync::{Mutex, OnceLock};

use serde_json::{Value, json};

use super::Message;

/// The document, as it is built in.
pub(crate) fn document() -> &'static Value {
    static DOCUMENT: OnceLock<Value> = OnceLock::new();
    let text = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/admin/openapi.json"));
    DOCUMENT.get_or_init(|| serde_json::from_str(text).expect("JSON"))
}

/// Every operation of the document with each of its statuses, like `GET /livez 200`.
pub(crate) fn documented() -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for (path, item) in document()["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("operations") {
            let statuses = operation["responses"].as_object().expect("answers").keys();
            all.extend(statuses.map(|status| format!("{} {path} {status}", method.to_uppercase())));
        }
    }
    all
}

/// Documented operations and statuses that were seen in this process.
static SEEN: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

pub(crate) fn seen() -> BTreeSet<String> {
    SEEN.lock().expect("no panic").clone()
}

/// Checks an answer, and an accepted request body, against the document.
#[track_caller]
pub(crate) fn check(request_line: &str, body: &str, answer: &Message) {
    let (method, target) = request_line.split_once(' ').expect("a request line");
    let path = target.split('?').next().unwrap_or_default();
    let shown = || format!("{request_line} {body}\n{}{}", answer.head, answer.text());
    let paths = document()["paths"].as_object().expect("paths");
    let found = paths.iter().find(|(template, _)| fits(template, path));
    let operation = found.map(|(template, item)| (template, &item[method.to_ascii_lowercase().as_str()]));
    let Some((template, operation)) = operation.filter(|(_, operation)| operation.is_object()) else {
        assert!(matches!(answer.status(), 401 | 403 | 404 | 405), "{}", shown());
        return hold(&json!({ "$ref": "#/components/schemas/Error" }), &answer.json(), &shown());
    };
    let response = resolve(&operation["responses"][answer.status().to_string()]);
    assert!(response.is_object(), "the status is not documented: {}", shown());
    let (kind, content) = response["content"].as_object().expect("content").iter().next().expect("a kind");
    let given = answer.field("content-type").unwrap_or_default();
    assert_eq!(given.split(';').next(), Some(kind.as_str()), "{}", shown());
    let value = if kind == "application/json" { answer.json() } else { Value::from(answer.text()) };
    hold(&content["schema"], &value, &shown());
    for (name, header) in response["headers"].as_object().into_iter().flatten() {
        let given = answer.field(&name.to_ascii_lowercase());
        hold(&header["schema"], &given.map_or(Value::Null, Value::from), &shown());
    }
    if answer.status() < 300 && !body.is_empty() && operation["requestBody"].is_object() {
        let taken = serde_json::from_str(body).expect("JSON was taken");
        hold(&operation["requestBody"]["content"]["application/json"]["schema"], &taken, &shown());
    }
    SEEN.lock().expect("no panic").insert(format!("{method} {template} {}", answer.status()));
}

fn fits(template: &str, path: &str) -> bool {
    let (template, path): (Vec<_>, Vec<_>) = (template.split('/').collect(), path.split('/').collect());
    let alike = |(written, given): (&&str, &&str)| written.starts_with('{') || written == given;
    template.len() == path.len() && template.iter().zip(&path).all(alike)
}

fn resolve(value: &'static Value) -> &'static Value {
    match value["$ref"].as_str() {
        Some(reference) => document().pointer(&reference[1..]).expect("what is referred to"),
        None => value,
    }
}

#[track_caller]
fn hold(schema: &Value, value: &Value, shown: &str) {
    let mut whole = schema.clone();
    whole["components"] = document()["components"].clone();
    let validator = jsonschema::options()
        .should_validate_formats(true)
        .build(&whole)
        .unwrap_or_else(|error| panic!("{error} in the document's {schema}"));
    let problems: Vec<_> = validator.iter_errors(value).map(|error| error.to_string()).collect();
    assert!(problems.is_empty(), "{problems:#?} for {shown}");
}

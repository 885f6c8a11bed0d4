//! Every place in a configuration that the schema describes, and documents with something at such a place.

use serde_json::{Value, json};

/// A place in a configuration that the schema describes.
pub(crate) struct SchemaPlace {
    pub(crate) path: Vec<PathStep>,
    pub(crate) schema: Value,
    /// Keys of the table, if the place is one.
    pub(crate) properties: Option<Vec<String>>,
}

#[derive(Clone, PartialEq)]
pub(crate) enum PathStep {
    Key(String),
    First,
}

impl SchemaPlace {
    /// The path without indices, as in `tenants.keys`.
    pub(crate) fn pattern(&self) -> String {
        written(&self.path).replace("[0]", "")
    }

    /// True if a rule of the table, beside its properties, names the key: this key and another one exclude each other,
    /// or the table stands for a text.
    pub(crate) fn has_alternative(&self, key: &str) -> bool {
        let rules = ["not", "oneOf", "anyOf", "allOf"].map(|rule| self.schema[rule].to_string());
        rules.iter().any(|rule| rule.contains(&format!("\"{key}\"")))
    }
}

/// The path as the reader writes it, like `tenants[0].keys[0].id`.
pub(crate) fn written(path: &[PathStep]) -> String {
    let steps = path.iter().map(|step| match step {
        PathStep::Key(key) => format!(".{key}"),
        PathStep::First => "[0]".to_owned(),
    });
    steps.collect::<String>().trim_start_matches('.').to_owned()
}

pub(crate) fn pointer(path: &[PathStep]) -> String {
    let steps = path.iter().map(|step| match step {
        PathStep::Key(key) => format!("/{key}"),
        PathStep::First => "/0".to_owned(),
    });
    steps.collect()
}

/// Every table, list, item and value, from the root on.
pub(crate) fn places(schema: &Value) -> Vec<SchemaPlace> {
    let mut found = Vec::new();
    let mut waiting = vec![(Vec::new(), schema.clone())];
    while let Some((path, node)) = waiting.pop() {
        let mut node = flat(&node, schema);
        let choices = node.get("anyOf").and_then(Value::as_array).cloned().unwrap_or_default();
        // A secret is a text or a table.
        if let Some(table) =
            choices.iter().map(|one| flat(one, schema)).find(|one| one.get("properties").is_some())
        {
            node["properties"] = table["properties"].clone();
        }
        let properties = node.get("properties").and_then(Value::as_object);
        for (key, inner) in properties.into_iter().flatten() {
            let mut path = path.clone();
            path.push(PathStep::Key(key.clone()));
            waiting.push((path, inner.clone()));
        }
        if let Some(items) = node.get("items") {
            let mut path = path.clone();
            path.push(PathStep::First);
            waiting.push((path, items.clone()));
        }
        let properties = properties.map(|properties| properties.keys().cloned().collect());
        found.push(SchemaPlace { path, schema: node.clone(), properties });
    }
    found
}

/// Every place but the root, which is always a table.
pub(crate) fn below_the_root(schema: &Value) -> Vec<SchemaPlace> {
    places(schema).into_iter().filter(|place| !place.path.is_empty()).collect()
}

/// The node with its reference replaced by the definition behind it.
fn flat(node: &Value, schema: &Value) -> Value {
    let mut node = node.clone();
    let inner = node.get("allOf").map(|all| all[0].clone());
    let reference = inner.as_ref().unwrap_or(&node).get("$ref").and_then(Value::as_str);
    let Some(name) = reference.and_then(|text| text.strip_prefix("#/definitions/")) else { return node };
    let definition =
        schema["definitions"][name].as_object().unwrap_or_else(|| panic!("no definition {name}"));
    for (key, value) in definition {
        if node.get(key).is_none() {
            node[key] = value.clone();
        }
    }
    node
}

pub(crate) fn words(schema: &Value) -> Vec<&str> {
    let choices = schema["anyOf"].as_array().into_iter().flatten();
    choices.filter_map(|one| one["enum"].as_array()).flatten().filter_map(Value::as_str).collect()
}

/// Values of every type, those next to the schema's bounds, and texts that mean something somewhere.
pub(crate) fn probes(schema: &Value) -> Vec<Value> {
    let mut probes: Vec<Value> = [
        "true",
        "0",
        "1",
        "-1",
        "1.5",
        "\"\"",
        "\"10\"",
        "\"10s\"",
        "\"1m 30s\"",
        "\"x y\"",
        "\"main\"",
        "\"[::1]:80\"",
        "\"0.0.0.0:0\"",
        "\"0.0.0.0\"",
        "\"/\"",
        "\"/wan\"",
        "\"/wan/\"",
        "\"https://h/x\"",
        "\"ftp://h\"",
        "\"720P\"",
        "\"unlimited\"",
        "\"2030-01-01T00:00:00Z\"",
        "\"${PATH}\"",
        "\"${NOPE:-10s}\"",
        "\"${NOPE:-main}\"",
        "\"0123456789abcdef\"",
        "[]",
        "[true]",
        "[\"main\"]",
        "[\"\"]",
        "{}",
        "[{}]",
        "[1]",
    ]
    .iter()
    .map(|text| serde_json::from_str(text).expect("JSON"))
    .collect();
    probes.push(json!("0f".repeat(32)));
    probes.push(json!("n".repeat(64)));
    probes.push(json!("n".repeat(65)));
    probes.extend(words(schema).into_iter().map(Value::from));
    let numbers = schema["anyOf"].as_array().cloned().unwrap_or_default().into_iter().chain([schema.clone()]);
    for bound in numbers.flat_map(|one| [one["minimum"].clone(), one["maximum"].clone()]) {
        if let Some(whole) = bound.as_i64() {
            probes.extend([json!(whole - 1), json!(whole), json!(whole + 1)]);
        } else if let Some(number) = bound.as_f64() {
            probes.extend([json!(number / 2.0), json!(number), json!(number * 2.0)]);
        }
    }
    probes
}

pub(crate) fn is_list_of_strings(value: &Value) -> bool {
    value.as_array().is_some_and(|items| !items.is_empty() && items.iter().all(Value::is_string))
}

/// The smallest valid configuration, with the value at the path.
pub(crate) fn with(path: &[PathStep], value: Value) -> Value {
    let mut document = minimal();
    let mut at = &mut document;
    for step in path {
        at = match step {
            PathStep::Key(key) => {
                if !at.is_object() {
                    *at = json!({});
                }
                &mut at[key]
            }
            PathStep::First => {
                if at.as_array().is_none_or(Vec::is_empty) {
                    *at = json!([null]);
                }
                &mut at[0]
            }
        };
    }
    *at = value;
    document
}

pub(crate) fn minimal() -> Value {
    json!({
        "accounts": [{ "name": "main", "base_url": "https://h", "keys": ["sk-1"] }],
        "tenants": [{ "name": "t", "keys": [{ "id": "k", "key": "0123456789abcdef" }] }],
    })
}

//! JSON in the documents: answers to the commands before them, refusals, and payloads of webhooks.

use dashgate::config::EventType;
use serde_json::Value;
use strum::VariantArray;

use super::blocks::{Block, unmarked};
use super::world::World;
use crate::harness::{client, message};

/// The JSON of a block.
pub(super) fn parse(block: &Block) -> Value {
    serde_json::from_str(&block.text).unwrap_or_else(|error| panic!("{}: {error}", block.place()))
}

/// The last JSON object or array of an output, which may have other text before it.
pub(super) fn last_json(output: &str) -> Option<Value> {
    let mut last = None;
    let mut rest = output;
    while let Some(at) = rest.find(['{', '[']) {
        let mut values = serde_json::Deserializer::from_str(&rest[at..]).into_iter::<Value>();
        let length = match values.next() {
            Some(Ok(value)) => {
                last = Some(value);
                values.byte_offset()
            }
            Some(Err(_)) | None => 1,
        };
        rest = &rest[at + length..];
    }
    last
}

/// Compares an answer with the one that a page shows: it has each field that is shown, of the same kind. Values may differ,
/// and a page may leave fields out.
pub(super) fn compare(shown: &Value, answered: &Value, path: &str) -> Result<(), String> {
    match (shown, answered) {
        (Value::Object(shown), Value::Object(answered)) => shown.iter().try_for_each(|(name, shown)| {
            let path = format!("{path}.{name}");
            let answered = answered.get(name).ok_or_else(|| format!("the answer has no {path}"))?;
            compare(shown, answered, &path)
        }),
        (Value::Array(shown), Value::Array(answered)) => match (shown.first(), answered.first()) {
            (Some(shown), Some(answered)) => compare(shown, answered, &format!("{path}[0]")),
            (None, None) => Ok(()),
            (Some(_), None) | (None, Some(_)) => {
                Err(format!("{path} has {} items, and {} are shown", answered.len(), shown.len()))
            }
        },
        (Value::Null, _) | (_, Value::Null) => Ok(()),
        (shown, answered) if kind(shown) == kind(answered) => Ok(()),
        (shown, answered) => Err(format!("{path} is {answered}, and {shown} is shown")),
    }
}

/// True for the answer of a gateway that refuses a call, in each dialect.
pub(super) fn is_refusal(value: &Value) -> bool {
    value["error"].is_object() || value["code"].is_string() && value["message"].is_string()
}

const fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

#[test]
fn json_that_is_no_answer_is_a_payload_or_a_refusal() {
    let refusals = refusals();
    for block in unmarked("json").into_iter().filter(|block| !block.is_answer) {
        let (place, value) = (block.place(), parse(&block));
        if is_refusal(&value) {
            let fits = |refusal: &&Value| {
                compare(&value, refusal, "").is_ok() && compare(refusal, &value, "").is_ok()
            };
            assert!(refusals.iter().any(|refusal| fits(&refusal)), "{place}: none of {refusals:#?}");
            continue;
        }
        let is_known = EventType::VARIANTS.iter().any(|event| value["type"] == event.name());
        assert!(
            is_known && value["data"].is_object(),
            "{place}: {value} is no payload and no refusal. An answer stands right behind its command; other JSON is \
             marked"
        );
    }
}

/// The gateway's refusal in each dialect.
fn refusals() -> Vec<Value> {
    let world = World::whole();
    let calls = [
        "POST /api/v1/services/aigc/text-generation/generation",
        "POST /compatible-mode/v1/chat/completions",
        "POST /apps/anthropic/v1/messages",
    ];
    let fields = ["Authorization: Bearer sk-nobody", "Content-Type: application/json"];
    calls.map(|call| client::once(world.clients(), message(call, &fields, "{}")).json()).to_vec()
}

#[test]
fn answers_are_compared_by_their_fields() {
    let value = |text: &str| serde_json::from_str::<Value>(text).expect("JSON");
    let answered =
        last_json("x {y\n{\"a\":1}\n{\"a\": {\"b\": [{\"c\": \"d\"}]}, \"e\": 2}\n").expect("JSON");
    for good in [r#"{"a":{"b":[{"c":"x"}]}}"#, r#"{"e":7}"#, r#"{"a":null}"#] {
        assert_eq!(compare(&value(good), &answered, ""), Ok(()), "{good}");
    }
    for (bad, fault) in [
        (r#"{"a":{"b":[{"f":1}]}}"#, ".a.b[0].f"),
        (r#"{"e":"7"}"#, ".e is 2"),
        (r#"{"a":{"b":[]}}"#, "1 items"),
    ] {
        let said = compare(&value(bad), &answered, "").expect_err("a difference");
        assert!(said.contains(fault), "{said}");
    }
    assert_eq!(last_json("none"), None);
}

//! Checks common to all refusals.

use serde_json::Value;

use super::message::Message;

/// The JSON shape of an error, which depends on the call's dialect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Envelope {
    /// `{"code","message","request_id"}`
    Flat,
    /// `{"error":{"message","type","param","code"},"request_id"}`
    OpenAi,
    /// `{"type":"error","error":{"type","message"},"request_id"}`
    Anthropic,
}

/// Checks a refusal from its status to the last key of its body, and returns its message.
pub(crate) fn assert_refused(
    answer: &Message,
    status: u16,
    reason: &str,
    code: &str,
    envelope: Envelope,
) -> String {
    let shown = format!("{}{}", answer.head, answer.text());
    assert_eq!(answer.status(), status, "{shown}");
    assert_eq!(answer.field("x-dashgate-reason").as_deref(), Some(reason), "{shown}");
    assert_eq!(answer.field("content-type").as_deref(), Some("application/json"), "{shown}");
    assert!(answer.complete, "{shown}");
    let body = answer.json();
    let keys = |value: &Value| value.as_object().expect("an object").keys().cloned().collect::<Vec<_>>();
    let error = match envelope {
        Envelope::Flat => {
            assert_eq!(keys(&body), ["code", "message", "request_id"], "{shown}");
            &body
        }
        Envelope::OpenAi => {
            assert_eq!(keys(&body), ["error", "request_id"], "{shown}");
            assert_eq!(keys(&body["error"]), ["code", "message", "param", "type"], "{shown}");
            assert_eq!(body["error"]["param"], Value::Null, "{shown}");
            assert!(body["error"]["type"].is_string(), "{shown}");
            &body["error"]
        }
        Envelope::Anthropic => {
            assert_eq!(keys(&body), ["error", "request_id", "type"], "{shown}");
            assert_eq!(keys(&body["error"]), ["message", "type"], "{shown}");
            assert_eq!(body["type"], "error", "{shown}");
            &body["error"]
        }
    };
    let named = if envelope == Envelope::Anthropic { "type" } else { "code" };
    assert_eq!(error[named], code, "{shown}");
    let request_id = body["request_id"].as_str().expect("text");
    assert_eq!(request_id.len(), 36, "{shown}");
    assert_eq!(answer.field("x-request-id").as_deref(), Some(request_id), "{shown}");
    error["message"].as_str().expect("text").to_owned()
}

//! Text messages of a client on `/api-ws/v1/inference`. A message that starts a task must name a model.

use serde_json::Deserializer;

use super::strict_json::{Field, FieldFault, FieldName, read};

/// The parts of a message that matter to a tenant's list of models.
#[derive(Debug, PartialEq, Eq)]
pub struct InferenceMessage {
    /// True if the message starts a task, for which it must name a model.
    pub runs: bool,
    /// `payload.model`.
    pub model: Option<Box<str>>,
}

impl InferenceMessage {
    /// Reads a message.
    ///
    /// # Errors
    /// The field that can't be checked.
    pub fn from_slice(message: &[u8]) -> Result<Self, FieldFault> {
        // A reader that repairs broken UTF-8 might see another message.
        let text = std::str::from_utf8(message).map_err(|_| FieldFault::NotJson)?;
        let [header, payload]: [Field; 2] = read(Deserializer::from_str(text), &NAMES)?;
        let [action] = header.object("header")?;
        let [model] = payload.object("payload")?;
        let action = action.text("header.action")?;
        Ok(Self {
            runs: action.is_some_and(|action| action.eq_ignore_ascii_case("run-task")),
            model: model.text("payload.model")?,
        })
    }
}

const NAMES: [FieldName; 2] = [
    FieldName::object("header", &[FieldName::plain("action")]),
    FieldName::object("payload", &[FieldName::plain("model")]),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_and_the_action_are_found() {
        let run = r#"{"payload":{"input":{"model":"no"},"model":"cosyvoice-v2","parameters":{"model":1}},
            "header":{"task_id":"t","action":"run-task","streaming":"duplex"},"model":"no"}"#;
        assert_eq!(
            InferenceMessage::from_slice(run.as_bytes()),
            Ok(InferenceMessage { runs: true, model: Some("cosyvoice-v2".into()) })
        );
        for (message, runs) in [
            (r#"{"header":{"action":"run-task"},"payload":{}}"#, true),
            (r#"{"header":{"action":"RUN\u002dTask"}}"#, true),
            (r#"{"header":{"action":"finish-task"},"payload":{"input":{}}}"#, false),
            (r#"{"header":null,"payload":null}"#, false),
            ("{}", false),
        ] {
            assert_eq!(
                InferenceMessage::from_slice(message.as_bytes()),
                Ok(InferenceMessage { runs, model: None }),
                "{message}"
            );
        }
    }

    #[test]
    fn what_can_not_be_judged_is_refused() {
        let ambiguous = FieldFault::Ambiguous;
        let unreadable = FieldFault::Unreadable;
        for (message, fault) in [
            (r#"{"header":{},"header":{"action":"run-task"}}"#, ambiguous("header")),
            (r#"{"header":{},"Header":{"action":"run-task"}}"#, ambiguous("header")),
            (r#"{"header":{"action":"x","action":"run-task"}}"#, ambiguous("header.action")),
            (r#"{"header":{"Action":"run-task"}}"#, ambiguous("header.action")),
            (r#"{"payload":{"model":"a"},"payl\u006fad":{"model":"b"}}"#, ambiguous("payload")),
            (r#"{"payload":{"model":"a","model":"b"}}"#, ambiguous("payload.model")),
            (r#"{"payload":{"mod_el":"b"}}"#, ambiguous("payload.model")),
            (r#"{"header":"{}"}"#, unreadable("header")),
            (r#"{"header":{"action":["run-task"]}}"#, unreadable("header.action")),
            (r#"{"payload":[{"model":"b"}]}"#, unreadable("payload")),
            (r#"{"payload":{"model":{"model":"b"}}}"#, unreadable("payload.model")),
            ("", FieldFault::NotJson),
            ("[]", FieldFault::NotJson),
            ("null", FieldFault::NotJson),
            (r#""run-task""#, FieldFault::NotJson),
            (r#"{}{"header":{"action":"run-task"}}"#, FieldFault::NotJson),
        ] {
            assert_eq!(InferenceMessage::from_slice(message.as_bytes()), Err(fault), "{message}");
        }
        assert_eq!(
            InferenceMessage::from_slice(b"{\"x\":\"\xc0\xa2\"}"),
            Err(FieldFault::NotJson),
            "an overlong quote"
        );
    }
}

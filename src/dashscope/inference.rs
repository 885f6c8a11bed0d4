//! What a text message on `/api-ws/v1/inference` asks for: it may start a task, and name a model.

use serde_json::Deserializer;

use super::fields::{AskedFault, Field, Name, read};

/// A message, as far as a list of models is about it.
#[derive(Debug, PartialEq, Eq)]
pub struct Spoken {
    /// It starts a task, for which it must name a model.
    pub runs: bool,
    /// `payload.model`.
    pub model: Option<Box<str>>,
}

impl Spoken {
    /// # Errors
    /// Why it can't be judged.
    pub fn of_slice(message: &[u8]) -> Result<Self, AskedFault> {
        // What is no UTF-8 might be mended into another message.
        let text = std::str::from_utf8(message).map_err(|_| AskedFault::NotJson)?;
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

const NAMES: [Name; 2] =
    [Name::object("header", &[Name::plain("action")]), Name::object("payload", &[Name::plain("model")])];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_and_the_action_are_found() {
        let run = r#"{"payload":{"input":{"model":"no"},"model":"cosyvoice-v2","parameters":{"model":1}},
            "header":{"task_id":"t","action":"run-task","streaming":"duplex"},"model":"no"}"#;
        assert_eq!(
            Spoken::of_slice(run.as_bytes()),
            Ok(Spoken { runs: true, model: Some("cosyvoice-v2".into()) })
        );
        for (message, runs) in [
            (r#"{"header":{"action":"run-task"},"payload":{}}"#, true),
            (r#"{"header":{"action":"RUN\u002dTask"}}"#, true),
            (r#"{"header":{"action":"finish-task"},"payload":{"input":{}}}"#, false),
            (r#"{"header":null,"payload":null}"#, false),
            ("{}", false),
        ] {
            assert_eq!(Spoken::of_slice(message.as_bytes()), Ok(Spoken { runs, model: None }), "{message}");
        }
    }

    #[test]
    fn what_can_not_be_judged_is_refused() {
        let ambiguous = AskedFault::Ambiguous;
        let unreadable = AskedFault::Unreadable;
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
            ("", AskedFault::NotJson),
            ("[]", AskedFault::NotJson),
            ("null", AskedFault::NotJson),
            (r#""run-task""#, AskedFault::NotJson),
            (r#"{}{"header":{"action":"run-task"}}"#, AskedFault::NotJson),
        ] {
            assert_eq!(Spoken::of_slice(message.as_bytes()), Err(fault), "{message}");
        }
        assert_eq!(Spoken::of_slice(b"{\"x\":\"\xc0\xa2\"}"), Err(AskedFault::NotJson), "an overlong quote");
    }
}

//! The realtime protocol: JSON events like OpenAI's.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use uuid::Uuid;

use super::consumption::Consumption;
use super::errors::ErrorAnswer;
use super::media::tone;
use super::models;
use super::session_bill::SessionBill;
use super::session_message::{SessionInput, SessionOutput};
use super::token_consumption::{TokenConsumption, TokenDialect};

pub(super) struct RealtimeProtocol {
    session: Value,
    /// The model of the handshake.
    model: String,
    /// Number of Base64 characters of audio since the last commit.
    buffered: usize,
    /// Number of Base64 characters of audio that the next response answers.
    heard: usize,
    text: String,
    bill: SessionBill,
}

impl RealtimeProtocol {
    pub(super) fn open(
        standing: Result<(), ErrorAnswer>,
        model: &str,
        bill: SessionBill,
    ) -> (RealtimeProtocol, Vec<SessionOutput>) {
        let session = json!({
            "id": id("sess"), "object": "realtime.session", "model": model, "modalities": ["text", "audio"],
            "voice": "Cherry", "input_audio_format": "pcm16", "output_audio_format": "pcm16",
        });
        let realtime = RealtimeProtocol {
            session,
            model: model.to_owned(),
            buffered: 0,
            heard: 0,
            text: String::new(),
            bill,
        };
        let opening = if models::find(model).is_none() {
            vec![SessionOutput::Close(1007, "Model not found")]
        } else if standing.is_err() {
            vec![SessionOutput::Close(
                1007,
                "Access denied, please make sure your account is in good standing.",
            )]
        } else {
            vec![event("session.created", json!({"session": realtime.session}))]
        };
        (realtime, opening)
    }

    pub(super) fn receive(&mut self, input: SessionInput<'_>) -> Vec<SessionOutput> {
        let frame: Value = match input {
            SessionInput::Text(text) => serde_json::from_str(text).unwrap_or_default(),
            SessionInput::Binary(_) => return vec![error("Binary frames are not part of this protocol.")],
        };
        match frame["type"].as_str().unwrap_or_default() {
            "session.update" => {
                if let (Some(session), Some(update)) =
                    (self.session.as_object_mut(), frame["session"].as_object())
                {
                    session.extend(update.clone());
                }
                vec![event("session.updated", json!({"session": self.session}))]
            }
            "input_audio_buffer.append" | "input_image_buffer.append" => {
                self.buffered += frame["audio"].as_str().map_or(0, str::len);
                Vec::new()
            }
            "input_text_buffer.append" => {
                self.text += frame["text"].as_str().unwrap_or_default();
                Vec::new()
            }
            "input_audio_buffer.commit" => self.commit("input_audio_buffer.committed"),
            "input_text_buffer.commit" => {
                let mut outputs = self.commit("input_text_buffer.committed");
                outputs.extend(self.respond());
                outputs
            }
            "input_audio_buffer.clear" => {
                self.buffered = 0;
                vec![event("input_audio_buffer.cleared", json!({}))]
            }
            "conversation.item.create" => {
                vec![event("conversation.item.created", json!({"item": frame["item"]}))]
            }
            "response.create" => self.respond(),
            // A response has come to its end before the next event is read.
            "response.cancel" => {
                vec![coded_error(
                    "response_cancel_not_active",
                    "Cancellation failed: no active response found",
                )]
            }
            "session.finish" => {
                let mut outputs = if self.text.is_empty() { Vec::new() } else { self.respond() };
                outputs
                    .extend([event("session.finished", json!({})), SessionOutput::Close(1000, "finished")]);
                outputs
            }
            other => vec![error(&format!("Invalid event type: {other:?}."))],
        }
    }

    fn commit(&mut self, name: &str) -> Vec<SessionOutput> {
        self.heard += std::mem::take(&mut self.buffered);
        let item = id("item");
        vec![
            event(name, json!({"item_id": item})),
            event(
                "conversation.item.created",
                json!({"item": {"id": item, "type": "message", "role": "user"}}),
            ),
        ]
    }

    fn respond(&mut self) -> Vec<SessionOutput> {
        let (response, item) = (id("resp"), id("item"));
        let used = self.consumption();
        self.bill.write(&self.model, &used);
        (self.heard, self.buffered) = (0, 0);
        self.text.clear();
        let of = |fields: Value| {
            let mut fields = fields;
            fields["response_id"] = response.clone().into();
            fields["item_id"] = item.clone().into();
            fields["output_index"] = 0.into();
            fields["content_index"] = 0.into();
            fields
        };
        let transcript = "Hello from the simulator.";
        let message = json!({"id": item, "type": "message", "role": "assistant", "status": "completed",
            "content": [{"type": "audio", "transcript": transcript}]});
        let done = json!({"id": response, "status": "completed", "output": [message], "usage": used.usage()});
        let mut outputs = vec![
            event("response.created", json!({"response": {"id": response, "status": "in_progress"}})),
            event("response.output_item.added", of(json!({"item": {"id": item, "type": "message"}}))),
        ];
        for word in transcript.split_inclusive(' ') {
            outputs.push(event("response.audio_transcript.delta", of(json!({"delta": word}))));
            outputs.push(event("response.audio.delta", of(json!({"delta": STANDARD.encode(tone(50))}))));
        }
        outputs.push(event("response.audio_transcript.done", of(json!({"transcript": transcript}))));
        outputs.push(event("response.audio.done", of(json!({}))));
        outputs.push(event("response.output_item.done", of(json!({"item": message}))));
        outputs.push(event("response.done", json!({"response": done})));
        outputs
    }

    /// Consumption of the next response. Speech models are billed by the character.
    fn consumption(&self) -> Consumption {
        if self.model.contains("-tts") {
            return Consumption::Characters(self.text.chars().count() as u64);
        }
        let heard = (self.heard + self.buffered).div_ceil(AUDIO_TOKEN_LENGTH) as u64;
        let input = INSTRUCTION_TOKENS + self.text.len() as u64;
        Consumption::Tokens(TokenConsumption {
            input_audio: heard,
            output_audio: SPOKEN_TOKENS,
            ..TokenConsumption::new(TokenDialect::Realtime, input, TRANSCRIPT_TOKENS)
        })
    }
}

fn event(kind: &str, mut fields: Value) -> SessionOutput {
    fields["type"] = kind.into();
    fields["event_id"] = id("event").into();
    SessionOutput::Event(fields)
}

fn error(message: &str) -> SessionOutput {
    coded_error("invalid_value", message)
}

fn coded_error(code: &str, message: &str) -> SessionOutput {
    let error = json!({"type": "invalid_request_error", "code": code, "message": message, "param": null});
    event("error", json!({"error": error}))
}

fn id(kind: &str) -> String {
    format!("{kind}_{}", Uuid::new_v4().simple())
}

/// Base64 characters of the audio that counts as a token: 40 ms of 16 bit mono at 16 kHz.
const AUDIO_TOKEN_LENGTH: usize = 1280 / 3 * 4;
const INSTRUCTION_TOKENS: u64 = 10;
const TRANSCRIPT_TOKENS: u64 = 8;
const SPOKEN_TOKENS: u64 = 5;

#[cfg(test)]
mod tests {
    use super::super::session_bill::tests::session_bill;
    use super::*;

    fn kinds(outputs: &[SessionOutput]) -> Vec<String> {
        let kind = |output: &SessionOutput| match output {
            SessionOutput::Event(event) => event["type"].as_str().unwrap().to_owned(),
            SessionOutput::Close(code, reason) => format!("{code} {reason}"),
            SessionOutput::Binary(_) | SessionOutput::Ping => panic!("{output:?}"),
        };
        outputs.iter().map(kind).collect()
    }

    #[test]
    fn a_session_greets_answers_and_ends() {
        let (bill, session) = session_bill();
        let (mut realtime, opening) = RealtimeProtocol::open(Ok(()), "qwen3-omni-flash-realtime", session);
        assert_eq!(kinds(&opening), ["session.created"]);
        let mut receive = |text: &str| kinds(&realtime.receive(SessionInput::Text(text)));
        assert_eq!(receive(r#"{"type":"session.update","session":{"voice":"Ethan"}}"#), ["session.updated"]);
        assert!(receive(r#"{"type":"input_audio_buffer.append","audio":"AAAA"}"#).is_empty());
        let outputs = receive(r#"{"type":"response.create"}"#);
        assert_eq!(
            (outputs[0].as_str(), outputs[outputs.len() - 1].as_str()),
            ("response.created", "response.done")
        );
        assert_eq!(receive(r#"{"type":"nonsense"}"#), ["error"]);
        assert_eq!(receive(r#"{"type":"session.finish"}"#), ["session.finished", "1000 finished"]);
        let page: Value = serde_json::from_str(&bill.page()).unwrap();
        let [line] = page["calls"].as_array().unwrap().as_slice() else { panic!("{page}") };
        assert_eq!(
            (&line["request_id"], &line["model"]),
            (&json!("r/1"), &json!("qwen3-omni-flash-realtime"))
        );
        let units = json!({"input_token": "10.000", "input_audio_token": "1.000", "output_token": "8.000",
            "output_audio_token": "5.000"});
        assert_eq!(line["units"], units);
    }

    #[test]
    fn an_unknown_model_closes_with_1007() {
        assert_eq!(kinds(&RealtimeProtocol::open(Ok(()), "x", session_bill().1).1), ["1007 Model not found"]);
    }
}

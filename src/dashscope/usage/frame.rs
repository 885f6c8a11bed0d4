//! The use of a task or a response within a WebSocket, from the upstream's text messages.

use memchr::memmem;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::family;
use super::object;
use super::reading::Reading;
use crate::dashscope::lenient_json::LenientText;

/// What a message tells of the use of a task, or of a response of the realtime protocol.
#[derive(Debug, PartialEq, Eq)]
pub struct FrameUsage {
    /// The id of the task or of the response.
    pub id: Box<str>,
    /// The use until now, for the whole task; `None` if this message tells none, and the last one that did still counts.
    pub reading: Option<Reading>,
    pub is_final: bool,
    /// The task has failed. If no message told its use, then nothing was used.
    pub is_failure: bool,
}

/// Reads a text message; `None` if it tells neither use nor an end, as most do. A task is `run-task`'s.
pub fn of_frame(text: &[u8]) -> Option<FrameUsage> {
    let may_end = ENDS.iter().any(|end| memmem::find(text, end).is_some());
    if !may_end && !object::may_have_usage(text) {
        return None;
    }
    let message: Message<'_> = object::read(text)?;
    let told = message.header.map_or_else(|| message.of_response(), |header| message.of_task(header))?;
    (told.is_final || told.reading.is_some()).then_some(told)
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    header: Option<&'a RawValue>,
    #[serde(borrow)]
    payload: Option<&'a RawValue>,
    #[serde(rename = "type", borrow, default)]
    kind: LenientText<'a>,
    #[serde(borrow)]
    response: Option<&'a RawValue>,
}

impl<'a> Message<'a> {
    fn of_task(&self, header: &'a RawValue) -> Option<FrameUsage> {
        let header: Header<'a> = object::read(header.get().as_bytes())?;
        let event = header.event.0.as_deref()?;
        let payload = self.payload.and_then(|payload| object::read::<Payload<'a>>(payload.get().as_bytes()));
        Some(FrameUsage {
            id: header.task_id.0.as_deref()?.into(),
            reading: payload.and_then(|payload| payload.usage).map(read),
            is_final: matches!(event, "task-finished" | "task-failed"),
            is_failure: event == "task-failed",
        })
    }

    fn of_response(&self) -> Option<FrameUsage> {
        if self.kind.0.as_deref() != Some("response.done") {
            return None;
        }
        let response: Response<'a> = object::read(self.response?.get().as_bytes())?;
        Some(FrameUsage {
            id: response.id.0.as_deref()?.into(),
            reading: response.usage.map(read),
            is_final: true,
            is_failure: response.status.0.as_deref() == Some("failed"),
        })
    }
}

fn read(usage: &RawValue) -> Reading {
    family::read(usage.get(), false)
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Header<'a> {
    #[serde(borrow)]
    task_id: LenientText<'a>,
    #[serde(borrow)]
    event: LenientText<'a>,
}

#[derive(Deserialize)]
struct Payload<'a> {
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Response<'a> {
    #[serde(borrow, default)]
    id: LenientText<'a>,
    #[serde(borrow, default)]
    status: LenientText<'a>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
}

/// Parts of messages that end a task or a response.
const ENDS: [&[u8]; 3] = [b"task-finished", b"task-failed", b"response.done"];

#[cfg(test)]
mod tests {
    use super::super::unit::Unit::{self, *};
    use super::*;

    fn read(text: &str) -> (String, Vec<(Unit, u64)>, bool) {
        let told = of_frame(text.as_bytes()).expect("a use");
        let Some(Reading::Read(usage)) = told.reading else { panic!("not read: {text}") };
        (told.id.into(), usage.units.iter().collect(), told.is_final)
    }

    #[test]
    fn tasks_and_responses_tell_their_use() {
        let recognised = r#"{"header":{"task_id":"t","event":"result-generated","attributes":{}},"payload":{"output":{"sentence":{"text":"a"}},"usage":{"duration":3}}}"#;
        assert_eq!(read(recognised), ("t".into(), vec![(AudioSecond, 3_000)], false));
        let spoken = r#"{"payload":{"usage":{"characters":12},"output":null},"header":{"event":"task-finished","task_id":"t"}}"#;
        assert_eq!(read(spoken), ("t".into(), vec![(Character, 12_000)], true));
        let response = r#"{"type":"response.done","event_id":"e","response":{"id":"r","status":"completed","output":[{}],
            "usage":{"total_tokens":377,"input_tokens":336,"output_tokens":41,
            "input_tokens_details":{"text_tokens":228,"audio_tokens":108,"cached_tokens":0},
            "output_tokens_details":{"text_tokens":9,"audio_tokens":32}}}}"#;
        let units = vec![
            (InputToken, 228_000),
            (OutputToken, 9_000),
            (InputAudioToken, 108_000),
            (OutputAudioToken, 32_000),
        ];
        assert_eq!(read(response), ("r".into(), units, true));
    }

    #[test]
    fn an_end_is_told_without_use_too() {
        for (text, id, is_failure) in [
            (
                r#"{"header":{"task_id":"t","event":"task-finished"},"payload":{"output":{},"usage":null}}"#,
                "t",
                false,
            ),
            (r#"{"header":{"task_id":"t","event":"task-failed","error_code":"x"},"payload":{}}"#, "t", true),
            (r#"{"header":{"task_id":"t","event":"task-failed"}}"#, "t", true),
            (r#"{"type":"response.done","response":{"id":"r","status":"cancelled"}}"#, "r", false),
            (r#"{"type":"response.done","response":{"id":"r","status":"failed","usage":null}}"#, "r", true),
        ] {
            let expected = FrameUsage { id: id.into(), reading: None, is_final: true, is_failure };
            assert_eq!(of_frame(text.as_bytes()), Some(expected), "{text}");
        }
        let odd = br#"{"header":{"task_id":"t","event":"task-finished"},"payload":{"usage":{"count":1}}}"#;
        let reading = of_frame(odd).and_then(|told| told.reading);
        assert_eq!(reading, Some(Reading::Unread { raw: Some(r#"{"count":1}"#.into()) }));
    }

    #[test]
    fn other_messages_and_planted_uses_tell_nothing() {
        for text in [
            "",
            "{",
            r#"[{"type":"response.done"}]"#,
            r#"{"header":{"task_id":"t","event":"task-started"},"payload":{}}"#,
            r#"{"header":{"task_id":"t","event":"result-generated"},"payload":{"output":{"text":"task-finished"},"usage":null}}"#,
            r#"{"header":{"task_id":"t","event":"result-generated","usage":{"duration":1}},"payload":{"output":{"usage":{"duration":1}}},"usage":{"duration":1}}"#,
            r#"{"type":"response.audio_transcript.delta","delta":"response.done","response":{"id":"r","usage":{"total_tokens":1}}}"#,
            r#"{"type":"conversation.item.created","item":{"type":"response.done","usage":{"total_tokens":1}}}"#,
            r#"{"type":"response.done","usage":{"total_tokens":1}}"#,
        ] {
            assert_eq!(of_frame(text.as_bytes()), None, "{text}");
        }
    }
}

//! The use of a task or a response within a WebSocket, from the upstream's text messages.

use super::family;
use super::object;
use super::reading::Reading;
use memchr::memmem;

/// Use of a task, as a message tells it, or of a response of the realtime protocol.
#[derive(Debug, PartialEq, Eq)]
pub struct FrameUsage {
    /// The id of the task or of the response.
    pub id: Box<str>,
    /// The use until now, for the whole task; `None` if this message tells none, and the last one that did still counts.
    pub reading: Option<Reading>,
    pub is_final: bool,
    /// The task has failed. If no message told its use, then nothing was used.
    pub is_failure: bool,
    /// The response was cancelled. If none had begun under its id, then nothing was used: a client may cancel where
    /// nothing runs.
    pub is_cancelled: bool,
}

/// Reads a text message; `None` if it tells neither use nor an end, as most do, nor the begin of a response. A task is
/// `run-task`'s.
pub fn of_frame(text: &[u8]) -> Option<FrameUsage> {
    let may_matter = MARKS.iter().any(|mark| memmem::find(text, mark).is_some());
    if !may_matter && !object::may_have_usage(text) {
        return None;
    }
    let [header, payload, kind, response] = object::fields(text, ["header", "payload", "type", "response"])?;
    match (header, kind.and_then(object::unquoted)) {
        (Some(header), _) => of_task(header, payload).filter(|told| told.is_final || told.reading.is_some()),
        (None, Some("response.done")) => of_response(response?, true),
        (None, Some("response.created")) => of_response(response?, false),
        (None, _) => None,
    }
}

fn of_task(header: &[u8], payload: Option<&[u8]>) -> Option<FrameUsage> {
    let [id, event] = object::fields(header, ["task_id", "event"])?;
    let event = object::unquoted(event?)?;
    let [usage] = payload.and_then(|payload| object::fields(payload, ["usage"])).unwrap_or_default();
    Some(FrameUsage {
        id: object::unquoted(id?)?.into(),
        reading: usage.map(read),
        is_final: matches!(event, "task-finished" | "task-failed"),
        is_failure: event == "task-failed",
        is_cancelled: false,
    })
}

fn of_response(response: &[u8], is_final: bool) -> Option<FrameUsage> {
    let [id, status, usage] = object::fields(response, ["id", "status", "usage"])?;
    let status = status.and_then(object::unquoted);
    Some(FrameUsage {
        id: object::unquoted(id?)?.into(),
        reading: usage.map(read),
        is_final,
        is_failure: is_final && status == Some("failed"),
        is_cancelled: is_final && status == Some("cancelled"),
    })
}

fn read(usage: &[u8]) -> Reading {
    family::read(usage, false)
}

/// Parts of messages that end a task or a response, or begin a response.
const MARKS: [&[u8]; 4] = [b"task-finished", b"task-failed", b"response.done", b"response.created"];

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
            let is_cancelled = text.contains("cancelled");
            let expected =
                FrameUsage { id: id.into(), reading: None, is_final: true, is_failure, is_cancelled };
            assert_eq!(of_frame(text.as_bytes()), Some(expected), "{text}");
        }
        let begun =
            br#"{"type":"response.created","response":{"id":"r","status":"in_progress","usage":null}}"#;
        let told = of_frame(begun).expect("a begin");
        assert_eq!((&*told.id, told.reading, told.is_final), ("r", None, false));
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

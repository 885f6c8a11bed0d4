//! Input that a client sent to a task within a WebSocket. From it the use is estimated of a task whose connection ended
//! before the upstream told any use.

use super::object;
use super::unit::{Unit, Units};

/// A message of a client that starts a task or brings input to one.
#[derive(Debug, PartialEq, Eq)]
pub struct SentMessage {
    pub task_id: Box<str>,
    /// The kind of the task, if the message starts one.
    pub starts: Option<InputKind>,
    /// Characters of its text, as speech is billed.
    pub characters: u64,
}

/// Kind of a task within a WebSocket, by what it is billed by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InputKind {
    Speech,
    Recognition { bytes_per_second: u64 },
    Other,
}

/// Input that a task has had.
#[derive(Debug, Clone, Copy)]
pub struct SentInput {
    kind: InputKind,
    characters: u64,
    audio_bytes: u64,
    /// Sound came back.
    is_answered: bool,
}

impl SentMessage {
    /// Reads a text message; `None` if it brings no input. Escapes hide nothing, and of a field that is there twice the
    /// last one counts.
    pub fn from_slice(text: &[u8]) -> Option<Self> {
        let [header, payload] = object::last_fields(text, ["header", "payload"])?;
        let [task_id, action] = object::last_fields(header?, ["task_id", "action"])?;
        let action = object::text(action?)?;
        let starts = action.eq_ignore_ascii_case("run-task");
        if !starts && !action.eq_ignore_ascii_case("continue-task") {
            return None;
        }
        let [task, input, parameters] = payload
            .and_then(|payload| object::last_fields(payload, ["task", "input", "parameters"]))
            .unwrap_or_default();
        let [spoken] = input.and_then(|input| object::last_fields(input, ["text"])).unwrap_or_default();
        Some(Self {
            task_id: task_id.and_then(object::text).unwrap_or_default().into(),
            starts: starts.then(|| kind(task, parameters)),
            characters: spoken.map_or(0, |spoken| match object::text(spoken) {
                Some(spoken) => spoken.chars().map(billed).sum(),
                // Half a character of a program that cuts texts: counted as it is written.
                None => spoken.len() as u64,
            }),
        })
    }
}

impl SentInput {
    pub const fn new(kind: InputKind) -> Self {
        Self { kind, characters: 0, audio_bytes: 0, is_answered: false }
    }

    /// Adds text of the client.
    pub const fn add_characters(&mut self, characters: u64) {
        self.characters = self.characters.saturating_add(characters);
    }

    /// Adds sound of the client.
    pub const fn add_audio(&mut self, bytes: u64) {
        self.audio_bytes = self.audio_bytes.saturating_add(bytes);
    }

    /// Notes sound of the upstream.
    pub const fn note_sound(&mut self) {
        self.is_answered = true;
    }

    /// An estimate of the use; `None` if nothing was used yet.
    pub fn estimate(&self) -> Option<Units> {
        let (unit, quantity) = match self.kind {
            InputKind::Speech if self.is_answered => (Unit::Character, self.characters),
            InputKind::Recognition { bytes_per_second } => {
                (Unit::AudioSecond, self.audio_bytes.div_ceil(bytes_per_second))
            }
            InputKind::Speech | InputKind::Other => return None,
        };
        (quantity > 0).then(|| Units::from_iter([(unit, quantity.saturating_mul(1_000))]))
    }
}

fn kind(task: Option<&[u8]>, parameters: Option<&[u8]>) -> InputKind {
    match task.and_then(object::text).as_deref() {
        Some("tts") => InputKind::Speech,
        Some("asr") => {
            let [format, rate] = parameters
                .and_then(|parameters| object::last_fields(parameters, ["format", "sample_rate"]))
                .unwrap_or_default();
            let rate = rate.and_then(|rate| str::from_utf8(rate).ok()?.parse().ok());
            let rate: u64 = rate.unwrap_or(USUAL_RATE);
            let bytes_per_second = match format.and_then(object::text).as_deref() {
                Some("pcm" | "wav") | None => rate.clamp(LEAST_RATE, GREATEST_RATE) * BYTES_OF_A_SAMPLE,
                Some(_) => COMPRESSED,
            };
            InputKind::Recognition { bytes_per_second }
        }
        Some(_) | None => InputKind::Other,
    }
}

/// Characters as which DashScope bills one: a Han character counts twice.
const fn billed(character: char) -> u64 {
    if matches!(character, '\u{3400}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{323af}') {
        2
    } else {
        1
    }
}

/// Samples a second, where a task does not name them.
const USUAL_RATE: u64 = 16_000;
const LEAST_RATE: u64 = 8_000;
const GREATEST_RATE: u64 = 48_000;
/// 16 bit, one channel.
const BYTES_OF_A_SAMPLE: u64 = 2;
/// Bytes of a second of compressed speech: 32 kbit. MP3 has more, Opus and AMR have less.
const COMPRESSED: u64 = 4_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn message(action: &str, payload: &str) -> Option<SentMessage> {
        let text = format!(r#"{{"header":{{"action":"{action}","task_id":"t"}},"payload":{payload}}}"#);
        SentMessage::from_slice(text.as_bytes())
    }

    #[test]
    fn the_kind_and_the_characters_are_read() {
        for (action, payload, starts, characters) in [
            ("run-task", r#"{"task":"tts","input":{"text":"ab"}}"#, Some(InputKind::Speech), 2),
            ("run-task", r#"{"task":"chat"}"#, Some(InputKind::Other), 0),
            ("continue-task", r#"{"input":{"text":"\u4f60a\"、"}}"#, None, 5),
            ("continue-task", r#"{"input":{"messages":[{"text":"no"}]}}"#, None, 0),
            ("run-t\\u0061sk", r#"{"t\u0061sk":"\u0074ts"}"#, Some(InputKind::Speech), 0),
            ("continue-task", r#"{"input":{"text":"a","te\u0078t":"abc"}}"#, None, 3),
            ("continue-task", r#"{"input":{"text":"\ud83d"}}"#, None, 8),
        ] {
            let expected = SentMessage { task_id: "t".into(), starts, characters };
            assert_eq!(message(action, payload), Some(expected), "{payload}");
        }
        assert_eq!(message("finish-task", r#"{"input":{}}"#), None);
        assert_eq!(SentMessage::from_slice(br#"{"type":"response.create"}"#), None);
    }

    #[test]
    fn sound_is_measured_in_its_format() {
        for (parameters, seconds) in [
            ("{}", 3),
            (r#"{"format":"pcm","sample_rate":8000}"#, 5),
            (r#"{"format":"opus","sample_rate":16000}"#, 20),
            (r#"{"format":"pcm","sample_rate":0}"#, 5),
            (r#"{"format":"pcm","sample_rate":48000000}"#, 1),
        ] {
            let run = message("run-task", &format!(r#"{{"task":"asr","parameters":{parameters}}}"#));
            let mut sent = SentInput::new(run.and_then(|run| run.starts).expect("a start"));
            assert_eq!(sent.estimate(), None);
            sent.add_audio(80_000);
            let units = sent.estimate().expect("a use");
            assert_eq!(units.get(Unit::AudioSecond), seconds * 1_000, "{parameters}");
        }
    }

    #[test]
    fn speech_is_used_once_sound_came() {
        let mut sent = SentInput::new(InputKind::Speech);
        sent.add_characters(7);
        assert_eq!(sent.estimate(), None);
        sent.note_sound();
        assert_eq!(sent.estimate(), Some(Units::from_iter([(Unit::Character, 7_000)])));
    }
}

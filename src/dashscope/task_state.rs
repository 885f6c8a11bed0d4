//! The state of a task, read from the answer to a query: `output.task_id`, `output.task_status` and `output.end_time`.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};

use super::lenient_json::without_mark;
use super::task::{NamedTask, Status};
use super::time;

/// Reads a whole answer; `None` if it is not well-formed, or does not name a task and its status. Of a doubled key the
/// last one counts, as for most readers of JSON.
pub fn read(body: &[u8]) -> Option<NamedTask> {
    let mut state = StateFields::default();
    let mut reader = serde_json::Deserializer::from_slice(without_mark(body));
    StateSeeker(&mut state).deserialize(&mut reader).ok()?;
    reader.end().ok()?;
    state.named()
}

/// Reads the beginning of an answer, which may end anywhere.
pub fn read_beginning(beginning: &[u8]) -> Option<NamedTask> {
    let mut state = StateFields::default();
    // An error only says that the text is not whole.
    let _ = StateSeeker(&mut state)
        .deserialize(&mut serde_json::Deserializer::from_slice(without_mark(beginning)));
    state.named()
}

#[derive(Default)]
struct StateFields {
    task_id: Option<Arc<str>>,
    status: Option<Status>,
    ended: Option<SystemTime>,
}

impl StateFields {
    fn named(self) -> Option<NamedTask> {
        let task_id = self.task_id.filter(|id| !id.is_empty())?;
        Some(NamedTask { task_id, status: self.status?, ended: self.ended })
    }
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum AnswerField {
    Output,
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum OutputField {
    TaskId,
    TaskStatus,
    EndTime,
    #[serde(other)]
    Other,
}

/// The end of a task is known without its time, too.
#[derive(Deserialize)]
#[serde(untagged)]
enum EndTime {
    Text(Box<str>),
    Other(IgnoredAny),
}

/// Reads the answer.
struct StateSeeker<'a>(&'a mut StateFields);

/// Reads its `output`.
struct OutputSeeker<'a>(&'a mut StateFields);

impl<'de> DeserializeSeed<'de> for StateSeeker<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for StateSeeker<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an answer")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(field) = map.next_key()? {
            match field {
                AnswerField::Output => map.next_value_seed(OutputSeeker(&mut *self.0))?,
                AnswerField::Other => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for OutputSeeker<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for OutputSeeker<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an output")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(field) = map.next_key()? {
            match field {
                OutputField::TaskId => self.0.task_id = Some(map.next_value()?),
                OutputField::TaskStatus => self.0.status = Some(map.next_value()?),
                OutputField::EndTime => {
                    self.0.ended = match map.next_value()? {
                        EndTime::Text(text) => time::read(&text),
                        EndTime::Other(IgnoredAny) => None,
                    }
                }
                OutputField::Other => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn known(status: Status) -> Option<NamedTask> {
        Some(NamedTask { task_id: "a".into(), status, ended: None })
    }

    #[test]
    fn a_well_formed_answer_tells_the_state() {
        for body in [
            r#"{"request_id":"r","output":{"task_id":"a","task_status":"RUNNING","new":[1]},"usage":{}}"#,
            r#"{"output":{"task_status":"RUNNING","task_id":"a"}}"#,
            r#"{"output":{"task_id":"a","task_status":"PENDING","task_status":"RUNNING"}}"#,
            "\u{feff}{\"output\":{\"task_id\":\"a\",\"task_status\":\"RUNNING\",\"end_time\":3}}\n",
        ] {
            assert_eq!(read(body.as_bytes()), known(Status::Running), "{body}");
            assert_eq!(read_beginning(body.as_bytes()), known(Status::Running), "{body}");
        }
        let body = br#"{"output":{"task_id":"a","task_status":"POST-PROCESSING"}}"#;
        assert_eq!(read(body), known(Status::Other));
    }

    #[test]
    fn the_end_is_told_by_the_upstreams_clock() {
        let body =
            br#"{"output":{"task_id":"a","task_status":"FAILED","end_time":"1970-01-01 08:00:02.000"}}"#;
        let ended = Some(SystemTime::UNIX_EPOCH + Duration::from_secs(2));
        assert_eq!(read(body).and_then(|task| task.ended), ended);
    }

    #[test]
    fn other_answers_tell_nothing() {
        for body in [
            "",
            "[]",
            "<html>405 Not Allowed</html>",
            r#"{"code":"InvalidParameter","message":"m"}"#,
            r#"{"output":{}}"#,
            r#"{"output":{"task_id":"a"}}"#,
            r#"{"output":{"task_status":"SUCCEEDED"}}"#,
            r#"{"output":{"task_id":"","task_status":"SUCCEEDED"}}"#,
            r#"{"output":{"task_id":"a","task_status":3}}"#,
            r#"{"output":{"task_id":"a","task_status":"SUCCEEDED"}"#,
            r#"{"output":{"task_id":"a","task_status":"SUCCEEDED"}} and more"#,
        ] {
            assert_eq!(read(body.as_bytes()), None, "{body}");
        }
    }

    #[test]
    fn the_beginning_of_an_answer_is_enough() {
        let beginning = br#"{"output":{"task_id":"a","task_status":"SUCCEEDED","results":[{"url":"http"#;
        assert_eq!(read_beginning(beginning), known(Status::Succeeded));
        assert_eq!(read(beginning), None);
        assert_eq!(read_beginning(br#"{"output":{"results":[{"url":"http"#), None);
    }
}

//! The answer to a submit, read for the tasks that it names.

use std::sync::Arc;

use serde::de::{DeserializeSeed, IgnoredAny, MapAccess};

use super::lenient_json::{FieldReader, Fields, LenientText, without_mark};
use super::task::Status;

/// Tasks that the answer to a submit names.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct SubmitAnswer {
    /// Values of `output.task_id`. There are several where a key stands twice, the last one first, as most readers of
    /// JSON take that one; some take the first.
    pub task_ids: Vec<Arc<str>>,
    /// Value of `output.task_status`.
    pub status: Option<Status>,
    /// Value of `request_id`.
    pub request_id: Option<Box<str>>,
    /// False if the text breaks off or is not well-formed, or has an id that is no text: it may name another task.
    pub is_readable: bool,
    has_odd_id: bool,
}

impl SubmitAnswer {
    /// Reads an answer, or the beginning of one that broke off.
    pub fn read(beginning: &[u8]) -> Self {
        let mut answer = Self::default();
        let mut text = serde_json::Deserializer::from_slice(without_mark(beginning));
        let read = Fields(&mut AnswerFields(&mut answer)).deserialize(&mut text);
        answer.is_readable = !answer.has_odd_id && read.and_then(|()| text.end()).is_ok();
        answer
    }

    fn name(&mut self, id: &str) {
        self.task_ids.retain(|known| **known != *id);
        if !id.is_empty() && self.task_ids.len() < MOST_TASKS {
            self.task_ids.insert(0, id.into());
        }
    }
}

struct AnswerFields<'a>(&'a mut SubmitAnswer);

struct OutputFields<'a>(&'a mut SubmitAnswer);

impl<'de> FieldReader<'de> for AnswerFields<'_> {
    fn read<A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "output" => map.next_value_seed(Fields(&mut OutputFields(self.0)))?,
            "request_id" => {
                let LenientText(id) = map.next_value()?;
                self.0.request_id = id.map(|id| (*id).into());
            }
            _ => drop(map.next_value::<IgnoredAny>()?),
        }
        Ok(())
    }
}

impl<'de> FieldReader<'de> for OutputFields<'_> {
    fn read<A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "task_id" => {
                let LenientText(id) = map.next_value()?;
                match id {
                    Some(id) => self.0.name(&id),
                    None => self.0.has_odd_id = true,
                }
            }
            "task_status" => {
                let LenientText(status) = map.next_value()?;
                self.0.status = status.map(|status| Status::written(&status));
            }
            _ => drop(map.next_value::<IgnoredAny>()?),
        }
        Ok(())
    }
}

/// Most tasks of one submit: a bound against an answer that is made of ids.
const MOST_TASKS: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(body: &str) -> Vec<String> {
        SubmitAnswer::read(body.as_bytes()).task_ids.iter().map(|id| id.to_string()).collect()
    }

    #[test]
    fn a_submit_names_its_task_whatever_stands_beside_the_id() {
        for body in [
            r#"{"output":{"task_status":"PENDING","task_id":"a-1"},"request_id":"r"}"#,
            r#"{"request_id":"r","output":{"task_id":"a-1","task_status":"PENDING","new":[1]}}"#,
            r#"{"output":{"task_id":"a-1","task_status":null,"end_time":0}}"#,
            r#"{"output":{"task_id":"a-1","task_status":{"is":1}}}"#,
            r#"{"output":{"task_id":"\u0061-1"}}"#,
            r#"{"output":{"task\u005fid":"a-1"}}"#,
            r#"{"output":{"task_id":"a-1","task_id":"a-1"}}"#,
            r#"{"output":{},"output":{"task_id":"a-1"}}"#,
            r#"{"output":{"task_id":"a-1"},"output":7}"#,
            "\u{feff}{\"output\":{\"task_id\":\"a-1\"}}\n",
        ] {
            assert_eq!(ids(body), ["a-1"], "{body}");
            assert!(SubmitAnswer::read(body.as_bytes()).is_readable, "{body}");
        }
    }

    #[test]
    fn every_reader_of_a_doubled_key_finds_its_task() {
        assert_eq!(ids(r#"{"output":{"task_id":"a","task_id":"b"}}"#), ["b", "a"]);
        assert_eq!(ids(r#"{"output":{"task_id":"a"},"output":{"task_id":"b","task_id":"a"}}"#), ["a", "b"]);
        let many: String = (0..99).map(|id| format!("\"task_id\":\"{id}\",")).collect();
        assert_eq!(ids(&format!("{{\"output\":{{{many}\"x\":1}}}}")).len(), MOST_TASKS);
    }

    #[test]
    fn an_answer_that_breaks_off_behind_the_id_names_its_task() {
        let answer = SubmitAnswer::read(br#"{"output":{"task_id":"a","task_status":"RUNNING","more":"x"#);
        let expected = SubmitAnswer {
            task_ids: vec!["a".into()],
            status: Some(Status::Running),
            request_id: None,
            is_readable: false,
            has_odd_id: false,
        };
        assert_eq!(answer, expected);
        assert!(ids(r#"{"output":{"task_id":"a"#).is_empty(), "half an id is none");
        let answer = SubmitAnswer::read(br#"{"request_id":"r","output":{"task_id":"a"}}"#);
        assert_eq!(answer.request_id.as_deref(), Some("r"));
    }

    #[test]
    fn other_answers_name_none() {
        for body in
            ["[]", "7", r#"{"output":{}}"#, r#"{"output":{"task_id":""}}"#, r#"{"code":"Throttling"}"#]
        {
            let expected = SubmitAnswer { is_readable: true, ..SubmitAnswer::default() };
            assert_eq!(SubmitAnswer::read(body.as_bytes()), expected, "{body}");
        }
        for body in ["", "<html>", r#"{"output":{}"#, "{} {}", r#"{"output":{"task_id":17}}"#] {
            let answer = SubmitAnswer::read(body.as_bytes());
            assert!(answer.task_ids.is_empty() && !answer.is_readable, "{body}");
        }
    }
}

//! Requests that many tests send, and checks of their answers.

use std::io::{self, BufRead, Read};

use super::secrets::{ANSWER, PROMPT, QUERY};
use super::{Message, TENANT_KEY, answer, message};

/// A service that answers at once or as a stream; the gateway passes its answers on as they come.
pub(crate) const GENERATION: &str = "/api/v1/services/aigc/text-generation/generation";
/// A service that only runs as a task: its answer is read for the task's id.
pub(crate) const SYNTHESIS: &str = "/api/v1/services/aigc/video-generation/video-synthesis";

pub(crate) fn bearer() -> String {
    format!("Authorization: Bearer {TENANT_KEY}")
}

pub(crate) fn generate(body: &str) -> String {
    message(&format!("POST {GENERATION}"), &[&bearer()], body)
}

/// The head of a generation whose body the test sends by itself.
pub(crate) fn generate_head(framing: &str) -> String {
    message(&format!("POST {GENERATION}"), &[&bearer(), framing], "")
}

pub(crate) fn submit() -> String {
    let fields = [&*bearer(), "X-DashScope-Async: enable"];
    let body = format!(r#"{{"model":"wan2.7-t2v","input":{{"prompt":"{PROMPT}"}}}}"#);
    message(&format!("POST {SYNTHESIS}"), &fields, &body)
}

pub(crate) fn poll(id: &str) -> String {
    message(&format!("GET /api/v1/tasks/{id}?{QUERY}"), &[&bearer()], "")
}

/// The upstream's answer to a submit or to a query of a task.
pub(crate) fn task(id: &str, status: &str) -> Vec<u8> {
    let body =
        format!(r#"{{"output":{{"task_id":"{id}","task_status":"{status}","video_url":"{ANSWER}"}}}}"#);
    answer("200 OK", &[], &body)
}

/// Checks that the answer is the gateway's own refusal, in DashScope's shape.
#[track_caller]
pub(crate) fn check_refusal(answer: &Message, status: u16, reason: &str) {
    let shown = format!("{}{}", answer.head, answer.text());
    assert_eq!(answer.status(), status, "{shown}");
    assert_eq!(answer.field("x-dashgate-reason").as_deref(), Some(reason), "{shown}");
    assert_eq!(answer.field("content-type").as_deref(), Some("application/json"), "{shown}");
    assert!(answer.complete, "{shown}");
    let body = answer.json();
    assert!(body["code"].is_string() && body["message"].is_string(), "{shown}");
    assert_eq!(answer.field("x-request-id").as_deref(), body["request_id"].as_str(), "{shown}");
}

/// A reader of a chunked body's data, as it comes; it ends with the body.
pub(crate) struct Dechunk<R> {
    from: R,
    left: usize,
    ended: bool,
}

impl<R: BufRead> Dechunk<R> {
    pub(crate) fn new(from: R) -> Self {
        Self { from, left: 0, ended: false }
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.from.read_line(&mut line)?;
        line.strip_suffix("\r\n").map(str::to_owned).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}

impl<R: BufRead> Read for Dechunk<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 && !self.ended {
            self.left = usize::from_str_radix(&self.line()?, 16).map_err(io::Error::other)?;
            if self.left == 0 {
                self.ended = true;
                assert_eq!(self.line()?, "", "a trailer");
            }
        }
        let most = buf.len().min(self.left);
        if most == 0 {
            return Ok(0);
        }
        let read = self.from.read(&mut buf[..most])?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= read;
        if self.left == 0 {
            assert_eq!(self.line()?, "", "the end of a chunk");
        }
        Ok(read)
    }
}

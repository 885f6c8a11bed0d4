//! Requests of the load, as the Python SDK writes them, but with keys in turn.

use std::io::Write as _;

use crate::job::{self, PREFIX};
use crate::upstream::KIND;

/// A kind of request, with a caller and a task to fill in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    /// Makes a task: 600 bytes.
    Submit,
    /// Polls a task.
    Poll,
    /// A synchronous call with a small body, passed on both ways.
    Pass,
    /// Event frames.
    Frames,
    /// Some twenty events of a chat, each with its use.
    Chat,
    /// 1 GiB comes down.
    Download,
    /// 64 MiB go up.
    Upload,
}

impl Call {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Call::Submit => "submit",
            Call::Poll => "poll",
            Call::Pass => "synchronous call",
            Call::Frames => "event stream",
            Call::Chat => "streamed call",
            Call::Download => "download",
            Call::Upload => "upload",
        }
    }

    /// The request's head, and its body where that is small, in place of what the buffer held.
    pub(crate) fn write(self, buffer: &mut Vec<u8>, key: &str, task: &str) {
        buffer.clear();
        let (line, body_bytes) = match self {
            Call::Submit => (SYNTHESIS, submit_body().len()),
            Call::Poll => ("", 0),
            Call::Pass | Call::Frames | Call::Chat | Call::Download => (GENERATION, PASS_BODY.len()),
            Call::Upload => (GENERATION, UPLOAD_BYTES),
        };
        // Writing to a vector does not fail.
        let _ = match self {
            Call::Poll => write!(buffer, "GET {PREFIX}/api/v1/tasks/{task} HTTP/1.1\r\n"),
            Call::Submit | Call::Pass | Call::Frames | Call::Chat | Call::Download | Call::Upload => write!(
                buffer,
                "POST {PREFIX}{line} HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: {body_bytes}\r\n"
            ),
        };
        let _ = write!(buffer, "Host: gateway:8080\r\n{FIELDS}Authorization: Bearer {key}\r\n");
        let _ = match self {
            Call::Submit => write!(buffer, "X-DashScope-Async: enable\r\n\r\n{}", submit_body()),
            Call::Poll => write!(buffer, "\r\n"),
            Call::Pass => write!(buffer, "\r\n{PASS_BODY}"),
            Call::Frames | Call::Chat => {
                let kind = if self == Call::Chat { "chat" } else { "frames" };
                write!(
                    buffer,
                    "Accept: text/event-stream\r\nX-DashScope-SSE: enable\r\n{KIND}: {kind}\r\n\r\n{PASS_BODY}"
                )
            }
            Call::Download => write!(buffer, "{KIND}: bulk\r\n\r\n{PASS_BODY}"),
            Call::Upload => write!(buffer, "\r\n"),
        };
    }
}

/// The callers of one connection: keys of one tenant, in turn, so that all of them may ask for the same task.
pub(crate) struct Callers {
    keys: Vec<String>,
    next: usize,
}

impl Callers {
    /// The callers of the Nth connection, of a job with this number of keys.
    pub(crate) fn of(connection: usize, keys: usize) -> Callers {
        let tenants = job::tenants(keys);
        let first = connection % tenants;
        let all = (first..keys).step_by(tenants).take(MOST_CALLERS);
        Callers { keys: all.map(job::key).collect(), next: 0 }
    }

    pub(crate) fn next(&mut self) -> &str {
        self.next = (self.next + 1) % self.keys.len();
        &self.keys[self.next]
    }
}

/// The body with its prompt has 600 bytes.
fn submit_body() -> &'static str {
    r#"{"model":"wan2.7-t2v","input":{"prompt":"A lighthouse on a rock above a calm sea at dusk. Its lamp has just been lit and the first beam sweeps slowly over long grey waves; a small boat with a red sail is coming home, and gulls follow it. The camera starts close to the water, rises along the tower and ends behind the lamp, looking out over the bay. Soft light, fine grain, slow movement, no people.","negative_prompt":"low quality, blurred, distorted, watermark, text"},"parameters":{"resolution":"720P","ratio":"16:9","duration":5,"prompt_extend":true,"watermark":false,"seed":20261121,"shot_type":"multi"}}"#
}

pub(crate) const UPLOAD_BYTES: usize = 64 << 20;
/// Largest number of callers of one connection.
pub(crate) const MOST_CALLERS: usize = 1_000;
const SYNTHESIS: &str = "/api/v1/services/aigc/video-generation/video-synthesis";
const GENERATION: &str = "/api/v1/services/aigc/text-generation/generation";
const PASS_BODY: &str = r#"{"model":"qwen-plus","input":{"messages":[{"role":"user","content":"Describe a lighthouse at dusk in two sentences."}]},"parameters":{"result_format":"message"}}"#;
const FIELDS: &str = "user-agent: dashscope/2.0.2; python/3.11.7; platform/Linux; processor/x86_64\r\nAccept: application/json\r\nAccept-Encoding: gzip, deflate\r\nConnection: keep-alive\r\n";

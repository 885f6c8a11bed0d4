//! Answers that told the ends of tasks, for polls at other replicas than the one that asked.

use std::time::{Duration, SystemTime};

use bytes::Bytes;

use crate::dashscope::task::Status;

/// The answer that told a task's end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndAnswer {
    /// When the end was learnt.
    pub at: SystemTime,
    pub status: Status,
    /// Header fields, each on a line, with a colon and a blank after its name.
    pub headers: Box<str>,
    /// `None` if it is longer than [`MOST_END_ANSWER_BYTES`].
    pub body: Option<Bytes>,
}

/// Longer bodies are not kept for other replicas: a transcription of a hundred files has 200 KB.
pub const MOST_END_ANSWER_BYTES: usize = 1024 * 1024;
/// Time for which answers are kept: as long as tasks.
pub(super) const END_ANSWERS_KEPT: Duration = Duration::from_secs(48 * 3600);

//! Submits in doubt, as a replica tells the others of them.

use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::replica::Replica;

/// A part of the answer to [`super::Gossip::AskDoubts`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DoubtReport {
    /// The replica that has asked, and the number of its question.
    pub to: Replica,
    pub question: u64,
    /// Time of the report by the clock of its sender.
    pub at: SystemTime,
    /// The sender does not know all that was sent before; `None` if it does.
    pub unknown_until: Option<SystemTime>,
    /// Number of the parts of the report. One comes at least.
    pub parts: usize,
    pub submits: Vec<ReportedSubmit>,
}

/// A submit that stands nowhere durably, and of which it is not known whether it has made a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportedSubmit {
    pub account: Arc<str>,
    /// `None` if it is not known, or longer than [`super::MOST_MODEL_BYTES`].
    pub model: Option<Box<str>>,
    pub sent_at: SystemTime,
    /// `None` while the answer may come.
    pub lost_at: Option<SystemTime>,
}

/// Submits in one part of a report, so that the part is not too long for a message.
pub const SUBMITS_IN_PART: usize = 16;

//! Submits that may be repeated under an `Idempotency-Key`.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

/// One try of a submit that has an `Idempotency-Key`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyedSubmit {
    pub tenant: Arc<str>,
    /// Name of the operation. A key counts for one tenant and operation.
    pub operation: Box<str>,
    /// What the client chose.
    pub key: Box<str>,
    /// Name of this try: a try changes nothing of another.
    pub attempt: Box<str>,
    pub began_at: SystemTime,
}

/// The answer to a submit that made a task, for those who send the submit again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirstAnswer {
    pub submit: Arc<KeyedSubmit>,
    /// SHA-256 of what was asked.
    pub fingerprint: [u8; 32],
    /// The answer's body, as the client got it.
    pub body: Box<str>,
}

/// What is known of an earlier submit with the same key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EarlierSubmit {
    Running,
    /// It was sent, and its answer is lost: it may have made a task.
    Unclear,
    /// It has made a task.
    Answered {
        fingerprint: [u8; 32],
        body: Box<str>,
    },
}

/// No submit runs longer: one that still does belongs to a process that was killed during a hand-over.
pub(super) const LONGEST_RUN: Duration = Duration::from_secs(3600);
/// Time for which a key names its submit.
pub(super) const SUBMITS_KEPT: Duration = Duration::from_secs(24 * 3600);

//! Submits with an `Idempotency-Key` whose answer is lost: a task may be theirs.

use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::keyed_submit::{FirstAnswer, KeyedSubmit};
use super::task_record::TaskRecord;
use crate::unified::RequestedVideo;

/// A submit that was sent, or may have been, and whose answer is lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LostSubmit {
    pub submit: Arc<KeyedSubmit>,
    /// `None` if it is not known: the process that sent it was killed.
    pub sent: Option<SentRequest>,
    pub lost_at: SystemTime,
}

/// A submit that runs at some replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunningSubmit {
    /// Name of the try.
    pub attempt: Box<str>,
    pub began_at: SystemTime,
}

/// The request that was sent for a submit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SentRequest {
    pub account: Arc<str>,
    /// Empty if it could not be read.
    pub model: Box<str>,
    pub key_id: Arc<str>,
    /// The prefix of the mount that the submit came by.
    pub mount: Arc<str>,
    /// The request's fields, of a video that was submitted in the unified dialect.
    pub asked: Option<Arc<RequestedVideo>>,
    /// SHA-256 of what was asked, if all of it was seen.
    pub fingerprint: Option<[u8; 32]>,
    pub sent_at: SystemTime,
    /// The hold of the submit, where money is held for it.
    #[serde(default)]
    pub hold: Option<Arc<str>>,
    /// The address that the submit named for a webhook.
    #[serde(default)]
    pub webhook: Option<Arc<str>>,
}

/// A task that no client was told of, with the tenant to whom it is given.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Adoption {
    pub task: Arc<TaskRecord>,
    /// The answer to the submit that made the task, if it had an `Idempotency-Key`.
    pub answer: Option<Arc<FirstAnswer>>,
    /// Submits that may have made the task and can't be answered: their keys stay taken, so that they make no second one.
    pub unanswered: Vec<Arc<KeyedSubmit>>,
    /// The hold of the submit, which becomes the task's.
    pub hold: Option<Arc<str>>,
    pub at: SystemTime,
}

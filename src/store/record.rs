//! Records of the store and how long they are kept: an upload directory with its owner, a secret of a virtual key. Tasks have
//! a file of their own.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::config::KeyLimits;
use crate::dashscope::oss;
use crate::dashscope::task;
use crate::net::networks::Networks;

/// Ids of the request that submitted a task. They stand in the store alone: a record of each running task in memory would be
/// a third longer with them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestIds {
    /// Our id, as the access log has it.
    pub own: Box<str>,
    /// DashScope's id, as the client has it; `None` if the answer had none.
    pub upstream: Option<Box<str>>,
}

impl RequestIds {
    /// True for a text that is kept, and sought, as the id of a request.
    pub fn is_id(text: &str) -> bool {
        (1..=MOST_REQUEST_ID).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
    }
}

/// The directory of an upload policy that a tenant was given. Files below the directory belong to the tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadRecord {
    pub tenant: Arc<str>,
    pub directory: Arc<str>,
    /// The model that the client named, up to 128 bytes.
    pub model: Box<str>,
    /// The account that stores the files.
    pub account: Arc<str>,
    pub issued_at: SystemTime,
}

impl UploadRecord {
    /// Cuts the field that a client chooses to its longest length.
    pub(super) fn shorten(&mut self) {
        shorten(&mut self.model, MOST_MODEL_BYTES);
    }
}

pub(super) fn shorten(text: &mut Box<str>, most: usize) {
    if text.len() > most {
        let end = (0..=most).rev().find(|end| text.is_char_boundary(*end));
        *text = text[..end.unwrap_or(0)].into();
    }
}

/// One secret of a virtual key. A key that is being rotated has two for a while, under the same id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRecord {
    /// The key's loggable name.
    pub id: Arc<str>,
    pub tenant: Arc<str>,
    /// SHA-256 of the secret. The secret itself is stored nowhere.
    pub sha256: [u8; 32],
    pub created_at: SystemTime,
    pub expires: Option<SystemTime>,
    pub revoked_at: Option<SystemTime>,
    /// End of the grace period in which the secret works beside its successor.
    pub retires_at: Option<SystemTime>,
    /// Details of the key, the same for all its secrets; `None` if there are none.
    #[serde(default)]
    pub details: Option<Arc<KeyDetails>>,
}

/// Details that an operator gives a key beside its tenant and its end.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct KeyDetails {
    /// From where the key is good, in place of its tenant's addresses; empty: those count.
    pub addresses: Networks,
    /// Words for the operator's eyes.
    pub note: Option<Box<str>>,
    /// Limits of the key's own, in place of those of each key of its tenant.
    #[serde(default)]
    pub limits: Option<Box<KeyLimits>>,
}

impl KeyDetails {
    /// The details for many hands; `None` if there are none.
    pub fn shared(self) -> Option<Arc<Self>> {
        (self != Self::default()).then(|| Arc::new(self))
    }
}

/// DashScope forgets a task after 24 hours; a day of grace follows.
pub const TASKS_KEPT: Duration = task::LIFETIME.saturating_mul(2);
/// A policy is good for some minutes before the file's lifetime begins.
pub const UPLOADS_KEPT: Duration = oss::FILE_LIFETIME.saturating_add(Duration::from_secs(3600));
/// Time for which the record of an ended key stays, so that the answer to a call with the key says that it has ended.
/// Then the key's id is free again.
pub const ENDED_KEYS_KEPT: Duration = Duration::from_secs(30 * 24 * 3600);
/// Longest id of a request that is kept: DashScope's have 36 bytes.
const MOST_REQUEST_ID: usize = 128;
/// Longest task id or upload directory: DashScope's task ids have 36 bytes, and its directories about 100.
pub(super) const MOST_ID_BYTES: usize = 256;
/// Longest model that a record names.
pub const MOST_MODEL_BYTES: usize = 128;

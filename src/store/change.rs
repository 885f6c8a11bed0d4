//! Changes of durable state.

use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::{KeyRecord, TaskRecord, UploadRecord};

/// One change of durable state; the other process of a hand-over gets it as JSON.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Change {
    Claim(Arc<TaskRecord>),
    Hide {
        id: Box<str>,
        claimed_at: SystemTime,
    },
    KeepUpload {
        upload: UploadRecord,
        /// An older directory of the tenant, which is deleted to make room.
        displaced: Option<Arc<str>>,
    },
    CreateKey(KeyRecord),
    RotateKey {
        successor: KeyRecord,
        old_until: SystemTime,
    },
    RevokeKey {
        id: Box<str>,
        at: SystemTime,
    },
}

//! The audit's rows: who asked for a change of the gateway, and how it ended.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

/// One change that somebody asked for. No field holds a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRecord {
    pub at: SystemTime,
    /// Name of the admin token; `None` for the token without a name, and for a change without a token.
    pub by: Option<Box<str>>,
    /// Fingerprint of the admin token; empty for a change without one.
    pub token: Box<str>,
    /// The client's address; empty where no client asked.
    pub peer: Box<str>,
    pub action: Box<str>,
    /// Kind and name of the thing that was to be changed, like `key/acme-prod`; empty where it was not recognised.
    pub object: Box<str>,
    /// `done`, or the code of the problem.
    pub outcome: Box<str>,
    /// Effect of the request, in words: `changed`, `perhaps changed`, `not changed` or `tried`.
    pub effect: Box<str>,
    /// Further facts, as the text of a JSON object.
    pub detail: Box<str>,
    /// The replica that was asked; empty where there is one process.
    pub replica: Box<str>,
}

impl AuditRecord {
    /// A change that no admin token asked for, made at this replica.
    pub fn without_token(
        replica: Option<&str>,
        at: SystemTime,
        action: &str,
        object: String,
        detail: String,
    ) -> Self {
        Self {
            at,
            by: None,
            token: Box::default(),
            peer: Box::default(),
            action: action.into(),
            object: object.into(),
            outcome: "done".into(),
            effect: "changed".into(),
            detail: detail.into(),
            replica: replica.unwrap_or_default().into(),
        }
    }
}

/// The rows that are asked for, newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditQuery {
    /// Rows of the token with this name; the empty name stands for the token without one.
    pub by: Option<Box<str>>,
    pub object: Option<Box<str>>,
    /// Rows before this number.
    pub after: Option<i64>,
    pub limit: usize,
}

/// Time for which rows are kept: as long as entries of use.
pub(super) const AUDIT_KEPT: Duration = Duration::from_secs(400 * 24 * 3600);
/// Rows that are kept: some 300 MB, of a row each half minute for 400 days. A caller with a token that makes more rows drives
/// out the oldest ones, and can't fill the disk.
pub(super) const MOST_AUDIT_ROWS: i64 = 1_000_000;

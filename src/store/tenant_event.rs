//! Events that tenants are told of, as the store keeps them until each endpoint has them.

use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::entry::{Entry, LOST};
use crate::config::EventType;
use crate::dashscope::task::Status;
use crate::usage::Amount;

/// An event that a tenant is told of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum TenantEvent {
    TaskEnded {
        entry: Box<Entry>,
        report: EndReport,
    },
    Budget(BudgetEvent),
    /// A key expires soon.
    KeyExpiring {
        key_id: Arc<str>,
        expires: SystemTime,
        at: SystemTime,
    },
    /// The operator tries the endpoints.
    Test {
        at: SystemTime,
    },
}

/// A level of a budget, or of a prepaid balance, that is passed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BudgetEvent {
    /// All is used, and not only 80 %.
    pub is_spent: bool,
    /// Name of the budget's period, or `prepaid`.
    pub period: Box<str>,
    /// The budget; or the credits of a prepaid tenant.
    pub amount: Amount,
    pub spent: Amount,
    pub held: Amount,
    /// When the budget begins anew; `None`: never.
    pub renews_at: Option<SystemTime>,
    pub at: SystemTime,
}

/// Parts of the answer that told a task's end, beside its use.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndReport {
    /// DashScope's id of the answer; empty where it told none.
    pub request_id: Box<str>,
    /// End of the task by the upstream's clock, if its answer says.
    pub ended_at: Option<SystemTime>,
    /// DashScope's code for why the task failed; empty where there is none.
    pub code: Box<str>,
    pub message: Box<str>,
    /// The answer's `output`, as JSON; `None` where nobody asks for it, or it is too long.
    pub output: Option<Box<str>>,
}

impl EndReport {
    /// Memory of the texts.
    pub(super) fn bytes(&self) -> usize {
        let Self { request_id, ended_at: _, code, message, output } = self;
        let output = output.as_ref().map_or(0, |output| output.len());
        request_id.len() + code.len() + message.len() + output
    }
}

impl TenantEvent {
    pub fn event_type(&self) -> EventType {
        match self {
            Self::TaskEnded { entry, report: _ } if *entry.status == *LOST => EventType::TaskLost,
            Self::TaskEnded { entry, report: _ } => match Status::from_name(&entry.status) {
                Status::Succeeded => EventType::TaskSucceeded,
                Status::Canceled => EventType::TaskCanceled,
                Status::Failed
                | Status::Pending
                | Status::Running
                | Status::Suspended
                | Status::Unknown
                | Status::Other => EventType::TaskFailed,
            },
            Self::Budget(event) if event.is_spent => EventType::BudgetSpent,
            Self::Budget(_) => EventType::BudgetWarning,
            Self::KeyExpiring { .. } => EventType::KeyExpiring,
            Self::Test { .. } => EventType::WebhookTest,
        }
    }

    /// Time of the event.
    pub fn at(&self) -> SystemTime {
        match self {
            Self::TaskEnded { entry, report } => report.ended_at.unwrap_or(entry.at),
            Self::Budget(event) => event.at,
            Self::KeyExpiring { at, .. } | Self::Test { at } => *at,
        }
    }
}

/// Longest `output` that is told, in bytes of JSON. A transcription of a hundred files has 200 KB.
pub const MOST_OUTPUT_BYTES: usize = 256 * 1024;

//! Entries of the ledger: what was used, written once and never changed.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::record::{MOST_MODEL_BYTES, shorten};
use crate::dashscope::operation::Operation;
use crate::dashscope::usage::Units;
use crate::usage::Charge;

/// One record of use. Times are kept to the millisecond.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub source: EntrySource,
    /// When the use was settled. Where the ledger has a later entry, its time takes the place of an earlier one.
    pub at: SystemTime,
    pub tenant: Arc<str>,
    pub key_id: Arc<str>,
    pub account: Arc<str>,
    pub model: Box<str>,
    /// The prefix of the mount that the call came by.
    pub mount: Arc<str>,
    /// Name of the call's operation.
    pub operation: Cow<'static, str>,
    pub submitted_at: SystemTime,
    /// End of a task as DashScope names it, or [`LOST`]; empty for calls.
    pub status: Box<str>,
    pub units: Units,
    /// What the price depends on beside model and unit: a resolution, a mode; empty where there is none.
    pub class: Box<str>,
    /// The upstream's `usage` object, byte for byte; empty where it told none, or a longer one than is kept.
    pub usage: Box<str>,
    pub flags: EntryFlags,
    /// Cost of the use to the tenant. The amount of a credit is the money that was paid in.
    #[serde(default)]
    pub charge: Charge,
    #[serde(default)]
    pub remark: Remark,
}

/// Texts that an operator adds to a credit or a correction.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remark {
    /// The label of the entry that is corrected; empty where there is none.
    pub corrects: Box<str>,
    /// Words for those who read the ledger.
    pub note: Box<str>,
}

/// The one thing that an entry is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum EntrySource {
    /// A task, by its id; it is one only together with its account.
    Task(Arc<str>),
    /// A call, by the id of its request.
    Call(Arc<str>),
    /// One of the tasks or answers in a WebSocket: the id of the handshake's request, and a number.
    Socket(Arc<str>),
    /// Money paid in, by the caller's id.
    Credit(Arc<str>),
    /// A change of what was charged, by the caller's id.
    Correction(Arc<str>),
}

/// Properties of an entry that are uncertain or unusual.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryFlags {
    /// Units were counted by the gateway, as the upstream told none.
    pub is_estimated: bool,
    /// The answer broke off, or its client left.
    pub is_cut: bool,
    /// The upstream's `usage` was not understood, so the units are not all that was used.
    pub is_unread: bool,
    /// No client was told of the task at first: its answer was lost.
    #[serde(default)]
    pub is_adopted: bool,
}

impl Entry {
    /// The operation of a task's entry, by whether the task was submitted in the unified dialect.
    pub const fn task_operation(is_unified: bool) -> &'static str {
        if is_unified { Operation::VideoCreate.name() } else { Operation::Submit.name() }
    }

    /// True if a name that a client or the upstream chooses is longer than the store takes it.
    pub(super) fn is_long(&self) -> bool {
        [&self.model, &self.status, &self.class].into_iter().any(|name| name.len() > MOST_MODEL_BYTES)
    }

    /// Cuts the names that a client or the upstream chooses to their longest length: an index of PostgreSQL takes none of
    /// some thousand bytes.
    pub(super) fn shorten(&mut self) {
        for name in [&mut self.model, &mut self.status, &mut self.class] {
            shorten(name, MOST_MODEL_BYTES);
        }
    }
}

impl EntrySource {
    /// `task:main/0f4c...`, `call:5f1e...`: unique in the ledger.
    pub fn label(&self, account: &str) -> String {
        match self {
            Self::Task(id) => format!("task:{account}/{id}"),
            Self::Call(id) => format!("call:{id}"),
            Self::Socket(id) => format!("socket:{id}"),
            Self::Credit(id) => format!("credit:{id}"),
            Self::Correction(id) => format!("correction:{id}"),
        }
    }

    /// Reads a [`Self::label`]; `None` for any other text. The account is empty for all but tasks.
    pub fn of_label(label: &str) -> Option<(&str, Self)> {
        let (kind, id) = label.split_once(':')?;
        let (account, id) = if kind == "task" { id.split_once('/')? } else { ("", id) };
        let source = match kind {
            "task" => Self::Task,
            "call" => Self::Call,
            "socket" => Self::Socket,
            "credit" => Self::Credit,
            "correction" => Self::Correction,
            _ => return None,
        };
        (!id.is_empty()).then(|| (account, source(id.into())))
    }

    /// The kind's number in the store, and the id.
    pub(super) fn columns(&self) -> (u8, &Arc<str>) {
        match self {
            Self::Task(id) => (0, id),
            Self::Call(id) => (1, id),
            Self::Socket(id) => (2, id),
            Self::Credit(id) => (CREDIT, id),
            Self::Correction(id) => (CREDIT + 1, id),
        }
    }

    /// The source of [`Self::columns`].
    pub(super) fn of_columns(kind: u8, id: Arc<str>) -> Self {
        match kind {
            0 => Self::Task(id),
            2 => Self::Socket(id),
            CREDIT => Self::Credit(id),
            4 => Self::Correction(id),
            _ => Self::Call(id),
        }
    }
}

/// One request or one task whose entries are sought, with the corrections of these entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WantedSource {
    /// A call by the id of its request, or what went through a socket by that of its handshake.
    Request(Box<str>),
    /// A task by its id, of any account.
    Task(Box<str>),
}

impl WantedSource {
    pub(super) fn id(&self) -> &str {
        match self {
            Self::Request(id) | Self::Task(id) => id,
        }
    }

    pub(super) fn is(&self, entry: &Entry) -> bool {
        if let EntrySource::Correction(_) = entry.source {
            let corrected = EntrySource::of_label(&entry.remark.corrects);
            return corrected.is_some_and(|(_, source)| self.is_source(&source));
        }
        self.is_source(&entry.source)
    }

    fn is_source(&self, source: &EntrySource) -> bool {
        match (self, source) {
            (Self::Task(wanted), EntrySource::Task(id)) | (Self::Request(wanted), EntrySource::Call(id)) => {
                **id == **wanted
            }
            (Self::Request(wanted), EntrySource::Socket(id)) => {
                id.rsplit_once('/').map_or(&**id, |(request, _)| request) == &**wanted
            }
            (Self::Task(_) | Self::Request(_), _) => false,
        }
    }
}

impl EntryFlags {
    /// Names of the flags, for reports.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        let flags = [
            ("estimated", self.is_estimated),
            ("cut", self.is_cut),
            ("unread", self.is_unread),
            ("adopted", self.is_adopted),
        ];
        flags.into_iter().filter(|(_, is_set)| *is_set).map(|(name, _)| name)
    }

    pub(super) fn bits(self) -> u8 {
        u8::from(self.is_estimated)
            | u8::from(self.is_cut) << 1
            | u8::from(self.is_unread) << 2
            | u8::from(self.is_adopted) << 3
    }

    pub(super) const fn from_bits(bits: u8) -> Self {
        Self {
            is_estimated: bits & 1 != 0,
            is_cut: bits & 2 != 0,
            is_unread: bits & 4 != 0,
            is_adopted: bits & 8 != 0,
        }
    }
}

/// Status of a task that DashScope forgot before it told an end.
pub const LOST: &str = "lost";
/// Ids of corrections that follow from new prices begin with this.
pub const REPRICED: &str = "reprice:";
/// Entries of this kind and the next bear ids that operators choose; the index of these ids names the number too.
pub(super) const CREDIT: u8 = 3;

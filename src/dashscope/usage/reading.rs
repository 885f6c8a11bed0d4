//! The use that an answer tells.

use super::unit::Units;

/// A `usage` object that was understood.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    /// Empty if the object says that nothing was used.
    pub units: Units,
    /// What the price depends on beside the unit: `720P`, `pro`, `2K`; empty if the object names nothing of the kind.
    pub class: Box<str>,
    /// The object byte for byte; empty if it is longer than 2 KiB.
    pub raw: Box<str>,
}

/// What an answer tells of the use of its call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reading {
    Read(Usage),
    /// The answer has a `usage` that is not understood, or should have one and has none. Never to be taken for zero.
    Unread {
        /// The object byte for byte; `None` if there is none or it is longer than 2 KiB.
        raw: Option<Box<str>>,
    },
    /// The answer tells of a call that failed, and DashScope bills nothing for it.
    Unused,
}

impl Reading {
    /// The use, and true if it is not all that was used; `None` if nothing was used.
    pub fn into_use(self) -> Option<(Usage, bool)> {
        match self {
            Self::Read(usage) => Some((usage, false)),
            Self::Unread { raw } => Some((Usage { raw: raw.unwrap_or_default(), ..Usage::default() }, true)),
            Self::Unused => None,
        }
    }
}

/// The most bytes of a `usage` object that are kept: an entry of the ledger has room for no more.
const LONGEST_RAW: usize = 2048;

/// The text of a `usage` object if it may be kept.
pub(super) fn kept(raw: &[u8]) -> Option<Box<str>> {
    std::str::from_utf8(raw).ok().filter(|raw| raw.len() <= LONGEST_RAW).map(Into::into)
}

//! The two engines, as the writer sees them.

use super::embedded::engine::EmbeddedEngine;
use super::fault::StoreCause;
use super::sql::database::Database;
use super::sql::fault::Result as SqlResult;

#[derive(Debug)]
pub(super) enum Engine {
    /// One file of this machine.
    Embedded(EmbeddedEngine),
}

impl Engine {
    /// Runs a transaction. After a fault it shows in any case whether the store can be written.
    pub(super) fn transact<T>(
        &mut self,
        after_fault: bool,
        work: impl FnOnce(Database<'_>) -> SqlResult<T>,
    ) -> Result<T, StoreCause> {
        match self {
            Self::Embedded(engine) => engine.transact(after_fault, work),
        }
    }

    /// True if the store must be opened again.
    pub(super) fn must_reopen(&mut self) -> Result<bool, StoreCause> {
        match self {
            Self::Embedded(engine) => engine.has_shrunk(),
        }
    }

    /// Gives space for changes that must still be written though the disk is full; false if there is none.
    pub(super) fn release_reserve(&mut self) -> bool {
        match self {
            Self::Embedded(engine) => engine.release_reserve(),
        }
    }

    /// Takes space for the reserve, where it has none.
    pub(super) fn reserve(&mut self) -> Result<(), StoreCause> {
        match self {
            Self::Embedded(engine) => engine.reserve(),
        }
    }

    /// False after a full disk, until there is space again.
    pub(super) fn has_reserve(&self) -> bool {
        match self {
            Self::Embedded(engine) => engine.has_reserve(),
        }
    }

    pub(super) fn failed(&mut self, cause: &StoreCause) {
        match self {
            Self::Embedded(engine) => engine.failed(cause),
        }
    }

    /// Work after a commit: rows are new or changed by it.
    pub(super) fn tidy(&mut self, new_rows: usize, changed_rows: usize) {
        match self {
            Self::Embedded(engine) => {
                engine.note_rows(new_rows, changed_rows);
                engine.checkpoint();
            }
        }
    }
}

//! The two engines, as the writer sees them.

use super::embedded::engine::EmbeddedEngine;
use super::fault::StoreCause;
use super::shared::engine::SharedEngine;
use super::shared::kept_commits::WrittenCommit;
use super::sql::database::Database;
use super::sql::fault::Result as SqlResult;

#[derive(Debug)]
pub(super) enum Engine {
    /// One file of this machine.
    Embedded(EmbeddedEngine),
    /// A database that several replicas share.
    Shared(SharedEngine),
}

impl Engine {
    /// Begins a transaction of a shared store, unless one has begun. True if what was read before may be gone, as after a
    /// fail-over.
    pub(super) fn begin(&mut self) -> Result<bool, StoreCause> {
        match self {
            Self::Embedded(_) => Ok(false),
            Self::Shared(engine) => engine.begin(),
        }
    }

    /// Runs a transaction, and tells it whether nobody else has written since this engine's last one. After a fault it
    /// shows in any case whether the store can be written. Other replicas are told what comes beside the result.
    pub(super) fn transact<T>(
        &mut self,
        after_fault: bool,
        work: impl FnOnce(Database<'_>, bool) -> SqlResult<(T, WrittenCommit)>,
    ) -> Result<T, StoreCause> {
        match self {
            Self::Embedded(engine) => engine.transact(after_fault, work).map(|(done, _)| done),
            Self::Shared(engine) => engine.transact(|database| work(database, false)),
        }
    }

    /// True if the store must be opened again. `is_doubtful`: a connection to the database was lost.
    pub(super) fn must_reopen(&mut self, is_doubtful: bool) -> Result<bool, StoreCause> {
        match self {
            Self::Embedded(engine) => engine.has_shrunk(),
            Self::Shared(engine) => Ok(!engine.answers(is_doubtful)),
        }
    }

    /// True if other replicas write to the store too.
    pub(super) fn is_shared(&self) -> bool {
        match self {
            Self::Embedded(_) => false,
            Self::Shared(_) => true,
        }
    }

    /// Number of commits that are sent again to a database that has lost them.
    pub(super) fn kept_commits(&self) -> usize {
        match self {
            Self::Embedded(_) => 0,
            Self::Shared(engine) => engine.kept_commits(),
        }
    }

    /// Gives space for changes that must still be written though the disk is full; false if there is none.
    pub(super) fn release_reserve(&mut self) -> bool {
        match self {
            Self::Embedded(engine) => engine.release_reserve(),
            Self::Shared(_) => false,
        }
    }

    /// Takes space for the reserve, where it has none.
    pub(super) fn reserve(&mut self) -> Result<(), StoreCause> {
        match self {
            Self::Embedded(engine) => engine.reserve(),
            Self::Shared(_) => Ok(()),
        }
    }

    /// False after a full disk, until there is space again.
    pub(super) fn has_reserve(&self) -> bool {
        match self {
            Self::Embedded(engine) => engine.has_reserve(),
            Self::Shared(_) => true,
        }
    }

    pub(super) fn failed(&mut self, cause: &StoreCause) {
        match self {
            Self::Embedded(engine) => engine.failed(cause),
            Self::Shared(_) => {}
        }
    }

    /// Work after a commit: rows are new or changed by it.
    pub(super) fn tidy(&mut self, new_rows: usize, changed_rows: usize) {
        match self {
            Self::Embedded(engine) => {
                engine.note_rows(new_rows, changed_rows);
                engine.checkpoint();
            }
            Self::Shared(_) => {}
        }
    }
}

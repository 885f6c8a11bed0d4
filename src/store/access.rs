//! Reads of the store, and the follower of other replicas.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use super::embedded::file;
use super::fault::StoreCause;
use super::shared::follower::FollowerHandle;
use super::shared::readers::Readers;
use super::shared::spool::Spool;
use super::sql::database::Database;

#[derive(Debug)]
pub(super) enum Access {
    Embedded {
        path: Arc<Path>,
        /// Held while the file is opened, or is read while it can't be written.
        opening: Arc<Mutex<()>>,
    },
    Shared {
        readers: Arc<Readers>,
        /// Set once the mirrors are loaded.
        follower: OnceLock<FollowerHandle>,
        /// Claims wait there that the database can't take just now.
        spool: Option<Arc<Spool>>,
    },
}

impl Access {
    /// Access to a file alone, for tests.
    #[cfg(test)]
    pub(super) fn embedded(path: &Path) -> Self {
        Self::Embedded { path: path.into(), opening: Arc::default() }
    }

    /// Lets callers wait for what other replicas have committed.
    pub(super) fn set_follower(&self, handle: FollowerHandle) {
        match self {
            Self::Embedded { .. } => {}
            // The mirrors are loaded once.
            Self::Shared { follower, .. } => drop(follower.set(handle)),
        }
    }

    pub(super) fn spool(&self) -> Option<&Arc<Spool>> {
        match self {
            Self::Embedded { .. } => None,
            Self::Shared { spool, .. } => spool.as_ref(),
        }
    }

    /// Reads from one state of the store. Blocks.
    pub(super) fn read<T, E>(
        &self,
        is_faulty: bool,
        read: impl FnOnce(Database<'_>) -> Result<T, E>,
    ) -> Result<T, StoreCause>
    where
        StoreCause: From<E>,
    {
        match self {
            Self::Embedded { path, opening } => {
                // While the disk is full, a reader may need the file alone, and would keep the writer from opening it.
                let _turn = is_faulty.then(|| opening.lock());
                let connection = file::open_to_read(path)?;
                let transaction = connection.unchecked_transaction()?;
                Ok(read(Database::Embedded(&transaction))?)
            }
            Self::Shared { readers, follower: _, spool: _ } => readers.read(read),
        }
    }

    /// Returns once all is known here that any replica had committed before this call.
    pub(super) async fn catch_up(&self) -> Result<(), StoreCause> {
        match self {
            Self::Embedded { .. } => Ok(()),
            Self::Shared { follower, .. } => match follower.get() {
                Some(follower) => follower.catch_up().await.map_err(StoreCause::from),
                None => Ok(()),
            },
        }
    }
}

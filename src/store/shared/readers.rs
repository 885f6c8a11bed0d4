//! Connections that read: one that is kept, and more for reads at the same time.

use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use super::connect::DatabaseAddress;
use super::session::Session;
use crate::store::fault::StoreCause;
use crate::store::sql::database::Database;
use crate::store::sql::fault::Result as SqlResult;

#[derive(Debug)]
pub(in crate::store) struct Readers {
    address: DatabaseAddress,
    idle: Mutex<Vec<Session>>,
    free: Mutex<usize>,
    freed: Condvar,
}

impl Readers {
    pub(in crate::store) fn new(address: DatabaseAddress) -> Arc<Self> {
        Arc::new(Self {
            address,
            idle: Mutex::default(),
            free: Mutex::new(MOST_READERS),
            freed: Condvar::new(),
        })
    }

    /// Runs reads of one state of the store. Blocks, also for a free connection where several are in use.
    pub(in crate::store) fn read<T, E>(
        &self,
        read: impl FnOnce(Database<'_>) -> Result<T, E>,
    ) -> Result<T, StoreCause>
    where
        StoreCause: From<E>,
    {
        let _turn = self.turn();
        let kept = self.idle.lock().pop().filter(Session::is_open);
        let session = match kept {
            Some(session) if begin(&session).is_ok() => session,
            // A kept connection may be dead without a word.
            Some(_) | None => {
                let session = Session::open(&self.address)?;
                begin(&session)?;
                session
            }
        };
        let done = read(Database::Shared(&session))?;
        session.batch("COMMIT")?;
        let mut idle = self.idle.lock();
        if idle.is_empty() {
            idle.push(session);
        }
        Ok(done)
    }

    fn turn(&self) -> ReaderTurn<'_> {
        let mut free = self.free.lock();
        while *free == 0 {
            self.freed.wait(&mut free);
        }
        *free -= 1;
        ReaderTurn(self)
    }
}

struct ReaderTurn<'r>(&'r Readers);

impl Drop for ReaderTurn<'_> {
    fn drop(&mut self) {
        *self.0.free.lock() += 1;
        self.0.freed.notify_one();
    }
}

fn begin(session: &Session) -> SqlResult<()> {
    session.batch("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
}

const MOST_READERS: usize = 4;

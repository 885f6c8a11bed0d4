//! The list of orphans, which is the same on each replica: an account's leader writes what it has found into a cell, and
//! all read the cells. A gateway without replicas lists what it has found.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::join_all;

use super::shared::Shared;
use crate::polling::{SearchedAccount, told_orphans};

impl Shared {
    /// Tells the other replicas of the orphans of the accounts that this replica leads.
    pub(super) async fn tell_orphans(&self, searched: &[SearchedAccount]) {
        if !self.store.has_replicas() {
            return;
        }
        for search in searched.iter().filter(|search| self.hub.leads(&search.account, Instant::now())) {
            // A list that could not be written is written after the next search.
            self.write_orphans(&search.account, told_orphans(&search.unclaimed())).await;
        }
    }

    async fn write_orphans(&self, account: &Arc<str>, told: Bytes) {
        let (exchange, name) = (self.store.exchange(), cell_name(account));
        let Ok(cell) = exchange.cell(&name).await else { return };
        // A cell that is not written for a day is deleted.
        let is_fresh = told.is_empty() || cell.age() < WRITTEN_AGAIN;
        if cell.value != told || !is_fresh {
            let _ = exchange.swap(&name, cell.version, told).await;
        }
    }

    /// Reads what the accounts' leaders have found. Where the database does not answer, the list stays as it was.
    pub async fn read_orphans(&self) {
        if !self.store.has_replicas() || self.store.exchange().is_away() {
            return;
        }
        let directory = self.directory.load_full();
        let reads = directory.accounts.iter().map(|account| async {
            if let Ok(cell) = self.store.exchange().cell(&cell_name(&account.name)).await {
                self.hub.take_told_orphans(&account.name, &cell.value);
            }
        });
        join_all(reads).await;
    }
}

fn cell_name(account: &str) -> String {
    format!("orphans/{account}")
}

const WRITTEN_AGAIN: Duration = Duration::from_secs(3600);

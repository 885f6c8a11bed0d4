//! Reports of use: sums of the ledger's entries, and the entries themselves. The ledger is read on threads of its own.

mod entries;
mod reprice;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::SystemTime;

use hyper::StatusCode;
use tokio::task::spawn_blocking;

use self::entries::EntriesQuery;
use super::Admin;
use super::problem::Problem;
use super::response::{AdminResponse, answer, csv, json};
use crate::reports::query::{Format, Reader, UsageQuery};
use crate::reports::report::{Report, TooManyGroups};

impl Admin {
    pub(super) async fn report_usage(&self, query: &str) -> Result<AdminResponse, Problem> {
        let UsageQuery { filter, by, format } =
            UsageQuery::parse(query, Reader::Operator, self.shared.store.zone(), SystemTime::now())?;
        let zone = self.shared.store.zone();
        let currency = Arc::clone(&self.shared.directory.load().settings.usage.currency);
        let report = self
            .scan(move |store| {
                let (mut report, mut full) = (Report::new(by, MOST_ROWS, zone), Ok(()));
                store.entries(filter.settled, |entry| {
                    if filter.lets_through(&entry) {
                        full = report.add(&entry);
                    }
                    if full.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
                })?;
                Ok(full.map(|()| (report, filter)))
            })
            .await?;
        let (report, filter) = report.map_err(|TooManyGroups| Problem::TooManyGroups)?;
        Ok(match format {
            Format::Json => answer(StatusCode::OK, &report.to_json(filter.settled, &currency)),
            Format::Csv => csv(report.to_csv()),
        })
    }

    pub(super) async fn list_entries(&self, query: &str) -> Result<AdminResponse, Problem> {
        let query = EntriesQuery::parse(query, self.shared.store.zone(), SystemTime::now())?;
        let currency = Arc::clone(&self.shared.directory.load().settings.usage.currency);
        let page = self.scan(move |store| entries::page(&store, &query, &currency)).await?;
        Ok(json(StatusCode::OK, page.into()))
    }

    /// Reads the ledger on a blocking thread; so many scans at the same time that the disk is not kept from its writer.
    pub(super) async fn scan<T: Send + 'static>(
        &self,
        scan: impl FnOnce(crate::store::Store) -> Result<T, crate::store::StoreFault> + Send + 'static,
    ) -> Result<T, Problem> {
        let turn = Arc::clone(&self.scans).try_acquire_owned().map_err(|_| Problem::ReportsBusy)?;
        let store = self.shared.store.clone();
        let scanned = spawn_blocking(move || {
            let _turn = turn;
            scan(store)
        });
        scanned.await.map_err(|_| Problem::Panicked)?.map_err(Problem::Unreadable)
    }
}

/// Reports that may run at the same time.
pub const MOST_SCANS: usize = 2;
/// Rows of a report at most.
const MOST_ROWS: usize = 100_000;

//! Reports over the tenant's own entries. The ledger is read on a thread of its own.

use std::ops::ControlFlow;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

use hyper::Response;
use hyper::header::HeaderValue;
use serde_json::{Value, json};
use tokio::task::spawn_blocking;

use super::fault::{ReportFault, ViewFault};
use crate::proxy::exchange::Exchange;
use crate::proxy::observe::Observed;
use crate::proxy::worker::Proxy;
use crate::reports::query::{EntryFilter, Format, Reader, UsageQuery};
use crate::reports::report::{Dimension, Report, TooManyGroups};

/// The report of `GET dashgate/v1/usage`.
///
/// # Errors
/// `BadField` for a parameter that can't be read; why the report can't be made; the fault of a key that is revoked
/// meanwhile.
pub(super) async fn usage(
    proxy: &Proxy,
    query: &str,
    exchange: &Rc<Exchange>,
) -> Result<Response<Observed>, ViewFault> {
    let zone = proxy.shared.store.zone();
    let tenant = proxy.shared.store.tenant_names().current(&exchange.permit().tenant().name);
    let reader = Reader::Tenant(&tenant);
    let UsageQuery { filter, by, format } = UsageQuery::parse(query, reader, zone, SystemTime::now())?;
    let settled = filter.settled;
    let report = read(proxy, filter, by, exchange).await?;
    let currency = &exchange.directory().settings.usage.currency;
    Ok(match format {
        Format::Json => super::answer(&report.to_json(settled, currency), exchange),
        Format::Csv => {
            super::text(report.to_csv().into(), HeaderValue::from_static("text/csv; charset=utf-8"), exchange)
        }
    })
}

/// The answer to `GET dashboard/billing/usage`: what was spent from `start_date` until before `end_date`, in hundredths of
/// the currency's unit.
///
/// # Errors
/// The errors of [`usage`].
pub(super) async fn spent(proxy: &Proxy, query: &str, exchange: &Rc<Exchange>) -> Result<Value, ViewFault> {
    let zone = proxy.shared.store.zone();
    let tenant = proxy.shared.store.tenant_names().current(&exchange.permit().tenant().name);
    let filter = EntryFilter::of_dates(query, &tenant, zone, SystemTime::now())?;
    let report = read(proxy, filter, Vec::new(), exchange).await?;
    Ok(json!({ "object": "list", "total_usage": report.spent() as f64 / HUNDREDTH }))
}

/// Adds up the entries that the filter lets through.
async fn read(
    proxy: &Proxy,
    filter: EntryFilter,
    by: Vec<Dimension>,
    exchange: &Rc<Exchange>,
) -> Result<Report, ViewFault> {
    let (store, turns) = (proxy.shared.store.clone(), &proxy.shared.report_turns);
    let tenant = Arc::clone(&exchange.permit().tenant().name);
    // The reader stops when its client has left.
    let client = Arc::new(());
    let waits = Arc::downgrade(&client);
    let reading = pin!(async {
        let turn = match turns.take(&tenant).await {
            Ok(turn) => turn,
            Err(none) => return Ok(Err(ReportFault::from(none))),
        };
        let read = spawn_blocking(move || {
            let _turn = turn;
            let (mut report, mut full) = (Report::new(by, MOST_ROWS, store.zone()), Ok(()));
            let read = store.entries_of(&tenant, filter.settled, |entry| {
                if filter.lets_through(&entry) {
                    full = report.add(&entry);
                }
                let goes_on = full.is_ok() && waits.strong_count() > 0;
                if goes_on { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            });
            match (read, full) {
                (Ok(()), Ok(())) => Ok(report),
                (Ok(()), Err(TooManyGroups)) => Err(ReportFault::TooManyRows),
                (Err(fault), _) => {
                    tracing::warn!(%fault, "the ledger can't be read for a tenant's report");
                    Err(ReportFault::Unreadable)
                }
            }
        });
        Ok(read.await.unwrap_or(Err(ReportFault::Unreadable)))
    });
    let report = exchange.unless_revoked(reading).await;
    drop(client);
    Ok(report??)
}

/// Billionths in a hundredth of the currency's unit.
const HUNDREDTH: f64 = 1e7;
/// Rows of a tenant's report at most, some 5 MB.
const MOST_ROWS: usize = 10_000;

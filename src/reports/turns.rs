//! Turns of tenants' reports: a few run at the same time, so that the disk is not kept from its writer, and none keeps
//! others out.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::RandomState;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// Turns of the process, which those who wait take in the order of their coming.
#[derive(Debug)]
pub struct ReportTurns {
    free: Arc<Semaphore>,
    /// Tenants with a report that runs or waits: each has one at most, and so the next turn is another's.
    tenants: Arc<Mutex<HashSet<Arc<str>, RandomState>>>,
}

/// Leave to run one report, until this is dropped.
#[derive(Debug)]
pub struct ReportTurn {
    _free: OwnedSemaphorePermit,
    _place: TenantPlace,
}

/// Why a report may not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoTurn {
    /// Another report of the tenant runs or waits.
    OwnReportRuns,
    /// Reports of other tenants ran for all the time that may be waited.
    Busy,
}

/// A tenant's place among those that run or wait.
#[derive(Debug)]
struct TenantPlace {
    tenant: Arc<str>,
    tenants: Arc<Mutex<HashSet<Arc<str>, RandomState>>>,
}

impl Default for ReportTurns {
    fn default() -> Self {
        Self { free: Arc::new(Semaphore::new(MOST_AT_ONCE)), tenants: Arc::default() }
    }
}

impl ReportTurns {
    /// Waits a while for a turn.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn take(&self, tenant: &Arc<str>) -> Result<ReportTurn, NoTurn> {
        if !self.tenants.lock().insert(Arc::clone(tenant)) {
            return Err(NoTurn::OwnReportRuns);
        }
        let place = TenantPlace { tenant: Arc::clone(tenant), tenants: Arc::clone(&self.tenants) };
        let free = timeout(LONGEST_WAIT, Arc::clone(&self.free).acquire_owned()).await;
        match free {
            Ok(Ok(free)) => Ok(ReportTurn { _free: free, _place: place }),
            Ok(Err(_)) | Err(_) => Err(NoTurn::Busy),
        }
    }
}

impl Drop for TenantPlace {
    fn drop(&mut self) {
        self.tenants.lock().remove(&self.tenant);
    }
}

const MOST_AT_ONCE: usize = 2;
/// A client that is refused comes again; one that waits need not.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_tenant_has_one_report_and_keeps_nobody_out() {
        let turns = ReportTurns::default();
        let [a, b, c] = ["a", "b", "c"].map(Arc::<str>::from);
        let of_a = turns.take(&a).await.expect("a turn");
        assert_eq!(turns.take(&a).await.err(), Some(NoTurn::OwnReportRuns));
        let of_b = turns.take(&b).await.expect("a turn");
        assert_eq!(turns.take(&c).await.err(), Some(NoTurn::Busy));
        // One that waits has the turn before one that comes later.
        let (of_c, again) = tokio::join!(turns.take(&c), async {
            drop(of_a);
            turns.take(&a).await
        });
        assert!(of_c.is_ok());
        assert_eq!(again.err(), Some(NoTurn::Busy));
        drop((of_b, of_c));
        assert!(turns.take(&a).await.is_ok() && turns.take(&c).await.is_ok());
    }
}

//! Supervision: a panic in the querier's work is logged, and costs no more than that piece of work.

use std::convert::Infallible;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::sleep;

/// Runs work that never ends by itself, and begins it anew, after a pause, whenever it panics.
pub(super) async fn restarted<W: Future<Output = Infallible>>(
    account: &str,
    part: &'static str,
    work: impl Fn() -> W,
) -> Infallible {
    loop {
        if let Some(never) = caught(account, part, work()).await {
            return never;
        }
        sleep(AFTER_PANIC).await;
    }
}

/// The output of the work; `None` if it panicked. The panic's own words are on standard error already.
pub(super) async fn caught<T>(account: &str, part: &'static str, work: impl Future<Output = T>) -> Option<T> {
    // Locks are freed as the panic unwinds, and state that it left half changed is the work's own.
    let done = AssertUnwindSafe(work).catch_unwind().await;
    done.inspect_err(|_| tracing::error!(account, part, "the querier panicked, and goes on")).ok()
}

const AFTER_PANIC: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::panic::resume_unwind;

    use tokio::time::{Instant, timeout};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn work_that_panics_begins_anew_after_a_pause() {
        let (start, begun) = (Instant::now(), Cell::new(0));
        let work = || async {
            begun.set(begun.get() + 1);
            tokio::task::yield_now().await;
            if begun.get() < 3 {
                resume_unwind(Box::new("a panic without a word"));
            }
            assert_eq!(start.elapsed(), 2 * AFTER_PANIC);
            std::future::pending().await
        };
        let ended = timeout(Duration::from_secs(3600), restarted("main", "queries", work)).await;
        assert!(ended.is_err());
        assert_eq!(begun.get(), 3);
    }

    #[tokio::test]
    async fn a_panic_is_told_apart_from_an_end() {
        assert_eq!(caught("main", "a query", async { 7 }).await, Some(7));
        let panics = async { resume_unwind(Box::new("a panic without a word")) };
        assert_eq!(caught::<()>("main", "a query", panics).await, None);
    }
}

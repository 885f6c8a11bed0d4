//! Deadlines that move with every byte.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::time::{Instant, Sleep, sleep_until};

/// A deadline that may move. Most exchanges never wait, so the `Sleep` is allocated by the first wait. tokio moves a
/// registered `Sleep` to a later time with one compare-and-swap, without the lock of the runtime's timer.
#[derive(Debug, Default)]
pub struct Timer(Option<Pin<Box<Sleep>>>);

impl Timer {
    /// Ready when the deadline has passed; until then the task will be woken at the deadline.
    pub fn poll_until(&mut self, deadline: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let sleep = self.0.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if sleep.deadline() != deadline {
            sleep.as_mut().reset(deadline);
        }
        sleep.as_mut().poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_deadline_moves_both_ways() {
        let start = Instant::now();
        let mut timer = Timer::default();
        let nothing = &mut Context::from_waker(std::task::Waker::noop());
        assert!(timer.poll_until(start + Duration::from_secs(9), nothing).is_pending());
        poll_fn(|cx| timer.poll_until(start + Duration::from_secs(2), cx)).await;
        assert_eq!(start.elapsed().as_secs(), 2);
        assert!(timer.poll_until(start + Duration::from_secs(3), nothing).is_pending());
        poll_fn(|cx| timer.poll_until(start + Duration::from_secs(5), cx)).await;
        assert_eq!(start.elapsed().as_secs(), 5);
    }
}

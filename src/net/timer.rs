//! Deadlines that move with every byte.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::time::{Instant, Sleep, sleep_until};

/// A deadline that may move. The runtime's timer is only touched by who really has to wait, and then once
/// a period: set too early it is left alone, and set anew when it fires.
#[derive(Debug, Default)]
pub struct Timer(Option<Pin<Box<Sleep>>>);

impl Timer {
    /// Ready when the deadline has passed; wakes the task then.
    pub fn poll_until(&mut self, deadline: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let sleep = self.0.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if sleep.deadline() > deadline {
            sleep.as_mut().reset(deadline);
        }
        while sleep.as_mut().poll(cx).is_ready() {
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
        Poll::Pending
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

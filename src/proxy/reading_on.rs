//! Answers whose clients left and that are read to their end, within bounds, so that their use is entered whole. Else a
//! client that leaves early would pay for a part of what it used, or for nothing.

use std::cell::Cell;
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use crate::tenant::directory::Tenant;

/// True if answers to calls of the tenant are read on: it pays for what it uses.
pub(super) const fn reads_on(tenant: &Tenant) -> bool {
    tenant.billing.prices.is_some()
}

/// One worker's answers that are read on.
#[derive(Debug)]
pub struct ReadingOn {
    /// A drain waits for them.
    pub(super) tasks: TaskTracker,
    count: Rc<Cell<usize>>,
}

/// Leave to read one answer on, until it is dropped.
#[derive(Debug)]
pub(super) struct ReadOnSlot(Rc<Cell<usize>>);

impl ReadingOn {
    pub(super) fn new(tasks: TaskTracker) -> Self {
        Self { tasks, count: Rc::default() }
    }

    /// Leave to read one more answer on; `None` if too many are read on.
    pub(super) fn slot(&self) -> Option<ReadOnSlot> {
        let count = self.count.get();
        (count < MOST_AT_ONCE).then(|| {
            self.count.set(count + 1);
            ReadOnSlot(Rc::clone(&self.count))
        })
    }

    /// Reads the rest of an answer; `rest` is dropped when its time is over. Must be called inside a `LocalRuntime`.
    pub(super) fn read(&self, rest: impl Future<Output = ()> + 'static) {
        self.tasks.spawn_local(async move {
            let _ = timeout(MOST_TIME, rest).await;
        });
    }
}

impl Drop for ReadOnSlot {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// Answers that one worker reads on at once.
const MOST_AT_ONCE: usize = 64;
/// Longest time for which an answer is awaited once its client has left, and for which it is then read.
pub(super) const MOST_TIME: Duration = Duration::from_secs(60);
/// Most bytes of an answer that are read once its client has left.
pub(super) const MOST_BYTES: usize = 8 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::runtime::{Builder, LocalOptions};

    use super::*;

    #[test]
    fn only_so_many_answers_are_read_on_at_once() {
        let reading_on = ReadingOn::new(TaskTracker::new());
        let mut slots: Vec<_> = (0..MOST_AT_ONCE).map(|_| reading_on.slot().expect("a slot")).collect();
        assert!(reading_on.slot().is_none());
        slots.pop();
        assert!(reading_on.slot().is_some(), "a slot is free again");
    }

    #[test]
    fn an_answer_that_does_not_end_is_given_up() {
        let mut builder = Builder::new_current_thread();
        let runtime = builder.enable_time().start_paused(true).build_local(LocalOptions::default());
        runtime.expect("a runtime").block_on(async {
            let reading_on = ReadingOn::new(TaskTracker::new());
            let is_dropped = Rc::new(());
            let held = Rc::clone(&is_dropped);
            reading_on.read(async move {
                let _held = held;
                pending::<()>().await;
            });
            tokio::time::sleep(MOST_TIME / 2).await;
            assert_eq!(Rc::strong_count(&is_dropped), 2);
            reading_on.tasks.close();
            reading_on.tasks.wait().await;
            assert_eq!(Rc::strong_count(&is_dropped), 1);
        });
    }
}

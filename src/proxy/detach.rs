//! Work that continues as a task of its own when the connection that waits for it goes away.

use std::any::Any;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_util::FutureExt;
use futures_util::future::CatchUnwind;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// Work that runs in the future of its caller, and so costs no task of its own. If it is dropped before its end, it
/// becomes a task and goes on.
pub(super) struct DetachOnDrop<F: Future + 'static> {
    /// `None` once the work has ended.
    work: Option<Pin<Box<CatchUnwind<AssertUnwindSafe<F>>>>>,
    /// Held from the beginning: a drain waits for this work too, whichever future polls it.
    token: TaskTrackerToken,
}

impl<F: Future + 'static> DetachOnDrop<F> {
    /// `tasks` takes the work when its caller drops it, which must happen inside a `LocalRuntime`.
    pub(super) fn new(work: F, tasks: &TaskTracker) -> Self {
        Self { work: Some(Box::pin(AssertUnwindSafe(work).catch_unwind())), token: tasks.token() }
    }

    /// True until the work has ended or is given up.
    pub(super) const fn is_under_way(&self) -> bool {
        self.work.is_some()
    }

    /// Drops the work, which then does not go on.
    pub(super) fn give_up(&mut self) {
        self.work = None;
    }
}

impl<F: Future + 'static> Future for DetachOnDrop<F> {
    /// The error is the panic of the work, if it panicked: a panic must not end the client's connection.
    type Output = Result<F::Output, Box<dyn Any + Send>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(work) = &mut self.work else { return Poll::Pending };
        let done = ready!(work.as_mut().poll(cx));
        self.work = None;
        Poll::Ready(done)
    }
}

impl<F: Future + 'static> Drop for DetachOnDrop<F> {
    fn drop(&mut self) {
        if let Some(work) = self.work.take() {
            self.token.task_tracker().spawn_local(work);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use tokio::runtime::{Builder, LocalOptions};
    use tokio::sync::oneshot;

    use super::*;

    /// Runs a test in a runtime as each worker has it.
    fn run(test: impl Future<Output = ()>) {
        Builder::new_current_thread().build_local(LocalOptions::default()).unwrap().block_on(test);
    }

    #[test]
    fn who_waits_gets_what_comes_of_it_and_nothing_is_left() {
        run(async {
            let tasks = TaskTracker::new();
            let work = async {
                tokio::task::yield_now().await;
                7
            };
            assert_eq!(DetachOnDrop::new(work, &tasks).await.unwrap(), 7);
            assert!(tasks.is_empty());
        });
    }

    #[test]
    fn dropped_half_way_it_goes_on_to_its_end() {
        run(async {
            let tasks = TaskTracker::new();
            let (go, gone) = oneshot::channel();
            let is_done = Rc::new(Cell::new(false));
            let done = Rc::clone(&is_done);
            let mut work = DetachOnDrop::new(async move { done.set(gone.await.is_ok()) }, &tasks);
            assert!((&mut work).now_or_never().is_none());
            assert_eq!(tasks.len(), 1);
            drop(work);
            assert_eq!(tasks.len(), 1);
            go.send(()).unwrap();
            tasks.close();
            tasks.wait().await;
            assert!(is_done.get());
        });
    }

    #[test]
    fn dropped_before_it_began_it_runs_all_the_same() {
        run(async {
            let tasks = TaskTracker::new();
            let is_done = Rc::new(Cell::new(false));
            let done = Rc::clone(&is_done);
            drop(DetachOnDrop::new(async move { done.set(true) }, &tasks));
            tasks.close();
            tasks.wait().await;
            assert!(is_done.get());
        });
    }

    #[test]
    fn a_panic_is_told_and_goes_no_further() {
        run(async {
            let tasks = TaskTracker::new();
            let work = async { std::panic::resume_unwind(Box::new("a panic without a word")) };
            let outcome: Result<(), _> = DetachOnDrop::new(work, &tasks).await;
            assert_eq!(outcome.unwrap_err().downcast_ref(), Some(&"a panic without a word"));
            assert!(tasks.is_empty());
        });
    }

    /// The end of the runtime ends the work, as it ends every task.
    #[test]
    fn its_runtime_ends_it() {
        let is_dropped = Rc::new(());
        let held = Rc::clone(&is_dropped);
        run(async move {
            let tasks = TaskTracker::new();
            let work = DetachOnDrop::new(
                async move {
                    let _held = held;
                    std::future::pending::<()>().await;
                },
                &tasks,
            );
            tokio::task::spawn_local(async move { work.await.unwrap() });
            tokio::task::yield_now().await;
        });
        assert_eq!(Rc::strong_count(&is_dropped), 1);
    }
}

//! The writer's answers to those who wait for it.
//!
//! A commit answers many at once, and they wait in few threads. To wake a task of another thread is a call to the
//! system, so one task is woken of each thread, and that one wakes the others.

use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use super::fault::StoreFault;

/// Whether the change was made, or why it could not be written.
pub(super) type Outcome = Result<bool, StoreFault>;

/// The writer's end; dropped without an answer, the other end gets none.
#[derive(Debug)]
pub(super) struct Reply(Arc<ReplySlot>);

/// The end of whoever waits: the outcome, or `None` where the writer has gone without a word.
#[derive(Debug)]
pub(super) struct PendingReply {
    place: Arc<ReplySlot>,
    /// Of the thread that it was waited for in.
    circle: Option<Arc<ThreadWakers>>,
}

#[derive(Debug, Default)]
struct ReplySlot(Mutex<ReplyState>);

#[derive(Debug, Default)]
enum ReplyState {
    #[default]
    Asked,
    Awaited(Waker, Arc<ThreadWakers>),
    Answered(Outcome),
    Left,
}

/// The tasks of one thread that have their answer and do not know it yet. Where there are any, another one has been
/// woken, and wakes these when it takes its own or is dropped.
#[derive(Debug, Default)]
struct ThreadWakers(Mutex<Vec<Waker>>);

/// A pair of the two ends.
pub(super) fn channel() -> (Reply, PendingReply) {
    let place = Arc::<ReplySlot>::default();
    (Reply(Arc::clone(&place)), PendingReply { place, circle: None })
}

/// Answers all of them. Who does not listen any more has given up.
pub(super) fn answer(replies: impl Iterator<Item = (Reply, Outcome)>) {
    let mut circles: Vec<Arc<ThreadWakers>> = Vec::new();
    for (reply, outcome) in replies {
        let mut state = reply.0.state();
        if let ReplyState::Awaited(waker, circle) = mem::replace(&mut *state, ReplyState::Answered(outcome)) {
            // Before the state can be seen, so that one that is dropped meanwhile finds whom to wake.
            if circle.add(waker) {
                circles.push(circle);
            }
        }
    }
    for circle in circles {
        let one = circle.asleep().pop();
        one.into_iter().for_each(Waker::wake);
    }
}

impl Reply {
    /// Whether nobody waits for it any more.
    pub(super) fn is_closed(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        let mut state = self.0.state();
        if matches!(*state, ReplyState::Asked | ReplyState::Awaited(..))
            && let ReplyState::Awaited(waker, _) = mem::replace(&mut *state, ReplyState::Left)
        {
            drop(state);
            waker.wake();
        }
    }
}

impl Future for PendingReply {
    type Output = Option<Outcome>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Outcome>> {
        let mut state = self.place.state();
        let answer = match mem::take(&mut *state) {
            ReplyState::Answered(outcome) => Some(outcome),
            ReplyState::Left => None,
            ReplyState::Asked | ReplyState::Awaited(..) => {
                let circle = CIRCLE.with(Arc::clone);
                *state = ReplyState::Awaited(cx.waker().clone(), Arc::clone(&circle));
                drop(state);
                self.circle = Some(circle);
                return Poll::Pending;
            }
        };
        drop(state);
        self.wake_others();
        Poll::Ready(answer)
    }
}

impl PendingReply {
    fn wake_others(&mut self) {
        if let Some(circle) = self.circle.take() {
            let others = mem::take(&mut *circle.asleep());
            others.into_iter().for_each(Waker::wake);
        }
    }
}

impl Drop for PendingReply {
    fn drop(&mut self) {
        // From now on nobody is woken for it.
        drop(mem::take(&mut *self.place.state()));
        self.wake_others();
    }
}

impl ReplySlot {
    fn state(&self) -> MutexGuard<'_, ReplyState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ThreadWakers {
    /// Whether it is the first.
    fn add(&self, waker: Waker) -> bool {
        let mut asleep = self.asleep();
        asleep.push(waker);
        asleep.len() == 1
    }

    fn asleep(&self) -> MutexGuard<'_, Vec<Waker>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

thread_local! {
    static CIRCLE: Arc<ThreadWakers> = Arc::default();
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;
    use std::thread;

    use super::*;

    #[derive(Default)]
    struct WakeCount(AtomicUsize);

    impl Wake for WakeCount {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    struct Asker {
        answer: PendingReply,
        woken: Arc<WakeCount>,
    }

    impl Asker {
        fn poll(&mut self) -> Poll<Option<Outcome>> {
            let waker = Waker::from(Arc::clone(&self.woken));
            Pin::new(&mut self.answer).poll(&mut Context::from_waker(&waker))
        }

        fn wakes(&self) -> usize {
            self.woken.0.load(Ordering::Relaxed)
        }
    }

    fn askers(count: usize) -> (Vec<Reply>, Vec<Asker>) {
        let asks = (0..count).map(|_| {
            let (reply, answer) = channel();
            let mut asker = Asker { answer, woken: Arc::default() };
            assert!(asker.poll().is_pending());
            (reply, asker)
        });
        asks.unzip()
    }

    fn yes(replies: Vec<Reply>) {
        answer(replies.into_iter().map(|reply| (reply, Ok(true))));
    }

    fn woken(askers: &[Asker]) -> Vec<usize> {
        (0..askers.len()).filter(|at| askers[*at].wakes() > 0).collect()
    }

    #[test]
    fn of_a_thread_one_is_woken_and_wakes_the_others() {
        let (replies, mut asking) = askers(5);
        yes(replies);
        let first = woken(&asking);
        assert_eq!(first.len(), 1);
        assert_eq!(asking[first[0]].poll(), Poll::Ready(Some(Ok(true))));
        assert!(asking.iter().all(|asker| asker.wakes() == 1));
        assert!(asking.iter_mut().enumerate().all(|(at, asker)| at == first[0] || asker.poll().is_ready()));
    }

    #[test]
    fn one_that_gives_up_when_it_is_woken_wakes_them_too() {
        let (replies, mut asking) = askers(3);
        yes(replies);
        let first = woken(&asking)[0];
        drop(asking.remove(first));
        assert!(asking.iter().all(|asker| asker.wakes() == 1));
    }

    #[test]
    fn one_that_gave_up_before_is_not_woken_for_the_others() {
        let (replies, mut asking) = askers(3);
        let gone = asking.pop().unwrap();
        let woken_in_vain = Arc::clone(&gone.woken);
        drop(gone);
        yes(replies);
        assert_eq!((woken(&asking).len(), woken_in_vain.0.load(Ordering::Relaxed)), (1, 0));
    }

    /// Nobody is left asleep by an answer that comes between another's and its being taken.
    #[test]
    fn those_of_the_next_commit_are_woken_with_those_of_the_last() {
        let (replies, mut before) = askers(3);
        let (more, mut after) = askers(2);
        yes(replies);
        yes(more);
        let first = woken(&before)[0];
        assert!(before[first].poll().is_ready());
        let mut all = before.iter().chain(&after);
        assert!(all.all(|asker| asker.wakes() == 1));
        let (last, mut alone) = askers(1);
        yes(last);
        assert_eq!(alone[0].wakes(), 1);
        let mut all = before.iter_mut().enumerate().filter(|(at, _)| *at != first).map(|(_, asker)| asker);
        assert!(all.all(|asker| asker.poll().is_ready()));
        assert!(after.iter_mut().chain(&mut alone).all(|asker| asker.poll().is_ready()));
    }

    #[test]
    fn each_thread_has_one_woken() {
        let (replies, asking) = askers(2);
        let (others, elsewhere) = thread::spawn(|| askers(3)).join().unwrap();
        yes(replies.into_iter().chain(others).collect());
        assert_eq!((woken(&asking).len(), woken(&elsewhere).len()), (1, 1));
    }

    /// Some give up at any moment; each of the others hears.
    #[test]
    fn nobody_sleeps_on_among_those_that_come_and_go() {
        let (ask, asked) = std::sync::mpsc::channel::<Reply>();
        let writer = thread::spawn(move || {
            while let Ok(first) = asked.recv() {
                let more = asked.try_iter().take(20);
                yes(std::iter::once(first).chain(more).collect());
            }
        });
        let threads = (0..3_u32).map(|_| {
            let ask = ask.clone();
            thread::spawn(move || {
                let runtime =
                    tokio::runtime::Builder::new_current_thread().build_local(Default::default()).unwrap();
                runtime.block_on(async {
                    let tasks = (0..50_usize).map(|task| {
                        let ask = ask.clone();
                        tokio::task::spawn_local(async move {
                            for round in 0..200 {
                                let (reply, answer) = channel();
                                ask.send(reply).unwrap();
                                if (task + round) % 3 == 0 {
                                    let moment = async {
                                        for _ in 0..round % 5 {
                                            tokio::task::yield_now().await
                                        }
                                    };
                                    tokio::select! { _ = answer => {}, () = moment => {} }
                                } else {
                                    assert_eq!(answer.await, Some(Ok(true)));
                                }
                            }
                        })
                    });
                    for task in tasks.collect::<Vec<_>>() {
                        task.await.unwrap();
                    }
                });
            })
        });
        threads.collect::<Vec<_>>().into_iter().for_each(|thread| thread.join().unwrap());
        drop(ask);
        writer.join().unwrap();
    }

    #[test]
    fn a_writer_that_goes_leaves_nobody_waiting() {
        let (replies, mut asking) = askers(2);
        assert!(!replies[0].is_closed());
        drop(replies);
        assert!(asking.iter_mut().all(|asker| asker.wakes() == 1 && asker.poll() == Poll::Ready(None)));
        let (reply, answer) = channel();
        drop(answer);
        assert!(reply.is_closed());
    }

    #[test]
    fn an_answer_that_is_there_already_is_taken_at_once() {
        let (reply, answer) = channel();
        yes(vec![reply]);
        let mut asker = Asker { answer, woken: Arc::default() };
        assert_eq!((asker.poll(), asker.wakes()), (Poll::Ready(Some(Ok(true))), 0));
    }
}

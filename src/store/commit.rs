//! Commits: each change is written by the writer and replayed to the mirrors before its caller is answered.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::change::Replayed;
use super::queued_change::QueuedChange;
use super::shared::spool::{Spool, task_of};
use super::withdrawal::{AwaitedChange, GivenUp, Withdrawable};
use super::{Change, CommitFault, Outcome, Store, StoreCause, StoreFault, StoreHealth};

impl Store {
    /// Makes a change, which is durable when this returns [`Outcome::Made`]. What stands in the file decides, in the
    /// transaction of the change: another process may have the file open too.
    ///
    /// A change that was polled once is written even if its future is dropped, unless the queue is full; but a change
    /// that brings a secret is then taken back, since nobody saw the secret.
    ///
    /// # Errors
    /// Why the change was not written in time.
    pub async fn commit(&self, mut change: Change) -> Result<Outcome, CommitFault> {
        if !change.outlasts_outage() && self.exchange.is_away() {
            return Err(CommitFault::NotMade(self.away()));
        }
        let replayed = change.replayed();
        if replayed == Replayed::AtOnce {
            self.replay(&change);
        }
        let written = if change.fit() {
            let stored = change.clone();
            match change.secret_of() {
                Some(key_id) => self.write_secret(Arc::clone(key_id), stored).await,
                None => match self.state.access.spool().filter(|_| task_of(&stored).is_some()) {
                    // Boxed, as it is rare and its future is large.
                    Some(spool) => Box::pin(self.write_or_spool(stored, spool)).await,
                    None => self.write(stored, None).await,
                },
            }
        } else {
            Err(CommitFault::NotMade(self.state.because(StoreCause::TooLarge)))
        };
        if let (Change::Claim { .. }, Err(_)) = (&change, &written) {
            self.exchange.note_backlog(true);
        }
        if let (Change::Claim { .. }, Err(refusal)) = (&change, &written)
            && refusal.fault().cause.is_of_change()
        {
            // The claim of another owner stands. Its replay comes first, so that all replicas tell the same owner.
            let _ = self.catch_up().await;
        }
        let is_due = match replayed {
            Replayed::AtOnce => false,
            Replayed::WhenWritten => written == Ok(Outcome::Made),
            Replayed::InAnyCase => true,
        };
        if is_due {
            self.replay(&change);
        }
        written
    }

    /// Makes a change that nobody waits for, and that must not be lost while the process lives: it waits where the queue has
    /// no room.
    pub fn defer(&self, mut change: Change) {
        if !change.fit() {
            return;
        }
        // A closed store takes no change; the next start judges what is open.
        if let Ok(Some(unqueued)) = self.queue(QueuedChange::unawaited(change)) {
            self.state.defer(unqueued.change);
        }
    }

    /// Makes a change that nobody waits for, and that no mirror holds. It is written in its turn; a crash before that loses
    /// it, as does a full queue, or an id that is too long, for which it returns false. The log says how many were lost, once
    /// the store can be written again.
    pub fn ride(&self, change: Change) -> bool {
        self.ride_with(change, None::<()>)
    }

    /// [`Store::ride`], with something that is kept until the change counts, or is lost.
    pub fn ride_with(&self, mut change: Change, kept: Option<impl fmt::Debug + Send + 'static>) -> bool {
        let fits = change.fit();
        let kept = kept.map(|kept| Box::new(kept) as Box<dyn fmt::Debug + Send>);
        let queued = QueuedChange { _kept: kept, ..QueuedChange::unawaited(change) };
        let is_queued = fits && matches!(self.queue(queued), Ok(None));
        if !is_queued {
            self.state.count_lost();
        }
        is_queued
    }

    /// [`Store::ride_with`], and waits until the change is durable, for as long as a change may take. A change that was
    /// polled once is written even if its future is dropped, unless the queue is full.
    ///
    /// # Errors
    /// Why the change was not written in time.
    pub async fn commit_with(
        &self,
        mut change: Change,
        kept: Option<impl fmt::Debug + Send + 'static>,
    ) -> Result<Outcome, CommitFault> {
        if !change.fit() {
            return Err(CommitFault::NotMade(self.state.because(StoreCause::TooLarge)));
        }
        self.write(change, kept.map(|kept| Box::new(kept) as Box<dyn fmt::Debug + Send>)).await
    }

    /// Writes a change that brings a secret, and takes it back if its outcome does not come in time, or its caller goes.
    async fn write_secret(&self, key_id: Arc<str>, change: Change) -> Result<Outcome, CommitFault> {
        let deadline = Instant::now() + self.patience;
        let mut awaited = AwaitedChange::new(key_id);
        let stage = awaited.stage.clone();
        let (reply, mut outcome) = oneshot::channel();
        let withdrawable = Some(Box::new(Withdrawable::new(stage.clone())));
        let queued = self
            .queue(QueuedChange { change, reply: Some(reply), withdrawable, _kept: None })
            .map_err(CommitFault::NotMade)?;
        if let Some(queued) = queued {
            self.wait_for_room(queued, deadline).await.map_err(CommitFault::NotMade)?;
        }
        let mut come = timeout_at(deadline, &mut outcome).await;
        if come.is_err() && !stage.withdraw() {
            // The writer has taken the change: the truth is worth as long a wait again.
            come = timeout_at(deadline + self.patience, &mut outcome).await;
        }
        let come = match come {
            Ok(come) => come,
            Err(_) => match stage.give_up() {
                GivenUp::Withdrawn => return Err(CommitFault::NotMade(self.timed_out(StoreCause::Stuck))),
                GivenUp::Unclear => return Err(CommitFault::Unclear(self.timed_out(StoreCause::Stuck))),
                // The writer has just committed the change, and answers.
                GivenUp::Ended => outcome.await,
            },
        };
        awaited.has_outcome = true;
        // A writer that ends without an answer has panicked, perhaps behind the commit.
        let unanswered = |_| CommitFault::Unclear(self.state.because(StoreCause::Closed));
        come.map_err(unanswered)?.map_err(CommitFault::NotMade)
    }

    /// Writes a change that stays queued whatever its caller does.
    async fn write(
        &self,
        change: Change,
        kept: Option<Box<dyn fmt::Debug + Send>>,
    ) -> Result<Outcome, CommitFault> {
        let deadline = Instant::now() + self.patience;
        let (reply, outcome) = oneshot::channel();
        let queued = self.queue(QueuedChange { change, reply: Some(reply), withdrawable: None, _kept: kept });
        if let Some(queued) = queued.map_err(CommitFault::NotMade)? {
            // Boxed, as a full queue is rare and its future is large.
            Box::pin(self.wait_for_room(queued, deadline)).await.map_err(CommitFault::NotMade)?;
        }
        match timeout_at(deadline, outcome).await {
            // The tables refuse a change for good; a closed store takes no other.
            Ok(Ok(outcome)) => outcome.map_err(CommitFault::NotMade),
            Ok(Err(_)) => Err(CommitFault::Unclear(self.state.because(StoreCause::Closed))),
            Err(_) => Err(CommitFault::Unclear(self.timed_out(StoreCause::Stuck))),
        }
    }

    /// Writes a claim, or spools it where the database does not take it at once. It stays queued in any case.
    async fn write_or_spool(&self, claim: Change, spool: &Arc<Spool>) -> Result<Outcome, CommitFault> {
        let (reply, mut outcome) = oneshot::channel();
        let queued = QueuedChange { reply: Some(reply), ..QueuedChange::unawaited(claim.clone()) };
        let fault = match self.queue(queued) {
            Ok(None) => match timeout_at(Instant::now() + SPOOLED_AFTER, &mut outcome).await {
                Ok(Ok(outcome)) => return outcome.map_err(CommitFault::NotMade),
                Ok(Err(_)) => self.state.because(StoreCause::Closed),
                Err(_) => self.timed_out(StoreCause::Stuck),
            },
            Ok(Some(unqueued)) => {
                self.state.defer(unqueued.change);
                self.timed_out(StoreCause::Crowded)
            }
            Err(fault) => fault,
        };
        self.exchange.note_backlog(true);
        let own = Arc::clone(spool);
        let spooled = tokio::task::spawn_blocking(move || {
            own.add(&claim)?;
            // The writer answers before it looks into the spool, so one of the two sees that the claim is written.
            if outcome.try_recv().is_ok() {
                own.remove(&task_of(&claim).into_iter().collect::<Vec<_>>());
            }
            Ok::<_, StoreCause>(())
        });
        match spooled.await {
            Ok(Ok(())) => Ok(Outcome::Made),
            Ok(Err(cause)) => {
                tracing::error!(?cause, "a claim can't be spooled");
                Err(CommitFault::Unclear(fault))
            }
            Err(_) => Err(CommitFault::Unclear(fault)),
        }
    }

    /// Queues a change; gives the change back if the queue is full.
    fn queue(&self, queued: QueuedChange) -> Result<Option<QueuedChange>, StoreFault> {
        let is_rider = queued.is_rider();
        match self.queue.try_send(queued) {
            Ok(()) => {
                if !is_rider {
                    self.state.gate.queued_awaited();
                }
                self.state.gate.queued(self.queue.max_capacity() - self.queue.capacity());
                Ok(None)
            }
            Err(TrySendError::Closed(_)) => Err(self.state.because(StoreCause::Closed)),
            Err(TrySendError::Full(queued)) => Ok(Some(queued)),
        }
    }

    async fn wait_for_room(&self, queued: QueuedChange, deadline: Instant) -> Result<(), StoreFault> {
        match timeout_at(deadline, self.queue.send(queued)).await {
            Ok(Ok(())) => {
                self.state.gate.queued_awaited();
                Ok(())
            }
            Ok(Err(_)) => Err(self.state.because(StoreCause::Closed)),
            Err(_) => Err(self.timed_out(StoreCause::Crowded)),
        }
    }

    /// Why a change took too long: the store's known fault, else `otherwise`.
    fn timed_out(&self, otherwise: StoreCause) -> StoreFault {
        match self.health() {
            StoreHealth::Unwritable(fault) => StoreFault::clone(&fault),
            StoreHealth::Writable => self.state.because(otherwise),
        }
    }
}

/// Wait for the database before a claim is spooled.
const SPOOLED_AFTER: Duration = Duration::from_secs(1);

//! Commits: each change is written by the writer and replayed to the mirrors before its caller is answered.

use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::record::MOST_ID_BYTES;
use super::withdrawal::{AwaitedChange, GivenUp, Withdrawable};
use super::writer::{Outcome, QueuedChange};
use super::{
    Change, KeyChangeFault, KeyRecord, Store, StoreCause, StoreFault, StoreHealth, TaskRecord, UploadRecord,
};

impl Store {
    /// Claims a new task for its owner; durable when it returns. The task is replayed even after an error: the account
    /// pays for it, so its client must be able to poll it, and the writer goes on trying.
    ///
    /// A claim that was polled once is written even if its future is dropped, unless the queue is full.
    ///
    /// # Errors
    /// Why the claim was not written in time. It may be written later.
    pub async fn claim(&self, task: impl Into<Arc<TaskRecord>>) -> Result<(), StoreFault> {
        let task = task.into();
        let written = if task.id.len() > MOST_ID_BYTES {
            Err(self.state.because(StoreCause::TooLarge))
        } else {
            let mut stored = Arc::clone(&task);
            if stored.is_long() {
                Arc::make_mut(&mut stored).shorten();
            }
            self.write(Change::Claim(stored)).await
        };
        self.replay(&Change::Claim(task));
        written.map(drop)
    }

    /// Hides a task that was claimed at `claimed_at` from the unified dialect: in memory at once, durable when it
    /// returns.
    ///
    /// # Errors
    /// Why the change was not written in time. It may be written later.
    pub async fn hide(&self, task_id: &str, claimed_at: SystemTime) -> Result<(), StoreFault> {
        let change = Change::Hide { id: task_id.into(), claimed_at };
        self.replay(&change);
        self.write(change).await.map(drop)
    }

    /// Records the owner of an upload directory; durable when it returns. `displaced` is an older directory of the
    /// tenant, which is deleted to make room.
    ///
    /// # Errors
    /// Why the change was not written in time. It may be written later; the mirrors then hold it after a restart only.
    pub async fn keep_upload(
        &self,
        upload: UploadRecord,
        displaced: Option<Arc<str>>,
    ) -> Result<(), StoreFault> {
        if upload.directory.len() > MOST_ID_BYTES {
            return Err(self.state.because(StoreCause::TooLarge));
        }
        let mut stored = upload.clone();
        stored.shorten();
        self.write(Change::KeepUpload { upload: stored, displaced: displaced.clone() }).await?;
        self.replay(&Change::KeepUpload { upload, displaced });
        Ok(())
    }

    /// Adds a key; false, and nothing changes, where the id or the secret exists already.
    ///
    /// # Errors
    /// The [`KeyChangeFault`]. After each of its kinds no secret works that nobody saw.
    pub async fn create_key(&self, key: KeyRecord) -> Result<bool, KeyChangeFault> {
        self.write_key(Arc::clone(&key.id), Change::CreateKey(key)).await
    }

    /// Adds a secret under the id of a living key of the tenant, whose older secrets work until `old_until`; false, and
    /// nothing changes, where there is no such key or the secret exists already.
    ///
    /// # Errors
    /// The [`KeyChangeFault`]. After each of its kinds the older secrets work as before.
    pub async fn rotate_key(
        &self,
        successor: KeyRecord,
        old_until: SystemTime,
    ) -> Result<bool, KeyChangeFault> {
        self.write_key(Arc::clone(&successor.id), Change::RotateKey { successor, old_until }).await
    }

    /// Revokes all secrets of a key: in memory at once, because a leaked key must not work until a disk answers;
    /// durable when it returns. False where no living key in the file has the id.
    ///
    /// # Errors
    /// Why the change was not written in time. It may be written later.
    pub async fn revoke_key(&self, id: &str, at: SystemTime) -> Result<bool, StoreFault> {
        let change = Change::RevokeKey { id: id.into(), at };
        self.replay(&change);
        self.write(change).await
    }

    /// Writes a change that brings a secret, and takes it back if its outcome does not come in time, or its caller goes.
    async fn write_key(&self, key_id: Arc<str>, change: Change) -> Result<bool, KeyChangeFault> {
        let deadline = Instant::now() + self.patience;
        let mut awaited = AwaitedChange::new(key_id);
        let stage = awaited.stage.clone();
        let (reply, mut outcome) = oneshot::channel();
        let withdrawable = Some(Box::new(Withdrawable::new(stage.clone())));
        let queued = QueuedChange { change: change.clone(), reply, withdrawable };
        let queued = self.queue(queued).map_err(KeyChangeFault::NotMade)?;
        if let Some(queued) = queued {
            self.wait_for_room(queued, deadline).await.map_err(KeyChangeFault::NotMade)?;
        }
        let mut come = timeout_at(deadline, &mut outcome).await;
        if come.is_err() && !stage.withdraw() {
            // The writer has taken the change: the truth is worth as long a wait again.
            come = timeout_at(deadline + self.patience, &mut outcome).await;
        }
        let come = match come {
            Ok(come) => come,
            Err(_) => match stage.give_up() {
                GivenUp::Withdrawn => return Err(KeyChangeFault::NotMade(self.timed_out(StoreCause::Stuck))),
                GivenUp::Unclear => return Err(KeyChangeFault::Unclear(self.timed_out(StoreCause::Stuck))),
                // The writer has just committed the change, and answers.
                GivenUp::Ended => outcome.await,
            },
        };
        awaited.has_outcome = true;
        // A writer that ends without an answer has panicked, perhaps behind the commit.
        let unanswered = |_| KeyChangeFault::Unclear(self.state.because(StoreCause::Closed));
        let is_written = come.map_err(unanswered)?.map_err(KeyChangeFault::NotMade)?;
        if is_written {
            self.replay(&change);
        }
        Ok(is_written)
    }

    /// Writes a change that stays queued whatever its caller does.
    async fn write(&self, change: Change) -> Outcome {
        let deadline = Instant::now() + self.patience;
        let (reply, outcome) = oneshot::channel();
        if let Some(queued) = self.queue(QueuedChange { change, reply, withdrawable: None })? {
            // Boxed, as a full queue is rare and its future is large.
            Box::pin(self.wait_for_room(queued, deadline)).await?;
        }
        match timeout_at(deadline, outcome).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(self.state.because(StoreCause::Closed)),
            Err(_) => Err(self.timed_out(StoreCause::Stuck)),
        }
    }

    /// Queues a change; gives the change back if the queue is full.
    fn queue(&self, queued: QueuedChange) -> Result<Option<QueuedChange>, StoreFault> {
        match self.queue.try_send(queued) {
            Ok(()) => {
                self.state.gate.queued(self.queue.max_capacity() - self.queue.capacity());
                Ok(None)
            }
            Err(TrySendError::Closed(_)) => Err(self.state.because(StoreCause::Closed)),
            Err(TrySendError::Full(queued)) => Ok(Some(queued)),
        }
    }

    async fn wait_for_room(&self, queued: QueuedChange, deadline: Instant) -> Result<(), StoreFault> {
        match timeout_at(deadline, self.queue.send(queued)).await {
            Ok(Ok(())) => Ok(()),
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

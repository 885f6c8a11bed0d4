//! The one thread that writes. A commit takes all waiting changes, up to a bound, so that many changes share one sync
//! of the disk. Their callers are answered after the commit.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::engine::Engine;
use super::exchange::Exchange;
use super::fault::StoreCause;
use super::group_commit::RecentBatches;
use super::queued_change::{QueuedChange, apply_all, is_unheard};
use super::shared::kept_commits::{CommitRows, WrittenCommit};
use super::shared::spool::task_of;
use super::shared::writers;
use super::sql::apply::lock_in_order;
use super::sql::expiry::{self, ExpiredRows};
use super::sql::ledger::LedgerWriter;
use super::sql::rows;
use super::state::{LearntStatuses, StoreState};
use super::withdrawal::KeyUndo;
use super::{Change, Outcome, StoreBounds, WHAT_IS_REFUSED};

#[derive(Debug)]
pub(super) struct StoreWriter {
    state: Arc<StoreState>,
    engine: Engine,
    exchange: Exchange,
    queue: mpsc::Receiver<QueuedChange>,
    most_per_commit: usize,
    entries_kept: Duration,
    /// Changes taken from the queue and not yet durable. After a failure they are tried again.
    waiting: Vec<QueuedChange>,
    /// Changes to be undone by the next commit, before its own.
    undos: Vec<KeyUndo>,
    batches: RecentBatches,
    ledger: LedgerWriter,
    /// Statuses to be written with the next commits.
    learnt: LearntStatuses,
    /// Tenants whose money another process has changed, until it is read.
    outdated: Vec<Arc<str>>,
    /// Rows that had expired at this time, in milliseconds since 1970, are deleted.
    tidied: i64,
    retry_at: Option<Instant>,
    tick_at: Instant,
    /// Rows that commits have made and changed since the engine was told.
    new_rows: usize,
    changed_rows: usize,
}

impl StoreWriter {
    pub(super) fn new(
        state: Arc<StoreState>,
        engine: Engine,
        exchange: Exchange,
        queue: mpsc::Receiver<QueuedChange>,
        bounds: StoreBounds,
    ) -> Self {
        let now = Instant::now();
        let is_full = !engine.has_reserve();
        let most_per_commit = bounds.most_per_commit.max(1);
        Self {
            state,
            engine,
            exchange,
            queue,
            most_per_commit,
            entries_kept: bounds.entries_kept,
            waiting: Vec::with_capacity(most_per_commit),
            undos: Vec::new(),
            batches: RecentBatches::default(),
            ledger: LedgerWriter::new(bounds.zone),
            learnt: LearntStatuses::default(),
            outdated: Vec::new(),
            tidied: i64::MIN,
            retry_at: is_full.then(|| now + RETRY),
            tick_at: now + TICK,
            new_rows: 0,
            changed_rows: 0,
        }
    }

    /// Writes until the store is closed or its last handle is dropped.
    pub(super) fn run(mut self, runtime: &Runtime) {
        loop {
            let more = runtime.block_on(self.gather());
            let state = Arc::clone(&self.state);
            state.note_taken(self.waiting.len());
            state.on_disk(|| self.write());
            state.note_taken(self.waiting.len());
            // A retry that succeeds has taken a part of the queue only.
            let has_changes = !self.waiting.is_empty() || !self.queue.is_empty() || self.state.has_deferred();
            let written = !has_changes && self.undos.is_empty() && self.learnt.is_empty();
            if written {
                self.exchange.note_backlog(false);
            }
            if !more && (self.retry_at.is_some() || written) {
                break;
            }
        }
        self.check_kept();
        self.log_lost();
        for queued in self.waiting.drain(..) {
            queued.answer(Err(self.state.because(StoreCause::Closed)));
        }
    }

    /// Sends the last commits again where the database lacks them, as after a fail-over. Nobody has them once this process
    /// has ended, so it does not wait for other replicas on whose commits they may rest.
    fn check_kept(&mut self) {
        let count = self.engine.kept_commits();
        if count == 0 {
            return;
        }
        let is_away = self.retry_at.is_some();
        let mut tried =
            || self.engine.must_reopen(true).and_then(|must| if must { self.commit(true) } else { Ok(()) });
        if is_away || tried().is_err() {
            let path = self.state.path.display();
            tracing::error!(
                "{path} does not answer: should it fail over and lack the last {count} commits of this replica, nobody sends \
                 them again"
            );
        }
    }

    /// Logs what the file will not have.
    fn log_lost(&self) {
        let lost = self.waiting.len() + self.queue.len() + self.state.deferred_count();
        if lost > 0 {
            let path = self.state.path.display();
            tracing::error!("{path}: the store is closed, and {lost} changes are not written");
        }
        for KeyUndo { key_id, .. } in &self.undos {
            tracing::error!(
                key_id = &**key_id,
                "a change of this key came through after its caller had given up, and is not undone: rotate or revoke it"
            );
        }
    }

    /// Waits for changes, or for the next tick; false once no more changes can come.
    async fn gather(&mut self) -> bool {
        let state = Arc::clone(&self.state);
        if let Some(retry_at) = self.retry_at {
            tokio::select! {
                () = state.closing.cancelled() => self.queue.close(),
                () = tokio::time::sleep_until(retry_at) => {}
            }
            self.take();
            return !self.queue.is_closed();
        }
        let free = self.most_per_commit.saturating_sub(self.waiting.len());
        let until = if self.has_work() { Instant::now() } else { self.tick_at };
        tokio::select! {
            biased;
            count = self.queue.recv_many(&mut self.waiting, free) => {
                if count > 0 && self.has_only_riders() {
                    self.gather_riders().await;
                }
                let missing = self.batches.missing(self.waiting.len());
                if missing > 0 && count > 0 {
                    state.gate.wait(missing, || self.queue.len()).await;
                    self.take();
                }
                count > 0
            }
            () = state.closing.cancelled(), if !self.queue.is_closed() => {
                self.queue.close();
                true
            }
            () = self.exchange.reconnected() => true,
            () = tokio::time::sleep_until(until) => true,
        }
    }

    /// Gathers more changes, as long as nobody waits for one of them: a commit costs ten times as much as a change.
    /// The writer does not listen to the queue meanwhile, so that most riders wake nobody.
    async fn gather_riders(&mut self) {
        let state = Arc::clone(&self.state);
        state.gate.want_awaited(true);
        self.take();
        let free = self.most_per_commit.saturating_sub(self.waiting.len());
        if free > 0 && self.has_only_riders() {
            tokio::select! {
                () = state.gate.wait_as_rider(free, || self.queue.len()) => {}
                () = state.closing.cancelled() => {}
            }
            self.take();
        }
        state.gate.want_awaited(false);
    }

    fn has_only_riders(&self) -> bool {
        self.waiting.iter().all(QueuedChange::is_rider)
    }

    /// Takes queued changes, as many as a commit may have.
    fn take(&mut self) {
        while self.waiting.len() < self.most_per_commit
            && let Ok(queued) = self.queue.try_recv()
        {
            self.waiting.push(queued);
        }
    }

    fn has_work(&self) -> bool {
        !self.waiting.is_empty()
            || !self.undos.is_empty()
            || !self.learnt.is_empty()
            || self.tidied != self.state.tidy_at()
            || !self.outdated.is_empty()
            || self.state.has_outdated()
            || self.state.has_deferred()
    }

    fn write(&mut self) {
        // Before what waits: a slot that was freed is free for the submit that comes next. Beside a full commit, too: the
        // queue may never be shorter.
        let free = (2 * self.most_per_commit).saturating_sub(self.waiting.len());
        let deferred = std::iter::from_fn(|| self.state.take_deferred()).take(free);
        let deferred: Vec<QueuedChange> = deferred.map(QueuedChange::unawaited).collect();
        if !deferred.is_empty() {
            // One of them may undo a hold or a key that waits here still: whoever wanted that one has gone.
            self.waiting.retain(|queued| {
                let is_undone = matches!(queued.change, Change::Begin(_) | Change::Reserve(_));
                !(is_undone && queued.is_rider())
            });
        }
        self.waiting.splice(0..0, deferred);
        if self.learnt.is_empty() {
            self.learnt = self.state.take_learnt();
        }
        let due = Instant::now() >= self.tick_at;
        let (connection, is_doubtful) = (self.exchange.connection(), self.exchange.is_doubtful());
        let done = if self.has_work() || self.retry_at.is_some() {
            self.commit_apart()
        } else if due || is_doubtful {
            self.engine
                .must_reopen(is_doubtful)
                .and_then(|must| if must { self.commit(true) } else { Ok(()) })
        } else {
            return;
        };
        match done {
            Ok(()) => {
                self.exchange.note_trusted(connection);
                self.succeeded(due);
            }
            Err(StoreCause::Full) if self.engine.release_reserve() => {
                // The store is unwritable from here on, so no more submits are sent. The reserve's space takes the
                // claims of submits that were sent already.
                self.failed(StoreCause::Full);
                match self.commit(true) {
                    Ok(()) => self.retry_at = None,
                    Err(cause) => self.failed(cause),
                }
            }
            Err(cause) => self.failed(cause),
        }
        if due {
            self.tick_at = Instant::now() + TICK;
        }
        if self.retry_at.is_none() {
            let new = std::mem::take(&mut self.new_rows);
            self.engine.tidy(new, std::mem::take(&mut self.changed_rows));
        }
    }

    /// Commits what there is. In a shared store what has expired goes in a commit of its own, behind the changes: it may move
    /// the money of any tenant, and a commit with changes locks tenants in their order.
    fn commit_apart(&mut self) -> Result<(), StoreCause> {
        if !self.engine.is_shared() || self.tidied == self.state.tidy_at() {
            return self.commit_past_deadlock(true);
        }
        if !self.waiting.is_empty() {
            self.commit_past_deadlock(false)?;
        }
        self.commit_past_deadlock(true)
    }

    /// Commits, and once more after a deadlock, in which another replica's transaction has got the locks.
    fn commit_past_deadlock(&mut self, tidies: bool) -> Result<(), StoreCause> {
        match self.commit(tidies) {
            Err(StoreCause::Deadlock) => self.commit(tidies),
            done => done,
        }
    }

    /// Commits the changes that were not withdrawn. After a failure they wait, and can be withdrawn again. `tidies`: what has
    /// expired is deleted, too.
    fn commit(&mut self, tidies: bool) -> Result<(), StoreCause> {
        let stage = |queued: &QueuedChange| queued.withdrawable.as_ref().map(|part| part.stage.clone());
        self.waiting.retain(|queued| stage(queued).is_none_or(|stage| stage.take()));
        // Marks that come from now on may be of changes that this commit does not see.
        let marked = self.state.take_outdated().into_iter();
        let new: Vec<_> = marked.filter(|tenant| !self.outdated.contains(tenant)).collect();
        self.outdated.extend(new);
        let done = self.write_all(tidies);
        if done.is_err() {
            self.ledger.clear();
            self.waiting.iter().filter_map(stage).for_each(|stage| stage.put_back());
        }
        done
    }

    fn write_all(&mut self, tidies: bool) -> Result<(), StoreCause> {
        let target = self.state.tidy_at();
        // Replicas that learn of the same tasks lock their rows in one order.
        let mut ids: Vec<Arc<str>> = self.learnt.keys().take(MOST_RIDERS).cloned().collect();
        ids.sort_unstable();
        let began = Instant::now();
        let lately_heard = self.exchange.lately_heard(std::time::Instant::now());
        let outdated = self.outdated.clone();
        let Self { engine, state, ledger, waiting, undos, learnt, .. } = self;
        if engine.begin()? {
            // The ledger's writer remembers rows, such as numbers of names, which a new primary may lack.
            ledger.clear();
        }
        let (is_tidied, kept) = (!tidies || self.tidied == target, self.entries_kept);
        let written = engine.transact(self.retry_at.is_some(), |database, is_alone| {
            ledger.begin(is_alone);
            lock_in_order(database, ledger, waiting.iter().map(|queued| &queued.change), !is_tidied)?;
            for undo in &*undos {
                rows::undo_key_change(database, &undo.secret, &undo.retirements)?;
            }
            ledger.lost_costs_hold = state.lost_costs_hold();
            ledger.subscriptions = state.subscriptions.load_full();
            ledger.read_ahead(database, waiting.iter().filter_map(|queued| queued.change.hold()))?;
            ledger.number_names(database, waiting.iter().map(|queued| &queued.change))?;
            let outcomes = apply_all(database, ledger, waiting)?;
            for id in &ids {
                if let Some((claimed_at, status)) = learnt.get(id) {
                    rows::update_status(database, id, *claimed_at, *status)?;
                }
            }
            let mut deleted = ExpiredRows::default();
            if !is_tidied && database.may_tidy()? {
                deleted = expiry::delete_expired(database, ledger, &state.moved, target, kept, MOST_RIDERS)?;
                if database.is_shared() {
                    writers::lose_of_dead(database, &lately_heard, state.now())?;
                    writers::trim_log(database)?;
                }
            }
            ledger.write_batch(database)?;
            ledger.write_sums(database)?;
            let own = ledger.take_changed();
            let mut commit = WrittenCommit::default();
            if database.is_shared() {
                let made =
                    waiting.iter().zip(&outcomes).filter(|(_, outcome)| **outcome == Ok(Outcome::Made));
                let status =
                    |id| learnt.get(id).map(|(claimed_at, status)| (Arc::clone(id), *claimed_at, *status));
                let rows = CommitRows {
                    changes: made.map(|(queued, _)| queued.change.clone()).collect(),
                    learnt: ids.iter().filter_map(status).collect(),
                    undos: undos.clone(),
                    lost_costs_hold: ledger.lost_costs_hold,
                    subscriptions: Arc::clone(&ledger.subscriptions),
                };
                commit = WrittenCommit::new(rows, &own, &deleted.keys);
            }
            let changed = [own, outdated.clone()].concat();
            let standings = if changed.is_empty() {
                Vec::new()
            } else {
                let today = ledger.today(database, state.now())?;
                ledger.standings(database, today, changed)?
            };
            Ok(((outcomes, deleted, standings), commit))
        });
        let (outcomes, deleted, standings) = match written {
            Err(StoreCause::Refused(_)) if self.waiting.len() > 1 => return self.write_each(tidies),
            // The change that the tables refuse is the only one, and must not keep later ones waiting.
            Err(cause @ StoreCause::Refused(_)) if !self.waiting.is_empty() => {
                self.ledger.clear();
                self.answer(vec![Err(cause)]);
                return Ok(());
            }
            written => written?,
        };
        self.state.set_standings(standings);
        self.outdated.clear();
        self.state.count_commit(began.elapsed());
        self.batches.note(self.waiting.len());
        self.new_rows += self.waiting.len();
        self.changed_rows += ids.len() + deleted.rows;
        if !is_tidied && deleted.rows < MOST_RIDERS {
            self.tidied = target;
        }
        self.state.drop_keys(deleted.keys);
        for id in &ids {
            self.learnt.remove(id);
        }
        for KeyUndo { key_id, .. } in self.undos.drain(..) {
            tracing::warn!(
                key_id = &*key_id,
                "a change of this key came through after its caller had given up, and is undone"
            );
        }
        self.exchange.hint();
        if self.ledger.has_deliveries {
            self.state.delivery_news.notify_one();
        }
        self.answer(outcomes);
        Ok(())
    }

    /// Writes each change in a commit of its own: one of them is refused, and nobody knows which.
    fn write_each(&mut self, tidies: bool) -> Result<(), StoreCause> {
        self.ledger.clear();
        let mut rest = std::mem::take(&mut self.waiting).into_iter();
        let mut done = Ok(());
        while done.is_ok()
            && let Some(queued) = rest.next()
        {
            self.waiting.push(queued);
            done = self.write_all(tidies);
        }
        self.waiting.extend(rest);
        done
    }

    /// Answers the callers after a commit. A change whose caller has given up is undone by the next commit.
    fn answer(&mut self, mut outcomes: Vec<Result<Outcome, StoreCause>>) {
        for (queued, outcome) in self.waiting.iter_mut().zip(&mut outcomes) {
            let QueuedChange { change, reply, withdrawable: Some(part), .. } = queued else { continue };
            let is_given_up = !part.stage.end() || is_unheard(reply.as_ref());
            if is_given_up && *outcome == Ok(Outcome::Made) {
                *outcome = Ok(Outcome::NotMade);
                let retirements = std::mem::take(&mut part.retirements);
                self.undos.extend(KeyUndo::of(change, retirements));
            }
        }
        let made = self.waiting.iter().zip(&outcomes).filter(|(_, outcome)| **outcome == Ok(Outcome::Made));
        // The other process gets the changes before the callers are answered: a client may ask that process next.
        self.state.link.send(made.map(|(queued, _)| &queued.change));
        let spool = self.state.access.spool();
        let claimed = |queued: &QueuedChange| spool.and_then(|_| task_of(&queued.change));
        let claims: Vec<Arc<str>> = self.waiting.iter().filter_map(claimed).collect();
        for (queued, outcome) in self.waiting.drain(..).zip(outcomes) {
            let answer = outcome.map_err(|cause| self.state.because(cause));
            if let Err(fault) = &answer
                && queued.is_rider()
            {
                let entry = queued.change.entry().map(|entry| entry.source.label(&entry.account));
                tracing::error!(entry, "{fault}: the change is lost");
            }
            queued.answer(answer);
        }
        if let Some(spool) = spool.filter(|spool| spool.has_claims()) {
            spool.remove(&claims);
        }
    }

    fn succeeded(&mut self, due: bool) {
        self.retry_at = None;
        let lost = self.state.take_lost();
        if lost > 0 {
            let path = self.state.path.display();
            tracing::error!(
                "{path}: there was no room for {lost} changes, most of them entries of calls: they are lost"
            );
        }
        if due && let Err(cause) = self.engine.reserve() {
            self.state.set_fault(cause);
        }
        if self.engine.has_reserve() && self.state.fault().is_some() {
            self.state.clear_fault();
            tracing::info!("{} can be written again", self.state.path.display());
        }
    }

    fn failed(&mut self, cause: StoreCause) {
        self.engine.failed(&cause);
        let pause = if cause.is_of_contents() { RETRY_CONTENTS } else { RETRY };
        self.retry_at = Some(Instant::now() + pause);
        let fault = self.state.because(cause);
        if self.state.fault().is_none_or(|last| *last != fault) {
            tracing::error!("{fault}; {WHAT_IS_REFUSED}");
        }
        self.state.set_fault(fault.cause);
    }
}

/// Statuses, and expired rows, that a commit has beside its changes.
const MOST_RIDERS: usize = 256;
/// Longest time that a status waits for a commit.
const TICK: Duration = Duration::from_secs(1);
/// Pause after a failed commit.
const RETRY: Duration = Duration::from_secs(1);
/// Pause after a failure whose next try has to read all the file.
const RETRY_CONTENTS: Duration = Duration::from_secs(30);

#[cfg(test)]
#[path = "writer_tests.rs"]
mod tests;

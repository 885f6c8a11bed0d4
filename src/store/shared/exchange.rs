//! The exchange of a shared store: one connection for all that is said beside the log. Cells are swapped by it, gossip and
//! the log's hints go out by it and gossip comes in, and its heartbeats tell whether the database answers.
//!
//! Nothing here waits for a disk. The connection's commits are not durable at once: a message of PostgreSQL's takes a lock
//! of the whole server until its commit is over, and what a crash of the server loses of cells is a fraction of a second,
//! for which leases and rates leave room.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::runtime::Builder;
use tokio::sync::{Notify, mpsc};
use tokio::time::{sleep_until, timeout};
use tokio_postgres::{Client, Error, Notification, Statement};
use tokio_util::sync::CancellationToken;

use super::cells::CellStatements;
use super::connect::{CALL, DatabaseAddress};
use super::end_answers::EndAnswerStatements;
use super::follower::{HINT, HINT_EVERY};
use super::outbox::{Outbox, read};
use super::peers::{BEAT, PATIENCE, Peers};
use crate::store::cells::{Cell, Swap};
use crate::store::end_answer::EndAnswer;
use crate::store::gossip::{Gossip, GossipListener};
use crate::store::replica::Replica;
use crate::store::sql::fault::SqlFault;

/// State that the thread of the exchange and its callers share.
pub(in crate::store) struct SharedExchange {
    replica: Replica,
    /// No other replica lived when this one started.
    starts_alone: bool,
    session: ArcSwapOption<ExchangeSession>,
    outbox: Mutex<Outbox>,
    /// Clients were told of tasks that the database does not have yet.
    has_backlog: AtomicBool,
    /// Number of the present connection, or of the last one.
    connection: AtomicU64,
    /// The database behind this connection has all that this replica has committed. A later connection may lead to another
    /// database, which lacks the last of it. The first one comes with a start, which has committed nothing.
    trusted: AtomicU64,
    reconnected: Notify,
    /// A commit waits to be hinted at.
    is_hinted: AtomicBool,
    /// Wakes the thread for gossip or a hint.
    news: Notify,
    peers: Mutex<Peers>,
    listeners: OnceLock<Vec<Weak<dyn GossipListener>>>,
    closing: CancellationToken,
}

/// A connection with its prepared statements.
#[derive(Debug)]
struct ExchangeSession {
    client: Client,
    cells: CellStatements,
    end_answers: EndAnswerStatements,
    notify: Statement,
}

impl SharedExchange {
    /// Starts the thread of the exchange.
    ///
    /// # Errors
    /// Why there is no thread.
    pub(in crate::store) fn start(
        address: DatabaseAddress,
        replica: Replica,
        starts_alone: bool,
    ) -> io::Result<Arc<Self>> {
        let exchange = Arc::new(Self {
            replica,
            starts_alone,
            session: ArcSwapOption::empty(),
            outbox: Mutex::default(),
            has_backlog: AtomicBool::new(false),
            connection: AtomicU64::new(0),
            trusted: AtomicU64::new(1),
            reconnected: Notify::new(),
            is_hinted: AtomicBool::new(false),
            news: Notify::new(),
            peers: Mutex::new(Peers::new(replica, Instant::now())),
            listeners: OnceLock::new(),
            closing: CancellationToken::new(),
        });
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let own = Arc::clone(&exchange);
        let work = move || runtime.block_on(own.closing.run_until_cancelled(own.run(&address)));
        thread::Builder::new().name("exchange".to_owned()).spawn(work)?;
        Ok(exchange)
    }

    pub(in crate::store) fn close(&self) {
        self.closing.cancel();
        self.session.store(None);
    }

    pub(in crate::store) fn replica(&self) -> Replica {
        self.replica
    }

    pub(in crate::store) fn starts_alone(&self) -> bool {
        self.starts_alone
    }

    pub(in crate::store) fn register(&self, listeners: Vec<Weak<dyn GossipListener>>) {
        let is_first = self.listeners.set(listeners).is_ok();
        assert!(is_first, "listeners are registered once");
    }

    /// Sends gossip some time soon.
    pub(in crate::store) fn gossip(&self, gossip: &Gossip) {
        self.outbox.lock().add(gossip);
        self.news.notify_one();
    }

    /// Tells the other replicas that there is news in the log.
    pub(in crate::store) fn hint(&self) {
        if !self.is_hinted.swap(true, Ordering::Relaxed) {
            self.news.notify_one();
        }
    }

    /// Notes whether clients were told of tasks that the database does not have yet.
    pub(in crate::store) fn note_backlog(&self, has_backlog: bool) {
        self.has_backlog.store(has_backlog, Ordering::Relaxed);
    }

    pub(in crate::store) fn connection(&self) -> u64 {
        self.connection.load(Ordering::Acquire)
    }

    pub(in crate::store) async fn reconnected(&self) {
        self.reconnected.notified().await;
    }

    pub(in crate::store) fn is_doubtful(&self) -> bool {
        self.connection() > self.trusted.load(Ordering::Acquire)
    }

    pub(in crate::store) fn note_trusted(&self, connection: u64) {
        self.trusted.fetch_max(connection, Ordering::AcqRel);
    }

    /// True if all that other replicas told their clients is in the database, as far as they live.
    pub(in crate::store) fn are_others_settled(&self, now: Instant) -> bool {
        self.peers.lock().are_settled(now)
    }

    pub(in crate::store) fn away_since(&self, now: Instant) -> Option<Instant> {
        self.peers.lock().away_since(now)
    }

    pub(in crate::store) fn lately_heard(&self, now: Instant) -> Vec<Replica> {
        self.peers.lock().lately_heard(now)
    }

    pub(in crate::store) fn others(&self, now: Instant) -> usize {
        self.peers.lock().others(now)
    }

    pub(in crate::store) async fn swap(&self, cell: &str, seen: u64, new: Bytes) -> Result<Swap, SqlFault> {
        let session = self.session.load_full().ok_or(SqlFault::TimedOut)?;
        in_time(session.cells.swap(&session.client, cell, seen, new)).await
    }

    pub(in crate::store) async fn cell(&self, cell: &str) -> Result<Cell, SqlFault> {
        let session = self.session.load_full().ok_or(SqlFault::TimedOut)?;
        in_time(session.cells.read(&session.client, cell)).await
    }

    pub(in crate::store) async fn end_answer(&self, task: &str) -> Result<Option<EndAnswer>, SqlFault> {
        let session = self.session.load_full().ok_or(SqlFault::TimedOut)?;
        in_time(session.end_answers.read(&session.client, task)).await
    }

    pub(in crate::store) async fn keep_end_answer(
        &self,
        task: &str,
        answer: &EndAnswer,
    ) -> Result<(), SqlFault> {
        let session = self.session.load_full().ok_or(SqlFault::TimedOut)?;
        in_time(session.end_answers.keep(&session.client, task, answer)).await
    }

    /// Keeps a connection for as long as the store is open.
    async fn run(&self, address: &DatabaseAddress) {
        let mut pause = FIRST_PAUSE;
        loop {
            let (sender, notifications) = mpsc::channel(MOST_NOTIFICATIONS);
            let connected = async {
                // To connect has a bound of its own for each host: the first one may be silent.
                let client = address.connect(Some(sender)).await?;
                let opened = timeout(CALL, ExchangeSession::open(client)).await;
                opened.map_err(|_| SqlFault::TimedOut)?.map_err(SqlFault::from)
            };
            let fault: SqlFault = match connected.await {
                Ok(session) => {
                    pause = FIRST_PAUSE;
                    let fault = self.serve(Arc::new(session), notifications).await;
                    self.session.store(None);
                    self.peers.lock().disconnected();
                    fault
                }
                Err(fault) => fault,
            };
            tracing::debug!(%fault, "the exchange with the other replicas is interrupted");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Serves a connection until it fails, or does not answer in time.
    async fn serve(
        &self,
        session: Arc<ExchangeSession>,
        mut notifications: mpsc::Receiver<Notification>,
    ) -> SqlFault {
        if self.connection.fetch_add(1, Ordering::AcqRel) > 0 {
            self.reconnected.notify_one();
        }
        // Gossip from before the connection is out of date.
        self.outbox.lock().clear();
        let hearing = async {
            while let Some(notification) = notifications.recv().await {
                self.hear(&notification);
            }
        };
        let mut hearing = pin!(hearing);
        let mut beat_at = Instant::now();
        let mut gossip_at = beat_at;
        let mut hint_at = beat_at;
        let mut forget_at = beat_at + FORGET_EVERY;
        loop {
            let asked = Instant::now();
            let has_gossip = !self.outbox.lock().is_empty();
            let beats = asked >= beat_at || (has_gossip && asked >= gossip_at);
            let is_hinted = (beats || asked >= hint_at) && self.is_hinted.swap(false, Ordering::Relaxed);
            if beats || is_hinted {
                let gossip = if beats { self.take_gossip() } else { Vec::new() };
                let speaking = in_time(session.notify(gossip, is_hinted.then_some(self.replica)));
                tokio::select! {
                    spoken = speaking => if let Err(fault) = spoken { return fault },
                    () = &mut hearing => return SqlFault::TimedOut,
                }
                self.peers.lock().answered(asked);
                if self.session.load().is_none() {
                    self.session.store(Some(Arc::clone(&session)));
                }
                if is_hinted {
                    hint_at = asked + HINT_EVERY;
                }
                if beats {
                    beat_at = asked + BEAT;
                    gossip_at = asked + GOSSIP_EVERY;
                }
                continue;
            }
            if asked >= forget_at {
                forget_at = asked + FORGET_EVERY;
                if let Err(fault) = in_time(session.forget()).await {
                    return fault;
                }
            }
            let waits =
                [has_gossip.then_some(gossip_at), self.is_hinted.load(Ordering::Relaxed).then_some(hint_at)];
            let until = waits.into_iter().flatten().fold(beat_at, Instant::min);
            tokio::select! {
                () = self.news.notified() => {}
                () = sleep_until(until.into()) => {}
                () = &mut hearing => return SqlFault::TimedOut,
            }
        }
    }

    fn take_gossip(&self) -> Vec<String> {
        let mut outbox = self.outbox.lock();
        if !self.has_backlog.load(Ordering::Relaxed) && !self.is_doubtful() {
            outbox.add(&Gossip::Settled);
        }
        outbox.take(self.replica)
    }

    fn hear(&self, notification: &Notification) {
        let Some((from, mut gossip)) = read(notification.payload()) else { return };
        let said = gossip.len();
        gossip.retain(|piece| *piece != Gossip::Settled);
        let is_settled = gossip.len() < said;
        if self.peers.lock().heard(from, is_settled, Instant::now()) {
            let listeners = self.listeners.get().into_iter().flatten();
            listeners.filter_map(Weak::upgrade).for_each(|listener| listener.hear(from, &gossip));
        }
    }
}

impl fmt::Debug for SharedExchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedExchange").field("replica", &self.replica).finish_non_exhaustive()
    }
}

impl ExchangeSession {
    async fn open(client: Client) -> Result<Self, Error> {
        client.batch_execute(&format!("SET synchronous_commit = off; LISTEN {GOSSIP_CHANNEL}")).await?;
        let cells = CellStatements::prepare(&client).await?;
        let end_answers = EndAnswerStatements::prepare(&client).await?;
        let notify = client.prepare(NOTIFY).await?;
        Ok(Self { client, cells, end_answers, notify })
    }

    /// Deletes what is old.
    async fn forget(&self) -> Result<(), Error> {
        self.cells.forget(&self.client).await?;
        self.end_answers.forget(&self.client, SystemTime::now()).await
    }

    /// Sends gossip, and a hint of the log, in one transaction.
    async fn notify(&self, gossip: Vec<String>, hint: Option<Replica>) -> Result<u64, Error> {
        let mut channels = vec![GOSSIP_CHANNEL; gossip.len()];
        let mut payloads = gossip;
        if let Some(replica) = hint {
            channels.push(HINT);
            payloads.push(replica.to_string());
        }
        self.client.execute(&self.notify, &[&channels, &payloads]).await
    }
}

async fn in_time<T>(call: impl Future<Output = Result<T, Error>>) -> Result<T, SqlFault> {
    match timeout(PATIENCE, call).await {
        Ok(done) => done.map_err(SqlFault::Shared),
        Err(_) => Err(SqlFault::TimedOut),
    }
}

const NOTIFY: &str = "SELECT pg_notify(channel, payload)
    FROM unnest($1::text[], $2::text[]) AS notice (channel, payload)";
const GOSSIP_CHANNEL: &str = "dashgate_gossip";
/// Shortest time between two messages of gossip. The first after a rest goes at once.
const GOSSIP_EVERY: Duration = Duration::from_millis(50);
const FORGET_EVERY: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Notifications that wait to be heard.
const MOST_NOTIFICATIONS: usize = 1_024;

//! Cells and gossip, which replicas exchange beside the log. A store that no other replica has keeps cells in memory,
//! and has nobody to gossip with.

use std::io;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use tokio_postgres::Config;

use super::cells::{Cell, LocalCells, Swap};
use super::end_answer::EndAnswer;
use super::fault::StoreCause;
use super::gossip::{Gossip, GossipListener};
use super::replica::Replica;
use super::shared::connect::DatabaseAddress;
use super::shared::exchange::SharedExchange;
use super::{Store, StoreFault};

/// The exchange of a store; all clones are one.
#[derive(Debug, Clone)]
pub struct Exchange(ExchangeKind);

#[derive(Debug, Clone)]
enum ExchangeKind {
    Local(Arc<LocalCells>),
    Shared(Arc<SharedExchange>),
}

impl Exchange {
    /// The exchange of a store that has no other replica.
    pub fn local() -> Self {
        Self(ExchangeKind::Local(Arc::default()))
    }

    /// The exchange of a store that several replicas share, over a connection of its own without TLS.
    ///
    /// # Errors
    /// Why there is no thread for it.
    pub fn start(database: Config, replica: Replica) -> io::Result<Self> {
        Self::over(DatabaseAddress::new(vec![database], None, "the database".into()), replica, false)
    }

    /// The exchange of a store that several replicas share, over a connection of its own. `starts_alone`: no other replica
    /// lives.
    ///
    /// # Errors
    /// Why there is no thread for it.
    pub(super) fn over(address: DatabaseAddress, replica: Replica, starts_alone: bool) -> io::Result<Self> {
        SharedExchange::start(address, replica, starts_alone)
            .map(|exchange| Self(ExchangeKind::Shared(exchange)))
    }

    /// Changes a cell, if its version is still `seen`; 0 stands for a cell that nobody has written.
    ///
    /// # Errors
    /// Why there is no answer, after a second at most. The cell may have been changed all the same.
    pub async fn swap(&self, cell: &str, seen: u64, new: Bytes) -> Result<Swap, StoreCause> {
        match &self.0 {
            ExchangeKind::Local(cells) => Ok(cells.swap(cell, seen, new, SystemTime::now())),
            ExchangeKind::Shared(exchange) => Ok(exchange.swap(cell, seen, new).await?),
        }
    }

    /// Reads a cell.
    ///
    /// # Errors
    /// Why there is no answer, after a second at most.
    pub async fn cell(&self, cell: &str) -> Result<Cell, StoreCause> {
        match &self.0 {
            ExchangeKind::Local(cells) => Ok(cells.read(cell, SystemTime::now())),
            ExchangeKind::Shared(exchange) => Ok(exchange.cell(cell).await?),
        }
    }

    /// The answer that told a task's end, if a replica has kept one.
    ///
    /// # Errors
    /// Why there is no answer, after a second at most.
    pub async fn end_answer(&self, task: &str) -> Result<Option<EndAnswer>, StoreCause> {
        match &self.0 {
            ExchangeKind::Local(_) => Ok(None),
            ExchangeKind::Shared(exchange) => Ok(exchange.end_answer(task).await?),
        }
    }

    /// Keeps the answer that told a task's end for the other replicas, before they hear of the end. It may be lost in a
    /// crash of the database: then the task is asked for once more.
    ///
    /// # Errors
    /// Why it may not be kept, after a second at most.
    pub async fn keep_end_answer(&self, task: &str, answer: &EndAnswer) -> Result<(), StoreCause> {
        match &self.0 {
            ExchangeKind::Local(_) => Ok(()),
            ExchangeKind::Shared(exchange) => Ok(exchange.keep_end_answer(task, answer).await?),
        }
    }

    /// Tells the other replicas something some time soon. It may be lost.
    pub fn gossip(&self, gossip: &Gossip) {
        match &self.0 {
            ExchangeKind::Local(_) => {}
            ExchangeKind::Shared(exchange) => exchange.gossip(gossip),
        }
    }

    /// Tells the other replicas that there is news in the log.
    pub fn hint(&self) {
        match &self.0 {
            ExchangeKind::Local(_) => {}
            ExchangeKind::Shared(exchange) => exchange.hint(),
        }
    }

    /// Registers the listeners of gossip, once. The exchange holds them weakly.
    pub fn listen(&self, listeners: Vec<Weak<dyn GossipListener>>) {
        match &self.0 {
            ExchangeKind::Local(_) => {}
            ExchangeKind::Shared(exchange) => exchange.register(listeners),
        }
    }

    /// Number of this replica; `None` if the store has no other.
    pub fn replica(&self) -> Option<Replica> {
        match &self.0 {
            ExchangeKind::Local(_) => None,
            ExchangeKind::Shared(exchange) => Some(exchange.replica()),
        }
    }

    /// True if no other replica was connected to the database when this one started.
    pub fn starts_alone(&self) -> bool {
        match &self.0 {
            ExchangeKind::Local(_) => true,
            ExchangeKind::Shared(exchange) => exchange.starts_alone(),
        }
    }

    /// Number of the other replicas that were heard in the last three seconds. A replica that is cut off goes on with the
    /// number that it knew before.
    pub fn others(&self, now: Instant) -> usize {
        match &self.0 {
            ExchangeKind::Local(_) => 0,
            ExchangeKind::Shared(exchange) => exchange.others(now),
        }
    }

    /// The other replicas that may live still, though they have no connection just now.
    pub(super) fn lately_heard(&self, now: Instant) -> Vec<Replica> {
        match &self.0 {
            ExchangeKind::Local(_) => Vec::new(),
            ExchangeKind::Shared(exchange) => exchange.lately_heard(now),
        }
    }

    /// The time since which the database has not answered; `None` while it does.
    pub fn away_since(&self, now: Instant) -> Option<Instant> {
        match &self.0 {
            ExchangeKind::Local(_) => None,
            ExchangeKind::Shared(exchange) => exchange.away_since(now),
        }
    }

    /// Time for which the database has not answered; zero while it does. Cheap.
    pub fn away_for(&self) -> Duration {
        match &self.0 {
            ExchangeKind::Local(_) => Duration::ZERO,
            ExchangeKind::Shared(exchange) => {
                let now = Instant::now();
                let since = exchange.away_since(now);
                since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
            }
        }
    }

    /// True if the database has not answered for a second, which a new connection after a fail-over does not take. Cheap.
    pub fn is_away(&self) -> bool {
        self.away_for() >= AWAY
    }

    /// Number of the present connection to the database, or of the last one; 0 where there is none.
    pub(super) fn connection(&self) -> u64 {
        match &self.0 {
            ExchangeKind::Local(_) => 0,
            ExchangeKind::Shared(exchange) => exchange.connection(),
        }
    }

    /// Waits for a connection after the first one.
    pub(super) async fn reconnected(&self) {
        match &self.0 {
            ExchangeKind::Local(_) => std::future::pending().await,
            ExchangeKind::Shared(exchange) => exchange.reconnected().await,
        }
    }

    /// True after a new connection, until the database is known to have all that this replica has committed.
    pub(super) fn is_doubtful(&self) -> bool {
        match &self.0 {
            ExchangeKind::Local(_) => false,
            ExchangeKind::Shared(exchange) => exchange.is_doubtful(),
        }
    }

    /// Notes that the database has all that this replica has committed, as was found since this connection began.
    pub(super) fn note_trusted(&self, connection: u64) {
        match &self.0 {
            ExchangeKind::Local(_) => {}
            ExchangeKind::Shared(exchange) => exchange.note_trusted(connection),
        }
    }

    /// Notes whether clients were told of tasks that the database does not have yet.
    pub(super) fn note_backlog(&self, has_backlog: bool) {
        match &self.0 {
            ExchangeKind::Local(_) => {}
            ExchangeKind::Shared(exchange) => exchange.note_backlog(has_backlog),
        }
    }

    /// False after an outage, until the other replicas have written what they told their clients meanwhile.
    pub(super) fn are_others_settled(&self) -> bool {
        match &self.0 {
            ExchangeKind::Local(_) => true,
            ExchangeKind::Shared(exchange) => exchange.are_others_settled(Instant::now()),
        }
    }

    /// Ends the connection.
    pub fn close(&self) {
        match &self.0 {
            ExchangeKind::Local(_) => {}
            ExchangeKind::Shared(exchange) => exchange.close(),
        }
    }
}

/// Time without an answer after which the database counts as away.
const AWAY: Duration = Duration::from_secs(1);

impl Store {
    /// True if other replicas may share the store.
    pub fn has_replicas(&self) -> bool {
        self.exchange.replica().is_some()
    }

    /// Time since which commits of other replicas may not be known here; zero where there are none.
    pub fn lag(&self) -> Duration {
        if self.has_replicas() { self.state.followed.lag() } else { Duration::ZERO }
    }

    /// Name of this replica in logs: that of its host, and its number. `None` if the store has no other replica.
    pub fn replica_name(&self) -> Option<&str> {
        self.state.replica_name.get().map(|name| &**name)
    }

    /// The store with another exchange, for tests of replicas without a database.
    #[cfg(test)]
    pub(crate) fn with_exchange(self, exchange: Exchange) -> Self {
        Self { exchange, ..self }
    }

    /// The exchange with other replicas beside the log.
    pub fn exchange(&self) -> &Exchange {
        &self.exchange
    }

    /// [`Exchange::swap`], with a fault that names the store.
    ///
    /// # Errors
    /// Why there is no answer, after a second at most. The cell may have been changed all the same.
    pub async fn swap(&self, cell: &str, seen: u64, new: Bytes) -> Result<Swap, StoreFault> {
        self.exchange.swap(cell, seen, new).await.map_err(|cause| self.state.because(cause))
    }

    /// [`Exchange::gossip`].
    pub fn gossip(&self, gossip: &Gossip) {
        self.exchange.gossip(gossip);
    }
}

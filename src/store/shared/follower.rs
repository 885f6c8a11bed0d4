//! The follower: reads what other replicas have logged, four times a second, on a hint, and when somebody asks.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant as StdInstant};

use parking_lot::Mutex;
use tokio::runtime::Builder;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Notification, Statement};
use tokio_util::sync::CancellationToken;

use super::connect::{CALL, DatabaseAddress};
use super::kept_commits::{KEPT, LatelyFollowed};
use super::log::{BEHIND, LoggedCommit, Positions};
use crate::store::sql::fault::{Result, SqlFault};

/// Asks the follower for all that was committed before now.
#[derive(Debug, Clone)]
pub(in crate::store) struct FollowerHandle(mpsc::Sender<oneshot::Sender<()>>);

/// The follower calls this with each commit of another replica.
pub(in crate::store) type OnCommit = Box<dyn FnMut(LoggedCommit) + Send>;

/// The place in the log from which a follower reads.
#[derive(Debug)]
pub(in crate::store) struct FollowerStart {
    pub(in crate::store) address: DatabaseAddress,
    /// The own writer, whose commits are known.
    pub(in crate::store) writer: i64,
    pub(in crate::store) positions: Positions,
}

/// Progress of the follower, for whoever looks.
#[derive(Debug)]
pub(in crate::store) struct FollowerProgress {
    /// Set once commits have left the log that were not read.
    pub(in crate::store) is_left_behind: AtomicBool,
    /// All that was committed before this time is known.
    followed_at: Mutex<Instant>,
    lately: Mutex<Arc<LatelyFollowed>>,
}

impl FollowerProgress {
    pub(in crate::store) fn new() -> Self {
        Self {
            is_left_behind: AtomicBool::new(false),
            followed_at: Mutex::new(Instant::now()),
            lately: Mutex::default(),
        }
    }

    /// The last commit of each other replica that was read within [`KEPT`].
    pub(super) fn lately(&self) -> Arc<LatelyFollowed> {
        Arc::clone(&self.lately.lock())
    }

    /// Notes commits, before they are replayed: what this replica does from now on may rest on them.
    fn note(&self, commits: impl Iterator<Item = (i64, i64)>) {
        let now = StdInstant::now();
        let mut lately = self.lately.lock();
        let lately = Arc::make_mut(&mut lately);
        lately.extend(commits.map(|(writer, number)| (writer, (number, now))));
        lately.retain(|_, (_, at)| now.saturating_duration_since(*at) < KEPT);
    }

    /// Time since which commits of others may not be known here.
    pub(in crate::store) fn lag(&self) -> Duration {
        self.followed_at.lock().elapsed()
    }
}

struct LogFollower {
    start: FollowerStart,
    on_commit: OnCommit,
    asked: mpsc::Receiver<oneshot::Sender<()>>,
    progress: Arc<FollowerProgress>,
    closing: CancellationToken,
}

impl FollowerHandle {
    /// Starts the thread.
    ///
    /// # Errors
    /// Why there is no thread.
    pub(in crate::store) fn start(
        start: FollowerStart,
        on_commit: OnCommit,
        progress: Arc<FollowerProgress>,
        closing: CancellationToken,
    ) -> io::Result<Self> {
        let (ask, asked) = mpsc::channel(MOST_WAITING);
        let mut follower = LogFollower { start, on_commit, asked, progress, closing };
        let runtime = Builder::new_current_thread().enable_all().build()?;
        thread::Builder::new().name("follower".to_owned()).spawn(move || {
            runtime.block_on(async {
                let closing = follower.closing.clone();
                closing.run_until_cancelled(follower.run()).await;
            });
        })?;
        Ok(Self(ask))
    }

    /// Returns once all that was committed before this call is replayed here. One query serves all who wait.
    ///
    /// # Errors
    /// The database has not answered in time.
    pub(in crate::store) async fn catch_up(&self) -> Result<()> {
        let (reply, done) = oneshot::channel();
        let asking = async {
            self.0.send(reply).await.map_err(|_| SqlFault::TimedOut)?;
            done.await.map_err(|_| SqlFault::TimedOut)
        };
        timeout(CATCH_UP, asking).await.unwrap_or(Err(SqlFault::TimedOut))
    }
}

impl LogFollower {
    async fn run(&mut self) {
        let mut fault: Option<Arc<str>> = None;
        loop {
            let Err(found) = self.follow(&mut fault).await;
            let found: Arc<str> = found.to_string().into();
            if fault.as_ref() != Some(&found) {
                tracing::error!(
                    "{}: what other replicas do is not known for now: {found}",
                    self.start.address.name
                );
            }
            fault = Some(found);
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Follows over one connection, until that fails.
    async fn follow(&mut self, fault: &mut Option<Arc<str>>) -> Result<std::convert::Infallible> {
        let (notified, mut hints) = mpsc::channel::<Notification>(1);
        let client = self.start.address.connect(Some(notified)).await?;
        let listen = format!("LISTEN {HINT}");
        timeout(CALL, client.batch_execute(&listen)).await.map_err(|_| SqlFault::TimedOut)??;
        let behind = timeout(CALL, client.prepare(BEHIND)).await.map_err(|_| SqlFault::TimedOut)??;
        let mut next = Instant::now();
        let mut hinted_next = next;
        loop {
            let mut waiting = Vec::new();
            // Whoever asks meanwhile has the log read at once, and so a hint is heeded that waits here.
            let hinted = async {
                hints.recv().await;
                sleep_until(hinted_next).await;
            };
            tokio::select! {
                () = hinted => {}
                count = self.asked.recv_many(&mut waiting, MOST_WAITING) => {
                    if count == 0 {
                        // Nobody can ask any more: the store is gone.
                        std::future::pending::<()>().await;
                    }
                }
                () = sleep_until(next) => {}
            }
            // The query begins after those who wait have asked.
            while let Ok(reply) = self.asked.try_recv() {
                waiting.push(reply);
            }
            let began = Instant::now();
            self.read(&client, &behind).await?;
            *self.progress.followed_at.lock() = began;
            if fault.take().is_some() {
                tracing::info!("{}: other replicas are followed again", self.start.address.name);
            }
            for reply in waiting {
                let _ = reply.send(());
            }
            (next, hinted_next) = (Instant::now() + TAIL, began + HINT_EVERY);
        }
    }

    /// Replays all that is behind.
    async fn read(&mut self, client: &Client, behind: &Statement) -> Result<()> {
        loop {
            let (writers, numbers): (Vec<i64>, Vec<i64>) = self.start.positions.iter().unzip();
            let parameters: [&(dyn ToSql + Sync); 4] =
                [&writers, &numbers, &self.start.writer, &MOST_AT_ONCE];
            let rows =
                timeout(CALL, client.query(behind, &parameters)).await.map_err(|_| SqlFault::TimedOut)??;
            if !rows.is_empty() {
                let numbers = rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?)));
                self.progress.note(numbers.collect::<Result<Vec<_>>>()?.into_iter());
            }
            for row in &rows {
                let (writer, number): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
                let known = match self.start.positions.get(&writer) {
                    Some(known) => *known,
                    // It began before this replica, which has read all that it had done, and its row was lost meanwhile.
                    None if writer < self.start.writer => row.try_get(3)?,
                    None => 0,
                };
                if number != known + 1 && !self.progress.is_left_behind.swap(true, Ordering::Relaxed) {
                    tracing::error!(
                        "{}: this replica has missed what others did, as it was cut off for more than an hour: restart it",
                        self.start.address.name
                    );
                }
                match serde_json::from_slice(row.try_get(2)?) {
                    Ok(commit) => (self.on_commit)(commit),
                    Err(error) => tracing::error!(writer, number, %error, "a logged commit can't be read"),
                }
                let position = self.start.positions.entry(writer).or_default();
                *position = number.max(*position);
            }
            if i64::try_from(rows.len()).unwrap_or(i64::MAX) < MOST_AT_ONCE {
                return Ok(());
            }
        }
    }
}

/// Channel of the hints that something was committed.
pub(in crate::store) const HINT: &str = "dashgate_log";
/// Shortest time between two hints of the log, and between two looks at it that a hint asks for. The first after a rest goes
/// at once. Without it, a third of what three replicas spent on a submit went into hints.
pub(super) const HINT_EVERY: Duration = Duration::from_millis(5);
/// Time between two looks without a hint.
const TAIL: Duration = Duration::from_millis(250);
const PAUSE: Duration = Duration::from_millis(250);
/// Longest wait of a caller.
const CATCH_UP: Duration = Duration::from_secs(2);
/// Commits of a writer that are read at once.
const MOST_AT_ONCE: i64 = 512;
const MOST_WAITING: usize = 1_024;

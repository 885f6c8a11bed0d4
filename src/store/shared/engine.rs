//! The database as the writer uses it: one connection, whose commits are numbered in the log.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use foldhash::fast::RandomState;
use tokio_util::sync::CancellationToken;

use super::connect::DatabaseAddress;
use super::follower::FollowerProgress;
use super::kept_commits::{KEPT, KeptCommits, LatelyFollowed, WrittenCommit};
use super::session::Session;
use super::writers::{self, LAST_KEPT, WRITER_LOCKS, WriterRow};
use super::{log, resend};
use crate::store::fault::StoreCause;
use crate::store::sql::database::Database;
use crate::store::sql::fault::Result as SqlResult;
use crate::store::timestamp::milliseconds;
use crate::usage::Zone;

#[derive(Debug)]
pub(in crate::store) struct SharedEngine {
    address: DatabaseAddress,
    session: Option<Session>,
    /// True while the session is in a transaction.
    has_begun: bool,
    /// Number of this process among the writers; a start takes a new one.
    pub(in crate::store) writer: i64,
    row: WriterRow,
    /// No other writer lived when this one began. Of two that begin at once, at least one sees the other.
    pub(in crate::store) starts_alone: bool,
    /// Number of the last commit in the log.
    number: i64,
    kept: KeptCommits,
    /// The database was last seen to have all kept commits. Their age counts at this time, and not now: during an outage
    /// none is given up.
    answered_at: Instant,
    followed: Arc<FollowerProgress>,
    /// Commits of others that the database has lost and that nobody has sent again in time.
    given_up: GivenUp,
    zone: Zone,
    closing: CancellationToken,
}

/// Surroundings of an engine.
#[derive(Debug)]
pub(in crate::store) struct EngineSetting {
    /// The commits of other replicas that are known here.
    pub(in crate::store) followed: Arc<FollowerProgress>,
    /// Where the ledger's days begin.
    pub(in crate::store) zone: Zone,
    pub(in crate::store) closing: CancellationToken,
}

impl SharedEngine {
    /// Connects, and takes a number for this process. `name` is for people who look at the table of writers.
    ///
    /// # Errors
    /// Why the database can't be used.
    pub(in crate::store) fn open(
        address: DatabaseAddress,
        name: &str,
        setting: EngineSetting,
    ) -> Result<Self, StoreCause> {
        let session = Session::open(&address)?;
        let row = WriterRow { name: name.into(), started_at: milliseconds(SystemTime::now()) };
        let writer = row.insert(Database::Shared(&session))?;
        let EngineSetting { followed, zone, closing } = setting;
        let mut engine = Self {
            address,
            session: None,
            has_begun: false,
            writer,
            row,
            starts_alone: false,
            number: 0,
            kept: KeptCommits::default(),
            answered_at: Instant::now(),
            followed,
            given_up: HashMap::default(),
            zone,
            closing,
        };
        engine.introduce(&session)?;
        engine.starts_alone = writers::living(Database::Shared(&session))?.len() == 1;
        engine.session = Some(session);
        Ok(engine)
    }

    /// Makes a connection this writer's own. The lock is held for as long as the connection lives: another connection of this
    /// writer, whose last commit may still be under way, has ended once it is taken; and others see that the writer lives.
    fn introduce(&self, session: &Session) -> Result<(), StoreCause> {
        let writer = self.writer;
        let end_the_last = format!(
            "SELECT pg_terminate_backend(pid) FROM pg_locks
             WHERE locktype = 'advisory' AND classid = {WRITER_LOCKS} AND objid = {writer} AND granted
                 AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
                 AND pid <> pg_backend_pid()"
        );
        session.batch(&end_the_last)?;
        session.batch(&format!(
            "SELECT pg_advisory_lock({WRITER_LOCKS}, {writer}); SET dashgate.writer = '{writer}'"
        ))?;
        Ok(())
    }

    /// Begins a transaction, unless one has begun. True over a new connection: what was read before may be gone.
    pub(in crate::store) fn begin(&mut self) -> Result<bool, StoreCause> {
        if self.has_begun {
            return Ok(false);
        }
        if let Some(session) = self.session.take().filter(Session::is_open)
            && session.begin().is_ok()
        {
            (self.session, self.has_begun) = (Some(session), true);
            return Ok(false);
        }
        // A kept connection may be dead without a word, as after a fail-over.
        let session = Session::open(&self.address)?;
        self.introduce(&session)?;
        self.resend_missing(&session)?;
        session.begin()?;
        (self.session, self.has_begun) = (Some(session), true);
        Ok(true)
    }

    /// True if the connection answers. It is tried if the database may lack commits of this replica, or if the caller says
    /// `must_try`; else it counts as good.
    pub(in crate::store) fn answers(&mut self, must_try: bool) -> bool {
        if self.kept.is_empty() && !must_try {
            return true;
        }
        let answers = self
            .session
            .as_ref()
            .is_some_and(|session| session.is_open() && session.batch("SELECT 1").is_ok());
        if answers {
            self.note_answer();
        }
        answers
    }

    pub(in crate::store) fn kept_commits(&self) -> usize {
        self.kept.len()
    }

    /// Notes that the database has all kept commits.
    fn note_answer(&mut self) {
        self.answered_at = Instant::now();
        self.kept.forget_old(self.answered_at);
    }

    /// Runs a transaction, and logs what comes beside its result.
    pub(in crate::store) fn transact<T>(
        &mut self,
        work: impl FnOnce(Database<'_>) -> SqlResult<(T, WrittenCommit)>,
    ) -> Result<T, StoreCause> {
        self.begin()?;
        self.has_begun = false;
        let Some(session) = self.session.take() else { return Err(StoreCause::Closed) };
        let number = self.number + 1;
        let database = Database::Shared(&session);
        let prepared = work(database).and_then(|(done, commit)| {
            let body = (!commit.is_empty()).then(|| commit.log.body());
            if let Some(body) = &body {
                log::append(database, self.writer, number, body)?;
            }
            Ok((done, body.map(|body| (body, commit))))
        });
        let (done, logged) = match prepared {
            Ok(prepared) => prepared,
            Err(fault) => {
                // The first fault is the cause of those that follow; it may be that of a statement nobody has waited for.
                let fault = session.settle().err().unwrap_or(fault);
                // A connection that can't even take this back is given up.
                if session.batch("ROLLBACK").is_ok() {
                    self.session = Some(session);
                }
                return Err(fault.into());
            }
        };
        // Read before the commit. Read after it, each of two replicas could have seen the other's commit before its own one
        // was answered, and later both would wait for each other.
        let dependencies = self.followed.lately();
        let committed = match session.commit() {
            (Err(fault), _) if fault.is_answer() => {
                self.session = Some(session);
                return Err(fault.into());
            }
            (statements, committed) => statements.and(committed),
        };
        match &committed {
            Ok(()) => self.session = Some(session),
            Err(_) => drop(session),
        }
        let Some((body, commit)) = logged else { return committed.map(|()| done).map_err(StoreCause::from) };
        match committed {
            Ok(()) => {
                self.keep(number, body, commit, dependencies);
                self.note_answer();
            }
            Err(fault) => match self.session_after(number) {
                Some((session, true)) => {
                    self.keep(number, body, commit, dependencies);
                    self.take_up(session);
                }
                Some((session, false)) => {
                    // Another replica may have read the commit before its database lost it, so the number is used up.
                    self.number = number;
                    self.kept.use_up(number, Instant::now());
                    self.take_up(session);
                    return Err(fault.into());
                }
                None => return Err(fault.into()),
            },
        }
        Ok(done)
    }

    fn keep(&mut self, number: i64, body: Vec<u8>, commit: WrittenCommit, dependencies: Arc<LatelyFollowed>) {
        self.number = number;
        self.kept.keep(number, body, commit, dependencies, Instant::now());
    }

    /// A new connection after a commit whose answer was lost, and whether the commit has landed. Waits for the database,
    /// however long that takes: until then nobody knows. `None` where the store is closed meanwhile.
    fn session_after(&self, number: i64) -> Option<(Session, bool)> {
        while !self.closing.is_cancelled() {
            let found = Session::open(&self.address).map_err(StoreCause::from).and_then(|session| {
                self.introduce(&session)?;
                let found = log::has(Database::Shared(&session), self.writer, number)?;
                Ok((session, found))
            });
            match found {
                Ok(found) => return Some(found),
                Err(_) => std::thread::sleep(PAUSE),
            }
        }
        None
    }

    /// Goes on over a new connection, if the database has all by then; else the next transaction tries again.
    fn take_up(&mut self, session: Session) {
        if self.resend_missing(&session).is_ok() {
            self.session = Some(session);
        }
    }

    /// Sends again what the database lacks of this replica's commits: it may be a standby that was behind when it became the
    /// primary. Then waits until other replicas have done the same, as far as this one has seen their commits: a change may
    /// rest on theirs.
    fn resend_missing(&mut self, session: &Session) -> Result<(), StoreCause> {
        let database = Database::Shared(session);
        let first_kept = self.kept.first_number();
        let trimmed_to = first_kept.map_or(self.number, |first| first - 1);
        let may_be_trimmed = !self.kept.is_empty() && self.answered_at.elapsed() >= LAST_KEPT;
        let last = self.row.last_or_insert(database, self.writer, trimmed_to, may_be_trimmed)?;
        if last < self.number {
            let (name, count) = (&self.address.name, self.number - last);
            tracing::warn!(
                "{name}: it lacks the last {count} commits of this replica, which sends them again"
            );
            let lost = first_kept.map_or(count, |first| first - 1 - last);
            if lost > 0 {
                tracing::error!(
                    "{name}: it has gone back further than this replica keeps its commits, and {lost} of them are lost: restart all \
                     replicas, so that they know what the database knows"
                );
            }
        }
        let mut given_up = std::mem::take(&mut self.given_up);
        let sent = self.send_behind(last, session, &mut given_up);
        self.given_up = given_up;
        sent?;
        self.note_answer();
        Ok(())
    }

    /// Sends the commits behind a number again, each after those on which it may rest.
    fn send_behind(&self, last: i64, session: &Session, given_up: &mut GivenUp) -> Result<(), StoreCause> {
        let database = Database::Shared(session);
        for commit in self.kept.behind(last) {
            self.wait_for(database, &commit.dependencies, given_up)?;
            let not_made = resend::send(session, self.zone, self.writer, commit)?;
            if not_made > 0 {
                tracing::error!(
                    number = commit.number,
                    "{}: {not_made} changes of a commit that it lacked are not made again, as others were made meanwhile",
                    self.address.name
                );
            }
        }
        self.wait_for(database, &self.followed.lately(), given_up)
    }

    /// Waits until the database has these commits of other replicas, which send them again. A replica whose commits do not
    /// come in time is given up, with all of its commits that are known here: it has ended, or has them no more.
    fn wait_for(
        &self,
        database: Database<'_>,
        commits: &LatelyFollowed,
        given_up: &mut GivenUp,
    ) -> Result<(), StoreCause> {
        let began = Instant::now();
        let mut missing: GivenUp = commits
            .iter()
            .filter(|(writer, (_, at))| {
                **writer != self.writer && self.answered_at.saturating_duration_since(*at) < KEPT
            })
            .map(|(writer, (number, _))| (*writer, *number))
            .filter(|(writer, number)| given_up.get(writer).is_none_or(|given_up| given_up < number))
            .collect();
        while !missing.is_empty() && !self.closing.is_cancelled() {
            let there = log::positions(database)?;
            missing.retain(|writer, number| there.get(writer).is_none_or(|there| there < number));
            let waited = began.elapsed();
            if waited >= WAIT_FOR_CONNECTION && !missing.is_empty() {
                // A replica that lives has a connection by now, over which it sends.
                let living = if waited < WAIT_FOR_COMMITS { writers::living(database)? } else { Vec::new() };
                let gone: GivenUp = missing.extract_if(|writer, _| !living.contains(writer)).collect();
                if !gone.is_empty() {
                    tracing::error!(
                        replicas = ?gone.keys().collect::<Vec<_>>(),
                        "{}: it lacks commits of other replicas, which have not sent them again",
                        self.address.name
                    );
                }
                let known = self.followed.lately();
                let newest =
                    |writer, number: i64| known.get(&writer).map_or(number, |(last, _)| number.max(*last));
                given_up.extend(gone.into_iter().map(|(writer, number)| (writer, newest(writer, number))));
            }
            if !missing.is_empty() {
                std::thread::sleep(LOOK_AGAIN);
            }
        }
        Ok(())
    }
}

/// Numbers of commits by writer.
type GivenUp = HashMap<i64, i64, RandomState>;

const PAUSE: Duration = Duration::from_millis(250);
/// Wait for a replica without a connection to connect and send its commits again. New commits wait meanwhile. Such a replica
/// may be in the middle of an attempt of five seconds at a host that is dead, and make another one after that.
const WAIT_FOR_CONNECTION: Duration = Duration::from_secs(15);
/// Longest wait for the commits of a replica that is connected. It may itself wait for another one.
const WAIT_FOR_COMMITS: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

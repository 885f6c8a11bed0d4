//! Closed days move: a thread copies their batches into the files of days, and the writer then deletes them. After a crash
//! between the two the copy is made again, which changes nothing.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use rusqlite::{Connection, params};

use super::day_files::{DayFiles, NumberedBatch};
use super::file;
use crate::store::entry::CREDIT;
use crate::store::fault::StoreCause;
use crate::store::sql::database::Database;
use crate::store::sql::entry_batch::EntryBatch;
use crate::store::sql::entry_rows::{self, COLUMNS, EntryNames};
use crate::store::sql::fault::Result as SqlResult;
use crate::store::sql::ledger::DELETE_BATCHES;
use crate::store::sql::row::Row;
use crate::store::sql::value::values;
use crate::store::timestamp::{milliseconds, time};
use crate::usage::Zone;

/// How far closed days are durable in files of their own, so that the writer may delete them.
#[derive(Debug, Default)]
pub(in crate::store) struct MovedDays {
    /// Rows of uses up to this one; 0 for none.
    row: AtomicI64,
    /// Batches up to this one; 0 for none.
    batch: AtomicI64,
    /// No rows of uses are left.
    are_rows_moved: AtomicBool,
}

/// Sends the time to the thread that moves days. The thread ends when this is dropped or closed.
#[derive(Debug, Default)]
pub(in crate::store) struct DayMoverHandle(Mutex<Option<RunningMover>>);

#[derive(Debug)]
struct RunningMover {
    times: SyncSender<SystemTime>,
    /// Disconnected once the thread has let go of its files.
    ended: Receiver<()>,
}

struct DayMover {
    path: Arc<Path>,
    files: DayFiles,
    zone: Zone,
    entries_kept: Duration,
    moved: Arc<MovedDays>,
    /// Keeps other processes from moving.
    lock: Option<File>,
    /// Time before which there is nothing to do.
    rests_until: SystemTime,
    /// The fault of the last run, which is logged once.
    fault: Option<StoreCause>,
}

impl MovedDays {
    /// Deletes rows and batches that have moved, `most` at most; their number is returned.
    pub(in crate::store) fn delete(&self, database: Database<'_>, most: usize) -> SqlResult<usize> {
        let mut deleted = 0;
        let row = self.row.load(Ordering::Acquire);
        if row > 0 {
            deleted = database.execute(DELETE_ROWS, values![row, most as i64])?;
            if deleted == 0 {
                let _ = self.row.compare_exchange(row, 0, Ordering::AcqRel, Ordering::Relaxed);
            }
        }
        let batch = self.batch.load(Ordering::Acquire);
        if batch > 0 {
            // A batch may take many pages.
            let most = (most - deleted).min(MOST_DELETED) as i64;
            deleted += database.execute(DELETE_BATCHES, values![batch, most])?;
        }
        if self.are_rows_moved.swap(false, Ordering::AcqRel) {
            database.post("UPDATE earlier_entries SET last = 0", &[])?;
        }
        Ok(deleted)
    }
}

impl DayMoverHandle {
    /// Starts the thread.
    ///
    /// # Errors
    /// Why there is no thread.
    pub(in crate::store) fn start(
        &self,
        path: Arc<Path>,
        zone: Zone,
        entries_kept: Duration,
        moved: Arc<MovedDays>,
    ) -> io::Result<()> {
        let (sender, times) = sync_channel(1);
        let files = DayFiles::of(&path);
        let rests_until = SystemTime::UNIX_EPOCH;
        let mover = DayMover { path, files, zone, entries_kept, moved, lock: None, rests_until, fault: None };
        let (running, ended) = sync_channel(0);
        let run = move || {
            mover.run(&times);
            drop(running);
        };
        thread::Builder::new().name("days".to_owned()).spawn(run)?;
        *self.0.lock() = Some(RunningMover { times: sender, ended });
        Ok(())
    }

    /// Lets the thread move a bounded number of entries of days that are closed at `now`; a thread that is still at work
    /// is let be.
    pub(in crate::store) fn tick(&self, now: SystemTime) {
        let mut mover = self.0.lock();
        if let Some(running) = &*mover
            && let Err(TrySendError::Disconnected(_)) = running.times.try_send(now)
        {
            *mover = None;
        }
    }

    /// Ends the thread, and waits until it has let go of its files; false if it has not within the time, and is left
    /// behind. Blocks.
    pub(in crate::store) fn close_within(&self, patience: Duration) -> bool {
        let Some(RunningMover { times, ended }) = self.0.lock().take() else { return true };
        drop(times);
        // A panic of the thread is in the log already.
        matches!(ended.recv_timeout(patience), Err(RecvTimeoutError::Disconnected))
    }
}

impl DayMover {
    fn run(mut self, times: &Receiver<SystemTime>) {
        while let Ok(now) = times.recv() {
            // A clock that was set back does not make it rest for long.
            let rests = self.rests_until.duration_since(now).unwrap_or_default();
            if !rests.is_zero() && rests <= PAUSE {
                continue;
            }
            match self.work(now) {
                Ok(has_more) => {
                    self.rests_until = if has_more { now } else { now + PAUSE };
                    self.fault = None;
                }
                Err(cause) => {
                    self.rests_until = now + PAUSE;
                    if self.fault.as_ref() != Some(&cause) {
                        let path = self.path.display();
                        tracing::error!(
                            "{path}: closed days of the ledger stay in it for now: the store {cause}"
                        );
                    }
                    self.fault = Some(cause);
                }
            }
        }
    }

    /// Removes a day's file that has expired, or moves a bounded number of entries; false where there was nothing to do.
    fn work(&mut self, now: SystemTime) -> Result<bool, StoreCause> {
        let days = self.files.days()?;
        let expired = now.checked_sub(self.entries_kept).map_or(i64::MIN, |kept| self.zone.day(kept));
        if let Some(day) = days.first().filter(|day| **day < expired) {
            self.files.remove(*day)?;
            tracing::info!("the ledger's entries of {} have expired", self.zone.date(self.zone.begins(*day)));
            return Ok(true);
        }
        let connection = file::open_to_read(&self.path)?;
        let closed = milliseconds(self.zone.begins(self.zone.day(now) - OPEN_DAYS));
        let (rows, are_left) = self.closed_rows(&connection, closed)?;
        let batches = if are_left { rows } else { self.closed_batches(&connection, closed)? };
        let Some(first) = batches.first() else {
            return Ok(false);
        };
        if self.lock.is_none() {
            self.lock = self.files.lock()?;
        }
        if self.lock.is_none() {
            return Ok(false);
        }
        let day = |batch: &NumberedBatch| self.zone.day(time(batch.first_at));
        let count = batches.iter().take_while(|batch| day(batch) == day(first)).count();
        let batches = &batches[..count];
        let file = self.file_of(first.number, day(first), &days)?;
        self.files.write(file, batches, &mut EntryNames::new(Database::Embedded(&connection)))?;
        if let Some(last) = batches.last() {
            let to = if are_left { &self.moved.row } else { &self.moved.batch };
            to.store(last.number, Ordering::Release);
        }
        Ok(true)
    }

    /// The day whose file takes a batch of a day: the one that has it already, as after a crash; else no day before the last
    /// one that has a file, so that files are in the order of batches also where the zone was another before.
    fn file_of(&self, number: i64, day: i64, days: &[i64]) -> Result<i64, StoreCause> {
        for file in days.iter().filter(|file| **file >= day) {
            if self.files.has(*file, number)? {
                return Ok(*file);
            }
        }
        Ok(days.last().map_or(day, |last| day.max(*last)))
    }

    /// Uses in rows, from before there were batches, that are of closed days, each as a batch; and whether there are any
    /// rows of uses at all.
    fn closed_rows(
        &self,
        connection: &Connection,
        closed: i64,
    ) -> Result<(Vec<NumberedBatch>, bool), StoreCause> {
        let moved = self.moved.row.load(Ordering::Acquire);
        let mut names = EntryNames::new(Database::Embedded(connection));
        let mut select =
            connection.prepare(&format!("SELECT {COLUMNS}, rowid FROM entries WHERE {EARLIER_USES}"))?;
        let mut rows = select.query(params![moved, CREDIT, MOST_ROWS])?;
        let (mut batches, mut are_left) = (Vec::new(), false);
        while let Some(row) = rows.next()? {
            are_left = true;
            let at: i64 = row.get(0)?;
            if at >= closed {
                break;
            }
            let mut batch = EntryBatch::default();
            batch.push(
                &entry_rows::entry(Row::Embedded(row), &mut names)?,
                at,
                &entry_rows::name_ids(Row::Embedded(row))?,
            );
            if let Some((first_at, last_at, data)) = batch.contents() {
                let number = row.get("rowid")?;
                batches.push(NumberedBatch { number, first_at, last_at, data: data.to_vec() });
            }
        }
        if !are_left && moved == 0 {
            let last: i64 = connection.query_row("SELECT last FROM earlier_entries", [], |row| row.get(0))?;
            self.moved.are_rows_moved.store(last > 0, Ordering::Release);
        }
        Ok((batches, are_left))
    }

    /// The next batches of closed days. The last batch of all stays, as the next one takes its number and time from it.
    fn closed_batches(&self, connection: &Connection, closed: i64) -> rusqlite::Result<Vec<NumberedBatch>> {
        let moved = self.moved.batch.load(Ordering::Acquire);
        let mut select = connection.prepare(CLOSED_BATCHES)?;
        let mut rows = select.query([moved])?;
        let (mut batches, mut bytes) = (Vec::new(), 0);
        while let Some(row) = rows.next()? {
            let last_at = row.get(2)?;
            if last_at >= closed || bytes >= MOST_BYTES {
                break;
            }
            let data: Vec<u8> = row.get(3)?;
            bytes += data.len() + ROW_BYTES;
            batches.push(NumberedBatch { number: row.get(0)?, first_at: row.get(1)?, last_at, data });
        }
        Ok(batches)
    }
}

const EARLIER_USES: &str = "rowid > ?1 AND rowid <= (SELECT last FROM earlier_entries) AND kind < ?2
    ORDER BY rowid LIMIT ?3";
const CLOSED_BATCHES: &str = "SELECT number, first_at, last_at, data FROM entry_batches
    WHERE number > ?1 AND number < (SELECT max(number) FROM entry_batches) ORDER BY number";
pub(in crate::store) const DELETE_ROWS: &str = "DELETE FROM entries WHERE rowid IN
    (SELECT rowid FROM entries WHERE rowid <= ?1 AND kind < 3 ORDER BY rowid LIMIT ?2)";
/// Today and yesterday: days that are asked for most, and in which a hand-over or a late commit may still enter.
const OPEN_DAYS: i64 = 1;
/// Rows that one run moves.
const MOST_ROWS: i64 = 4_096;
/// Bytes of batches that one run moves.
const MOST_BYTES: usize = 2 << 20;
/// Bytes of a batch beside its data.
const ROW_BYTES: usize = 32;
/// Batches that one commit deletes.
const MOST_DELETED: usize = 128;
/// Time between two looks while there is nothing to do.
const PAUSE: Duration = Duration::from_secs(60);

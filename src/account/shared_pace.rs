//! The pace of submits over several replicas. The starts of a model at an account stand in a cell of the store; a submit
//! starts once the cell has it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::pace::{AnsweredSubmit, SubmitPace, SubmitSlot};
use crate::store::{Cell, Exchange, Replica, Swap};

/// The cells of all paces. One task of the process writes them, so that its own workers are in no one's way.
#[derive(Debug, Clone)]
pub struct SharedPaces {
    starts: mpsc::UnboundedSender<AskedStart>,
    answers: mpsc::UnboundedSender<AnsweredSubmit>,
}

/// The store does not tell whether there is room for a submit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unanswered;

/// The writer of the cells.
#[derive(Debug)]
pub struct PaceWriter {
    exchange: Exchange,
    replica: Replica,
    starts: mpsc::UnboundedReceiver<AskedStart>,
    answers: mpsc::UnboundedReceiver<AnsweredSubmit>,
    cells: HashMap<Arc<str>, SeenCell>,
    /// A time of the database's clock in microseconds, and the moment of that time here.
    clock: Option<(u64, Instant)>,
}

#[derive(Debug)]
struct AskedStart {
    cell: Arc<str>,
    pace: Arc<SubmitPace>,
    number: u64,
    reply: oneshot::Sender<Result<bool, Unanswered>>,
}

/// A cell as it was seen last.
#[derive(Debug, Default)]
struct SeenCell {
    version: u64,
    others: Vec<CellStart>,
}

/// A start in a cell: the replica, its number of the start, and the times of start and answer by the database's clock, in
/// microseconds.
type CellStart = (Replica, u64, u64, Option<u64>);

impl SharedPaces {
    /// The cells, and the writer that is to run as long as they are used. `replica` is this process among the others.
    pub fn new(exchange: Exchange, replica: Replica) -> (Self, PaceWriter) {
        let (starts, asked) = mpsc::unbounded_channel();
        let (answers, answered) = mpsc::unbounded_channel();
        let (cells, clock) = (HashMap::new(), None);
        let writer = PaceWriter { exchange, replica, starts: asked, answers: answered, cells, clock };
        (Self { starts, answers }, writer)
    }

    /// Name of the cell of a model at an account.
    pub fn cell(account: &str, model: &str) -> Arc<str> {
        format!("pace/{account}/{model}").into()
    }

    /// Writes the start of a submit, if the replicas together leave room for it. If they do not, the slot counts no more,
    /// and its pace knows when there may be room.
    ///
    /// # Errors
    /// The store does not answer; then the slot counts no more.
    pub async fn confirm(&self, cell: &Arc<str>, slot: &mut SubmitSlot) -> Result<bool, Unanswered> {
        let Some((pace, number)) = slot.counted() else { return Ok(true) };
        let (reply, told) = oneshot::channel();
        let start = AskedStart { cell: Arc::clone(cell), pace: Arc::clone(pace), number, reply };
        let sent = self.starts.send(start).map_err(|_| Unanswered);
        let has_room = match sent {
            Ok(()) => told.await.unwrap_or(Err(Unanswered)),
            Err(unanswered) => Err(unanswered),
        };
        if has_room == Ok(true) {
            slot.tell(self.answers.clone(), Arc::clone(cell));
        } else {
            slot.take_back();
        }
        has_room
    }
}

impl PaceWriter {
    /// Writes until the last handle is dropped.
    pub async fn run(mut self) {
        loop {
            tokio::select! {
                biased;
                start = self.starts.recv() => {
                    let Some(AskedStart { cell, pace, number, reply }) = start else { return };
                    // Nothing is written for a client that has left.
                    let has_room = match reply.is_closed() {
                        true => Ok(false),
                        false => self.write(&cell, &pace, Some(number)).await,
                    };
                    let _ = reply.send(has_room);
                }
                Some(AnsweredSubmit { cell, pace }) = self.answers.recv() => {
                    // Others take an answer that they are not told of to have come late.
                    let _ = self.write(&cell, &pace, None).await;
                }
            }
        }
    }

    /// Writes this replica's starts into a cell; not if there is no room for the start with this number.
    async fn write(
        &mut self,
        name: &Arc<str>,
        pace: &SubmitPace,
        number: Option<u64>,
    ) -> Result<bool, Unanswered> {
        if self.exchange.away_since(Instant::now()).is_some() {
            return Err(Unanswered);
        }
        if !self.cells.contains_key(name) {
            let cell = self.exchange.cell(name).await.map_err(|_| Unanswered)?;
            self.note(name, pace, &cell);
        }
        for _ in 0..TRIES {
            if number.is_some_and(|number| !pace.has_room_for(number, Instant::now())) {
                return Ok(false);
            }
            let Some((seen, value)) = self.next_value(name, pace) else { return Ok(true) };
            match self.exchange.swap(name, seen, value).await.map_err(|_| Unanswered)? {
                Swap::Made(cell) => {
                    self.note(name, pace, &cell);
                    return Ok(true);
                }
                Swap::Stale(cell) => self.note(name, pace, &cell),
            }
        }
        Ok(false)
    }

    /// The version that was seen last, and the value that is to follow it; `None` where there is nothing to write.
    fn next_value(&self, name: &Arc<str>, pace: &SubmitPace) -> Option<(u64, Bytes)> {
        let (own, longest) = pace.starts()?;
        let (cell, now) = (self.cells.get(name)?, Instant::now());
        let own = own.into_iter().map(|(number, at, ended)| {
            (self.replica, number, self.there(at), ended.map(|ended| self.there(ended)))
        });
        let counts = |start: &&CellStart| {
            now.saturating_duration_since(self.here(start.3.unwrap_or(start.2))) < longest
        };
        let starts: Vec<CellStart> = cell.others.iter().filter(counts).copied().chain(own).collect();
        Some((cell.version, serde_json::to_vec(&starts).ok()?.into()))
    }

    /// Takes in what stands in a cell.
    fn note(&mut self, name: &Arc<str>, pace: &SubmitPace, cell: &Cell) {
        self.clock = Some((cell.read_at, Instant::now()));
        let starts: Vec<CellStart> = serde_json::from_slice(&cell.value).unwrap_or_default();
        let others: Vec<_> = starts.into_iter().filter(|start| start.0 != self.replica).collect();
        pace.set_others(
            others.iter().map(|start| (self.here(start.2), start.3.map(|ended| self.here(ended)))),
        );
        self.cells.insert(Arc::clone(name), SeenCell { version: cell.version, others });
    }

    /// A moment by the database's clock.
    fn there(&self, moment: Instant) -> u64 {
        let Some((time, known)) = self.clock else { return 0 };
        let micros = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let after = micros(moment.saturating_duration_since(known));
        time.saturating_add(after).saturating_sub(micros(known.saturating_duration_since(moment)))
    }

    /// The moment of a time by the database's clock, or now if it lies ahead.
    fn here(&self, time: u64) -> Instant {
        let Some((read_at, known)) = self.clock else { return Instant::now() };
        let age = Duration::from_micros(read_at.saturating_sub(time));
        let ahead = Duration::from_micros(time.saturating_sub(read_at));
        known.checked_sub(age).unwrap_or(known) + ahead.min(Instant::now().saturating_duration_since(known))
    }
}

/// Tries to change a cell that others change too.
const TRIES: usize = 5;

#[cfg(test)]
#[path = "shared_pace_tests.rs"]
mod tests;

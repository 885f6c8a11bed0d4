//! The lease of an account, as one replica sees it: only its holder asks DashScope for the account's tasks. A pure engine:
//! [`super::querier`] reads and swaps the lease's cell.
//!
//! A lease ends three seconds after its last renewal by the database's clock. Its holder gives it up after two, by its own
//! clock and counted from before the renewal was sent, so a clock may run wrong by half. The next leader waits a second
//! more: DashScope limits the queries of a second, and some of the last leader's may be in it. A replica that starts alone
//! waits only for what is left of that second.

use std::time::{Duration, Instant};

use crate::store::{Cell, Replica, Swap};

/// A lease as this replica knows it.
#[derive(Debug)]
pub(super) struct Lease {
    me: Replica,
    /// Version of the cell as it was last seen.
    version: u64,
    held: Option<HeldLease>,
    /// No other replica lived at the start of this one, which has not led yet.
    is_alone: bool,
    /// Pause before the first query, if the next swap takes the lease.
    gap: Duration,
    next: LeaseStep,
    next_at: Instant,
}

/// Time for which this replica is the leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct HeldLease {
    pub(super) from: Instant,
    pub(super) until: Instant,
}

/// The next step that a lease needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LeaseStep {
    /// Read the cell.
    Read,
    /// Write this replica's number into the cell, if the cell still has this version.
    Swap(u64),
}

impl Lease {
    /// The lease as seen by a replica that starts. `is_alone`: no other one lives.
    pub(super) fn new(me: Replica, is_alone: bool, now: Instant) -> Self {
        Self { me, version: 0, held: None, is_alone, gap: GAP, next: LeaseStep::Read, next_at: now }
    }

    /// The next step, and its time.
    pub(super) fn next(&self) -> (LeaseStep, Instant) {
        (self.next, self.next_at)
    }

    /// The time for which this replica leads; `None` where another one does, or nobody.
    pub(super) fn held(&self) -> Option<HeldLease> {
        self.held
    }

    /// The version of the cell, if the lease is this replica's to be given back.
    pub(super) fn give_back(&mut self, now: Instant) -> Option<u64> {
        self.plan(LeaseStep::Read, now + RENEWED_EVERY);
        self.held.take().map(|_| self.version)
    }

    /// Takes in the answer to a swap that was sent at `asked`.
    pub(super) fn take_swap(&mut self, swap: &Swap, asked: Instant, now: Instant) {
        match swap {
            Swap::Made(cell) => {
                self.version = cell.version;
                // Where the lease was kept without a gap, nobody else has led.
                let kept = self.held.filter(|held| now < held.until);
                let from = kept.map_or(now + self.gap, |held| held.from);
                (self.is_alone, self.gap) = (false, GAP);
                self.held = Some(HeldLease { from, until: asked + HELD_FOR });
                self.plan(LeaseStep::Swap(cell.version), asked + RENEWED_EVERY);
            }
            Swap::Stale(cell) => self.take_read(cell, now),
        }
    }

    /// Takes in what stands in the cell.
    pub(super) fn take_read(&mut self, cell: &Cell, now: Instant) {
        self.version = cell.version;
        let holder = holder(cell);
        if holder != Some(self.me) {
            self.held = None;
        }
        let left = match holder {
            // The answer to a swap of this replica was lost.
            Some(holder) if holder == self.me => Duration::ZERO,
            Some(_) => LASTS.saturating_sub(cell.age()),
            None => Duration::ZERO,
        };
        // One that has been over for long, or never was, needs no pause where nobody else may lead.
        let over = if holder.is_some() { LASTS } else { Duration::ZERO };
        let past = if cell.version == 0 { GAP } else { cell.age().saturating_sub(over) };
        self.gap = if self.is_alone { GAP.saturating_sub(past) } else { GAP };
        if left.is_zero() {
            self.plan(LeaseStep::Swap(cell.version), now);
        } else {
            // The holder may give the lease back before its end.
            self.plan(LeaseStep::Read, now + (left + A_MOMENT).min(RENEWED_EVERY));
        }
    }

    /// Notes that no answer came.
    pub(super) fn failed(&mut self, now: Instant) {
        self.plan(self.next, now + AFTER_FAULT);
    }

    fn plan(&mut self, step: LeaseStep, at: Instant) {
        (self.next, self.next_at) = (step, at);
    }
}

/// The replica that holds a lease; `None` where it is given back, or never was taken.
fn holder(cell: &Cell) -> Option<Replica> {
    std::str::from_utf8(&cell.value).ok()?.parse().ok()
}

/// A lease lasts so long after its last renewal, by the database's clock.
const LASTS: Duration = Duration::from_secs(3);
/// A leader leads so long after its last renewal, by its own clock.
const HELD_FOR: Duration = Duration::from_secs(2);
const RENEWED_EVERY: Duration = Duration::from_secs(1);
/// Pause of a new leader before its first query.
const GAP: Duration = Duration::from_secs(1);
const AFTER_FAULT: Duration = Duration::from_millis(250);
const A_MOMENT: Duration = Duration::from_millis(10);

#[cfg(test)]
#[path = "lease_tests.rs"]
mod tests;

//! Commits that a new primary lacks, sent again: under their old numbers and in their order, so that whoever has followed
//! them before sees nothing new.
//!
//! A change is made as it was, and not decided anew: a submit whose money was held has been sent. What others have done
//! otherwise meanwhile, on the new primary, stays: a task that was settled there gets no second entry.

use super::kept_commits::{CommitRows, KeptCommit};
use super::log;
use super::session::Session;
use crate::store::Outcome;
use crate::store::sql::apply::{apply_again, lock_in_order};
use crate::store::sql::database::Database;
use crate::store::sql::fault::Result;
use crate::store::sql::ledger::LedgerWriter;
use crate::store::sql::rows;
use crate::usage::Zone;

/// Sends a commit again. Returns the number of its changes that are not made any more.
pub(super) fn send(session: &Session, zone: Zone, writer: i64, commit: &KeptCommit) -> Result<usize> {
    match write(session, zone, writer, commit, Pace::AllAtOnce) {
        Err(fault) if fault.is_of_change() => write(session, zone, writer, commit, Pace::OneByOne),
        done => done,
    }
}

/// How the changes of a commit are applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pace {
    AllAtOnce,
    /// The tables refuse one of them, which must not keep the others out.
    OneByOne,
}

fn write(session: &Session, zone: Zone, writer: i64, commit: &KeptCommit, pace: Pace) -> Result<usize> {
    session.begin()?;
    let database = Database::Shared(session);
    let written = apply_rows(session, zone, &commit.rows, pace).and_then(|lost| {
        log::append(database, writer, commit.number, &commit.body)?;
        session.settle()?;
        Ok(lost)
    });
    match written {
        Ok(lost) => session.batch("COMMIT").map(|()| lost),
        Err(fault) => {
            // The first fault is the cause of those that follow.
            let fault = session.settle().err().unwrap_or(fault);
            session.batch("ROLLBACK")?;
            Err(fault)
        }
    }
}

fn apply_rows(session: &Session, zone: Zone, rows: &CommitRows, pace: Pace) -> Result<usize> {
    let database = Database::Shared(session);
    let CommitRows { changes, learnt, undos, lost_costs_hold, subscriptions } = rows;
    let mut ledger = LedgerWriter::new(zone);
    lock_in_order(database, &mut ledger, changes.iter(), false)?;
    for undo in undos {
        rows::undo_key_change(database, &undo.secret, &undo.retirements)?;
    }
    ledger.lost_costs_hold = *lost_costs_hold;
    ledger.subscriptions = subscriptions.clone();
    let mut lost = 0;
    for change in changes {
        if pace == Pace::AllAtOnce {
            let outcome = apply_again(database, &mut ledger, change)?;
            lost += usize::from(outcome != Outcome::Made);
            continue;
        }
        session.batch("SAVEPOINT change")?;
        let applied = apply_again(database, &mut ledger, change).and_then(|outcome| {
            ledger.write_batch(database)?;
            ledger.write_sums(database)?;
            session.settle()?;
            Ok(outcome)
        });
        match applied {
            Ok(outcome) => lost += usize::from(outcome != Outcome::Made),
            Err(fault) => {
                let fault = session.settle().err().unwrap_or(fault);
                if !fault.is_of_change() {
                    return Err(fault);
                }
                session.batch("ROLLBACK TO SAVEPOINT change")?;
                ledger.clear();
                lost += 1;
            }
        }
    }
    for (id, claimed_at, status) in learnt {
        rows::update_status(database, id, *claimed_at, *status)?;
    }
    ledger.write_batch(database)?;
    ledger.write_sums(database)?;
    Ok(lost)
}

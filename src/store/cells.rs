//! Cells: small values that all replicas share, each changed only by a replica that has seen the last change.

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use foldhash::fast::RandomState;
use parking_lot::Mutex;

/// A cell, as it stood when it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    /// Time of the cell's last change by the database's clock, in microseconds since 1970, or one more than the version
    /// before, if the clock was behind it. So no version comes twice, also after a fail-over that has lost some. A
    /// cell that nobody has written has version 0.
    pub version: u64,
    /// Empty if nobody has written the cell.
    pub value: Bytes,
    /// Time by the database's clock at which the cell was read, in microseconds since 1970.
    pub read_at: u64,
}

/// Outcome of a try to change a cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Swap {
    /// The new value stands.
    Made(Cell),
    /// Another replica has changed the cell since it was seen, to the value that is told here.
    Stale(Cell),
}

impl Cell {
    /// Time from the last change until the cell was read.
    pub fn age(&self) -> Duration {
        Duration::from_micros(self.read_at.saturating_sub(self.version))
    }
}

impl Swap {
    /// The cell as it stands, whoever has changed it.
    pub fn cell(&self) -> &Cell {
        match self {
            Self::Made(cell) | Self::Stale(cell) => cell,
        }
    }
}

/// The cells of a process that shares its store with no other.
#[derive(Debug, Default)]
pub(super) struct LocalCells(Mutex<HashMap<Box<str>, (u64, Bytes), RandomState>>);

impl LocalCells {
    pub(super) fn swap(&self, name: &str, seen: u64, new: Bytes, now: SystemTime) -> Swap {
        let read_at = microseconds(now);
        let mut cells = self.0.lock();
        let (version, value) = cells.get(name).cloned().unwrap_or_default();
        if version != seen {
            return Swap::Stale(Cell { version, value, read_at });
        }
        let version = read_at.max(version + 1);
        cells.insert(name.into(), (version, new.clone()));
        Swap::Made(Cell { version, value: new, read_at })
    }

    pub(super) fn read(&self, name: &str, now: SystemTime) -> Cell {
        let (version, value) = self.0.lock().get(name).cloned().unwrap_or_default();
        Cell { version, value, read_at: microseconds(now) }
    }
}

fn microseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_changes_only_for_a_caller_that_has_seen_its_last_change() {
        let cells = LocalCells::default();
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        assert_eq!(cells.read("a", at(7)), Cell { version: 0, value: Bytes::new(), read_at: 7_000_000 });
        let first = cells.swap("a", 0, "one".into(), at(7));
        assert_eq!(first, Swap::Made(Cell { version: 7_000_000, value: "one".into(), read_at: 7_000_000 }));
        let late = cells.swap("a", 0, "two".into(), at(9));
        assert_eq!(late, Swap::Stale(Cell { read_at: 9_000_000, ..first.cell().clone() }));
        assert_eq!(late.cell().age(), Duration::from_secs(2));
        // A clock that was set back does not bring a version back.
        let back = cells.swap("a", 7_000_000, "two".into(), at(1));
        assert_eq!(back, Swap::Made(Cell { version: 7_000_001, value: "two".into(), read_at: 1_000_000 }));
        assert_eq!(back.cell().age(), Duration::ZERO);
        assert_eq!(cells.read("b", at(1)).version, 0);
    }
}

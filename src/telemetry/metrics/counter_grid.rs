//! Counters by two labels with closed sets of values.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counters by two labels. A row is allocated at its first count, since most tenants use few operations.
#[derive(Debug)]
pub(super) struct CounterGrid<const ROWS: usize, const COLUMNS: usize> {
    rows: [OnceLock<Box<[AtomicU64; COLUMNS]>>; ROWS],
}

impl<const ROWS: usize, const COLUMNS: usize> Default for CounterGrid<ROWS, COLUMNS> {
    fn default() -> Self {
        Self { rows: [const { OnceLock::new() }; ROWS] }
    }
}

impl<const ROWS: usize, const COLUMNS: usize> CounterGrid<ROWS, COLUMNS> {
    pub(super) fn count(&self, row: usize, column: usize) {
        let row = self.rows[row].get_or_init(|| Box::new([const { AtomicU64::new(0) }; COLUMNS]));
        row[column].fetch_add(1, Ordering::Relaxed);
    }

    /// Row, column and count of each counter that is not 0.
    pub(super) fn counted(&self) -> impl Iterator<Item = (usize, usize, u64)> {
        let rows = self.rows.iter().enumerate().filter_map(|(at, row)| Some((at, row.get()?)));
        rows.flat_map(|(row, counts)| counted(&counts[..]).map(move |(column, count)| (row, column, count)))
    }
}

/// Index and count of each counter that is not 0.
pub(super) fn counted(counts: &[AtomicU64]) -> impl Iterator<Item = (usize, u64)> {
    let counts = counts.iter().map(|count| count.load(Ordering::Relaxed)).enumerate();
    counts.filter(|(_, count)| *count > 0)
}

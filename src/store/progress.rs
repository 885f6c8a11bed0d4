//! Says how far it is with what takes its time at a start.

use std::path::Path;
use std::time::{Duration, Instant};

/// Tells now and then how many such rows of the file were read; nothing where they are read soon.
pub(super) fn told<T>(path: &Path, what: &'static str, mut each: impl FnMut(T)) -> impl FnMut(T) {
    let (mut count, mut told) = (0_u64, Instant::now());
    move |row| {
        count += 1;
        if count.is_multiple_of(LOOKED_EVERY) && told.elapsed() >= TOLD_EVERY {
            told = Instant::now();
            tracing::info!("{}: {count} {what} are read so far", path.display());
        }
        each(row);
    }
}

const LOOKED_EVERY: u64 = 4_096;
const TOLD_EVERY: Duration = Duration::from_secs(2);

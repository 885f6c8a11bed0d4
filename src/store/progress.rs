//! Progress of a long start in the log.

use std::path::Path;
use std::time::{Duration, Instant};

/// Passes rows on to `each`, and logs every two seconds how many were read. A short read logs nothing.
pub(super) fn logged<T>(path: &Path, what: &'static str, mut each: impl FnMut(T)) -> impl FnMut(T) {
    let (mut count, mut last_logged) = (0_u64, Instant::now());
    move |row| {
        count += 1;
        if count.is_multiple_of(ROWS_PER_CHECK) && last_logged.elapsed() >= LOG_EVERY {
            last_logged = Instant::now();
            tracing::info!("{}: {count} {what} are read so far", path.display());
        }
        each(row);
    }
}

const ROWS_PER_CHECK: u64 = 4_096;
const LOG_EVERY: Duration = Duration::from_secs(2);

//! Says how far it is with what takes its time at a start.

use std::path::Path;
use std::time::{Duration, Instant};

pub(super) struct Progress<'a> {
    path: &'a Path,
    what: &'static str,
    count: u64,
    told: Instant,
}

impl<'a> Progress<'a> {
    /// Of reading such rows of the file.
    pub(super) fn begin(path: &'a Path, what: &'static str) -> Self {
        Self { path, what, count: 0, told: Instant::now() }
    }

    /// One more is read. Nothing is said of what is read soon.
    pub(super) fn one(&mut self) {
        self.count += 1;
        if self.count.is_multiple_of(LOOKED_EVERY) && self.told.elapsed() >= TOLD_EVERY {
            self.told = Instant::now();
            tracing::info!("{}: {} {} are read so far", self.path.display(), self.count, self.what);
        }
    }
}

const LOOKED_EVERY: u64 = 4_096;
const TOLD_EVERY: Duration = Duration::from_secs(2);

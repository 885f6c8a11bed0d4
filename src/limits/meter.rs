//! What one key uses of its limits, or all keys of a tenant together.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::bucket::{Bucket, Standing};
use super::{Kind, Limit, Whose};
use crate::config::{Limits, Rate};

/// Behind one lock, so that a decision over several limits is one. It is held for some hundred nanoseconds.
#[derive(Default)]
pub(super) struct Meter(Mutex<Usage>);

#[derive(Default)]
pub(super) struct Usage {
    /// One for each rate that was asked for lately: a changed rule has a new bucket.
    buckets: Vec<(Kind, Rate, Bucket)>,
    running: [u32; Kind::COUNT],
    tasks: u32,
}

impl Meter {
    pub(super) fn lock(&self) -> MutexGuard<'_, Usage> {
        // Nothing in here panics half-way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Usage {
    /// Whether another call of the kind may run beside those that do.
    pub(super) fn has_room(&self, kind: Kind, limits: &Limits, whose: Whose) -> Result<(), Limit> {
        if let Some((kind, most)) = kind.concurrent(limits)
            && self.running[kind as usize] >= most
        {
            return Err(Limit::Concurrent { whose, kind, most });
        }
        if let Some(most) = kind.tasks(limits)
            && self.tasks >= most
        {
            return Err(Limit::Tasks { whose, most });
        }
        Ok(())
    }

    pub(super) fn bucket(&mut self, kind: Kind, rate: Rate, now: Duration) -> &mut Bucket {
        let found = self.buckets.iter().position(|(of, with, _)| *of == kind && *with == rate);
        let at = found.unwrap_or_else(|| {
            // Those of rules that are gone are dropped once they are full, so that a rule that comes back at once
            // has its bucket as it was.
            self.buckets.retain(|(_, _, bucket)| !bucket.is_full(now));
            if self.buckets.len() >= MOST_BUCKETS {
                self.buckets.remove(0);
            }
            self.buckets.push((kind, rate, Bucket::new(&rate)));
            self.buckets.len() - 1
        });
        &mut self.buckets[at].2
    }

    pub(super) fn standing(&mut self, kind: Kind, limits: &Limits, now: Duration) -> Option<Standing> {
        let (kind, rate) = kind.rate(limits)?;
        Some(self.bucket(kind, rate, now).standing(now))
    }

    pub(super) fn enter(&mut self, kind: Kind) {
        self.running[kind as usize] += 1;
    }

    pub(super) fn leave(&mut self, kind: Kind) {
        self.running[kind as usize] -= 1;
    }

    pub(super) fn enter_task(&mut self) {
        self.tasks += 1;
    }

    pub(super) fn leave_task(&mut self) {
        self.tasks -= 1;
    }

    #[cfg(test)]
    pub(super) fn tasks(&self) -> u32 {
        self.tasks
    }

    /// Whether a fresh one would say the same.
    pub(super) fn is_idle(&self, now: Duration) -> bool {
        self.tasks == 0
            && self.running.iter().all(|running| *running == 0)
            && self.buckets.iter().all(|(_, _, bucket)| bucket.is_full(now))
    }
}

pub(super) type Shared = Arc<Meter>;

/// Each kind of call, before a reload and after, and once more.
const MOST_BUCKETS: usize = 3 * Kind::COUNT;

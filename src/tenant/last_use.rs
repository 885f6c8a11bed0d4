//! The last use of each key, to the second: noted in memory by every call, and written to the store now and then.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use foldhash::fast::RandomState;
use parking_lot::Mutex;

/// The last use of one key, in seconds since 1970; 0 stands for never.
#[derive(Debug, Default)]
pub struct LastUse {
    at: AtomicU32,
    /// As the store has it.
    stored: AtomicU32,
}

impl LastUse {
    /// Notes a call.
    pub fn note(&self, now: SystemTime) {
        let second = since_1970(now);
        // Only the first call of a second writes: each write takes the line from the caches of other workers.
        if self.at.load(Ordering::Relaxed) < second {
            self.at.fetch_max(second, Ordering::Relaxed);
        }
    }

    /// Notes a use that the store has, of this process or of another replica.
    pub fn note_stored(&self, at: SystemTime) {
        let second = since_1970(at);
        self.stored.fetch_max(second, Ordering::Relaxed);
        self.at.fetch_max(second, Ordering::Relaxed);
    }

    pub fn at(&self) -> Option<SystemTime> {
        moment(self.at.load(Ordering::Relaxed))
    }

    /// The last use, if the store does not have it.
    pub fn unstored(&self) -> Option<SystemTime> {
        let at = self.at.load(Ordering::Relaxed);
        moment(at).filter(|_| at > self.stored.load(Ordering::Relaxed))
    }
}

/// Last uses of the keys of the configuration, by key id. They outlive every directory.
#[derive(Debug, Default)]
pub struct ConfiguredUses(Mutex<HashMap<Arc<str>, Arc<LastUse>, RandomState>>);

impl ConfiguredUses {
    /// The last use of a key, which every directory with the key shares.
    pub fn of(&self, key_id: &Arc<str>) -> Arc<LastUse> {
        Arc::clone(self.0.lock().entry(Arc::clone(key_id)).or_default())
    }

    /// Notes a use that the store has, of a key that may come with a later configuration.
    pub(super) fn note_stored(&self, key_id: &Arc<str>, at: SystemTime) {
        self.of(key_id).note_stored(at);
    }

    /// Notes a use that the store has, if the key is known.
    pub(super) fn note_stored_of_known(&self, key_id: &Arc<str>, at: SystemTime) {
        if let Some(known) = self.0.lock().get(key_id) {
            known.note_stored(at);
        }
    }

    /// Uses that the store does not have. Where there are many ids, those that no directory holds are forgotten.
    pub(super) fn unstored(&self) -> Vec<(Arc<str>, SystemTime)> {
        let mut uses = self.0.lock();
        if uses.len() > MOST_WITHOUT_KEYS {
            uses.retain(|_, last| Arc::strong_count(last) > 1);
        }
        uses.iter().filter_map(|(id, last)| Some((Arc::clone(id), last.unstored()?))).collect()
    }
}

fn since_1970(time: SystemTime) -> u32 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u32::try_from(since.as_secs()).unwrap_or(u32::MAX)
}

fn moment(second: u32) -> Option<SystemTime> {
    (second > 0).then(|| UNIX_EPOCH + Duration::from_secs(second.into()))
}

/// Number of ids above which ids without a key are forgotten.
const MOST_WITHOUT_KEYS: usize = 100_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn the_latest_use_counts_until_the_store_has_it() {
        let last = LastUse::default();
        assert_eq!((last.at(), last.unstored()), (None, None));
        last.note(at(7));
        last.note(at(5));
        assert_eq!((last.at(), last.unstored()), (Some(at(7)), Some(at(7))));
        last.note_stored(at(6));
        assert_eq!(last.unstored(), Some(at(7)));
        last.note_stored(at(7));
        assert_eq!((last.at(), last.unstored()), (Some(at(7)), None));
        // Another replica's.
        last.note_stored(at(9));
        last.note(at(8));
        assert_eq!((last.at(), last.unstored()), (Some(at(9)), None));
    }

    #[test]
    fn keys_that_are_gone_are_forgotten_where_there_are_many() {
        let uses = ConfiguredUses::default();
        let held = uses.of(&"held".into());
        held.note(at(3));
        for number in 0..=MOST_WITHOUT_KEYS {
            uses.of(&number.to_string().into());
        }
        assert_eq!(uses.unstored(), [("held".into(), at(3))]);
        assert_eq!(uses.0.lock().len(), 1);
        assert_eq!(uses.of(&"held".into()).at(), Some(at(3)));
    }
}

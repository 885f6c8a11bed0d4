//! The watch for orphans of one account: its scans, and what they have shown.

use std::time::SystemTime;

use super::orphan::OrphanList;
use super::orphan_match::SearchPass;
use super::orphan_scan::OrphanScan;

/// Locked for as long as a page takes to be taken in.
#[derive(Debug)]
pub(super) struct OrphanWatch {
    pub(super) scan: OrphanScan,
    pub(super) orphans: OrphanList,
    /// The last scans, in the order in which they last told something.
    pub(super) passes: Vec<SearchPass>,
    /// A scan has come to its end at which nobody has looked yet.
    pub(super) is_news: bool,
    /// Time at which the first submit was sent that waits for a verdict, and whose task no two scans have reached.
    pub(super) missed: Option<SystemTime>,
}

impl OrphanWatch {
    pub(super) fn new(scan: OrphanScan) -> Self {
        Self { scan, orphans: OrphanList::default(), passes: Vec::new(), is_news: false, missed: None }
    }

    /// Keeps a scan as one of the last. What a later part of it has reached takes the place of what an earlier one has.
    /// Scans that began after `date` are of a time before the clock was set back, and tell nothing of submits since then.
    pub(super) fn note_pass(&mut self, mut pass: SearchPass, date: SystemTime) {
        let earlier = self.passes.iter().find(|known| known.began_at == pass.began_at);
        pass.reached = pass.reached.or(earlier.and_then(|known| known.reached));
        self.passes.retain(|known| known.began_at != pass.began_at && known.began_at <= date);
        self.passes.push(pass);
        if self.passes.len() > MOST_PASSES {
            self.passes.remove(0);
        }
        self.is_news = true;
    }
}

/// Scans that are kept for an account. A long one takes as much time as many that come meanwhile.
const MOST_PASSES: usize = 64;

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn a_scan_is_known_by_its_start_and_not_once_the_clock_is_set_back() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let pass = |began, reached: Option<u64>| SearchPass {
            began_at: at(began),
            reached: reached.map(at),
            has_skew: true,
        };
        let mut watch = OrphanWatch::new(OrphanScan::new(Instant::now()));
        watch.note_pass(pass(1_000, Some(900)), at(1_001));
        watch.note_pass(pass(1_300, Some(1_200)), at(1_301));
        watch.note_pass(pass(1_000, Some(500)), at(1_302));
        watch.note_pass(pass(1_000, None), at(1_303));
        assert_eq!(watch.passes, [pass(1_300, Some(1_200)), pass(1_000, Some(500))]);
        watch.note_pass(pass(1_100, Some(950)), at(1_101));
        assert_eq!(watch.passes, [pass(1_000, Some(500)), pass(1_100, Some(950))]);
    }
}

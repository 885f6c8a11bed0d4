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
    /// The last scans, the one last that has told something last.
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

    /// Keeps a scan as one of the last. A later part of it takes the place of an earlier one.
    pub(super) fn note_pass(&mut self, pass: SearchPass) {
        self.passes.retain(|known| known.began_at != pass.began_at);
        self.passes.push(pass);
        if self.passes.len() > MOST_PASSES {
            self.passes.remove(0);
        }
        self.is_news = true;
    }
}

/// Scans that are kept for an account. A long one takes as much time as many that come meanwhile.
const MOST_PASSES: usize = 64;

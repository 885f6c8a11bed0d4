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
    /// The last complete scans, the latest one last.
    pub(super) passes: Vec<SearchPass>,
    /// A scan has come to its end at which nobody has looked yet.
    pub(super) is_news: bool,
    /// Time at which the first submit was sent that still waits for a verdict.
    pub(super) back_to: Option<SystemTime>,
}

impl OrphanWatch {
    pub(super) fn new(scan: OrphanScan) -> Self {
        Self { scan, orphans: OrphanList::default(), passes: Vec::new(), is_news: false, back_to: None }
    }

    /// Keeps a scan as one of the last two.
    pub(super) fn note_pass(&mut self, pass: SearchPass) {
        self.passes.push(pass);
        if self.passes.len() > 2 {
            self.passes.remove(0);
        }
        self.is_news = true;
    }
}

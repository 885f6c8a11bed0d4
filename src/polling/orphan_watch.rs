//! The watch for orphans of one account: its scans, and what they have shown.

use super::orphan::OrphanList;
use super::orphan_scan::OrphanScan;

/// Locked for as long as a page takes to be taken in.
#[derive(Debug)]
pub(super) struct OrphanWatch {
    pub(super) scan: OrphanScan,
    pub(super) orphans: OrphanList,
}

impl OrphanWatch {
    pub(super) fn new(scan: OrphanScan) -> Self {
        Self { scan, orphans: OrphanList::default() }
    }
}

//! An orphan scan: reads an account's task list, newest first, back to a time. One page at a time, as the list has all
//! tasks of a day.

use std::time::{Duration, Instant, SystemTime};

use super::orphan::{ScannedRows, Skew};
use crate::config::OrphanTimes;
use crate::dashscope::listed_task::ListedTask;
use crate::dashscope::task::LIFETIME;
use crate::dashscope::task_list::TaskPage;

/// The orphan scans of one account: one at a time.
#[derive(Debug)]
pub(super) struct OrphanScan {
    run: Option<OrphanScanRun>,
    /// Start of the last scan; at first the start of the account's poller.
    began: Instant,
    /// Start of the last complete scan, by the wall clock.
    completed: Option<SystemTime>,
    /// Times of the first and of the last lost answer for which no scan has begun late enough.
    lost: Option<[Instant; 2]>,
    /// No page is asked for before this time.
    next_page: Instant,
    /// Scans in a row that did not come to their end.
    failures: u32,
}

#[derive(Debug)]
struct OrphanScanRun {
    began_at: SystemTime,
    /// The scan may end with a page that has a task older than this.
    back_to: SystemTime,
    /// Number of tasks on a page: what was asked for, and then what the first page shows.
    size: usize,
    asked: usize,
    /// The oldest task so far.
    oldest: Option<SystemTime>,
    /// False once a task was newer than one before it: then no task tells how old the rest is.
    is_in_order: bool,
    /// Each answer so far had a date.
    has_skew: bool,
    rows: ScannedRows,
}

/// A page of the list that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OrphanPage {
    pub number: usize,
    pub size: usize,
}

/// A scan that has come to its end.
#[derive(Debug)]
pub(super) struct CompleteScan {
    pub(super) began_at: SystemTime,
    /// All tasks that were made since then were on its pages; `None` if that is not known.
    pub(super) reached: Option<SystemTime>,
    /// The upstream's clock was compared with ours.
    pub(super) has_skew: bool,
    pub(super) rows: ScannedRows,
}

/// The next step of an account's orphan scans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OrphanStep {
    /// Ask for the next page.
    Page,
    /// Ask for nothing before this time.
    At(Instant),
}

impl OrphanScan {
    pub(super) fn new(now: Instant) -> Self {
        Self { run: None, began: now, completed: None, lost: None, next_page: now, failures: 0 }
    }

    pub(super) fn step(&self, times: &OrphanTimes, now: Instant) -> OrphanStep {
        let regular = self.began + times.every;
        let due = match (&self.run, self.lost) {
            (Some(_), _) => self.next_page,
            (None, Some([first, _])) => regular.min(first + times.after_loss).max(self.next_page),
            (None, None) => regular.max(self.next_page),
        };
        if now < due { OrphanStep::At(due) } else { OrphanStep::Page }
    }

    /// Notes that the page of the last step is asked for: the first one of a scan with `size` tasks. A scan that begins
    /// goes back to `back_to`, and further where the last complete scan was longer ago; the first one goes back a day.
    pub(super) fn ask(
        &mut self,
        size: usize,
        back_to: Option<SystemTime>,
        times: &OrphanTimes,
        now: Instant,
        date: SystemTime,
    ) -> OrphanPage {
        if self.run.is_none() {
            self.began = now;
            // A loss just before the scan asks for another one.
            let later = self.lost.map(|[_, last]| last).filter(|last| *last + times.after_loss > now);
            self.lost = later.map(|last| [last, last]);
        }
        let day = date.checked_sub(LIFETIME).unwrap_or(date);
        let usual = self.completed.and_then(|at| at.checked_sub(OVERLAP)).unwrap_or(day);
        let fresh = || OrphanScanRun {
            began_at: date,
            back_to: back_to.unwrap_or(usual).min(usual).max(day),
            size,
            asked: 0,
            oldest: None,
            is_in_order: true,
            has_skew: true,
            rows: ScannedRows::default(),
        };
        let run = self.run.get_or_insert_with(fresh);
        run.asked += 1;
        OrphanPage { number: run.asked, size: run.size }
    }

    /// Takes in the page that was asked for last. `skew`: `None` if the answer had no date. Returns the scan after its last
    /// page.
    pub(super) fn answered(
        &mut self,
        page: &TaskPage<ListedTask>,
        skew: Option<Skew>,
        gap: Duration,
        is_owned: impl Fn(&str) -> bool,
        now: Instant,
    ) -> Option<CompleteScan> {
        self.next_page = now + gap;
        let run = self.run.as_mut()?;
        if run.asked == 1 {
            run.size = page.size();
        }
        run.has_skew &= skew.is_some();
        let skew = skew.unwrap_or_default();
        for row in &page.data {
            run.rows.add(row, skew, is_owned(&row.task_id));
            let Some(created) = row.created.and_then(|created| skew.ours(created)) else { continue };
            let oldest = *run.oldest.get_or_insert(created);
            // Tasks of one moment come in any order, and a page is read at its own skew.
            run.is_in_order &= created <= oldest + IN_ANY_ORDER;
            run.oldest = Some(oldest.min(created));
        }
        let is_far_enough = run.is_in_order && run.oldest.is_some_and(|oldest| oldest < run.back_to);
        let is_last = page.data.is_empty() || run.asked >= page.total.div_ceil(run.size.max(1));
        if !is_far_enough && !is_last && run.asked < MOST_PAGES {
            return None;
        }
        let run = self.run.take()?;
        self.failures = 0;
        self.completed = Some(run.began_at);
        let in_order = run.oldest.filter(|_| run.is_in_order);
        let reached = if is_last { Some(SystemTime::UNIX_EPOCH) } else { in_order };
        let reached = reached.filter(|_| !run.rows.has_gaps);
        Some(CompleteScan { began_at: run.began_at, reached, has_skew: run.has_skew, rows: run.rows })
    }

    /// Ends a scan of which a page did not come. The next one begins after a pause, which is longer each time: an upstream
    /// may have no list at all.
    pub(super) fn failed(&mut self, times: &OrphanTimes, now: Instant) {
        self.run = None;
        let pause = AFTER_FAILURE.saturating_mul(1 << self.failures.min(8)).min(times.every);
        self.failures = self.failures.saturating_add(1);
        self.next_page = now + pause;
        // The next scan is due then.
        self.began = now.checked_sub(times.every).map_or(self.began, |began| began + pause);
    }

    /// Has a scan begin some time after a lost answer.
    pub(super) fn note_loss(&mut self, now: Instant) {
        self.lost = Some(self.lost.map_or([now, now], |[first, _]| [first, now]));
    }
}

/// Pages of one scan: 30,000 tasks. A longer list is not read to its end.
const MOST_PAGES: usize = 300;
/// Part of the list that two scans read: a task may be listed late, and is no orphan before a minute has passed.
const OVERLAP: Duration = Duration::from_secs(600);
const IN_ANY_ORDER: Duration = Duration::from_secs(2);
const AFTER_FAILURE: Duration = Duration::from_secs(30);

#[cfg(test)]
#[path = "orphan_scan_tests.rs"]
mod tests;

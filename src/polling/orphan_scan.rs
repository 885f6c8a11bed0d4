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
    /// A long scan, which goes on after the one that runs.
    parked: Option<OrphanScanRun>,
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
    /// A long scan goes on until it has a task older than this; `None` if there is no lost submit to look for.
    missed: Option<SystemTime>,
    /// Number of tasks on a page: what was asked for, and then what the first page shows.
    size: usize,
    asked: usize,
    /// Number of the parts that were told.
    parts: usize,
    /// The oldest task so far.
    oldest: Option<SystemTime>,
    /// The oldest task when the last part was told.
    oldest_told: Option<SystemTime>,
    /// False once a task was newer than one before it on its page: then no task tells how old the rest is.
    is_in_order: bool,
    /// Failures in a row of one page.
    failures: u32,
    /// Each answer so far had a date.
    has_skew: bool,
    /// Rows since the last part of the scan was told.
    rows: ScannedRows,
}

/// A page of the list that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OrphanPage {
    pub number: usize,
    pub size: usize,
}

/// A scan that has come to its end, or a part of a long one.
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
        Self { run: None, parked: None, began: now, completed: None, lost: None, next_page: now, failures: 0 }
    }

    pub(super) fn step(&self, times: &OrphanTimes, now: Instant) -> OrphanStep {
        let is_under_way = self.run.is_some() || self.parked.is_some();
        let due = if is_under_way { self.next_page } else { self.next_scan(times) };
        if now < due { OrphanStep::At(due) } else { OrphanStep::Page }
    }

    /// Time at which the next scan begins.
    fn next_scan(&self, times: &OrphanTimes) -> Instant {
        let regular = self.began + times.every;
        let due = self.lost.map_or(regular, |[first, _]| regular.min(first + times.after_loss));
        due.max(self.next_page)
    }

    /// Notes that the page of the last step is asked for: the first one of a scan with `size` tasks. A scan that begins
    /// goes back to `missed`, and further where the last complete scan was longer ago; the first one goes back a day. A
    /// long scan is parked for one that is due.
    pub(super) fn ask(
        &mut self,
        size: usize,
        missed: Option<SystemTime>,
        times: &OrphanTimes,
        now: Instant,
        date: SystemTime,
    ) -> OrphanPage {
        let is_due = now >= self.next_scan(times);
        let may_be_parked =
            |run: &mut OrphanScanRun| run.parts > 0 && run.asked.is_multiple_of(PAGES_AT_ONCE);
        if is_due && let Some(run) = self.run.take_if(may_be_parked) {
            self.parked = Some(run);
        }
        let is_outdated =
            |run: &mut OrphanScanRun| date.duration_since(run.began_at).is_ok_and(|age| age > LIFETIME);
        self.parked.take_if(is_outdated);
        if self.run.is_none() && !is_due {
            self.run = self.parked.take();
        }
        if self.run.is_none() {
            self.began = now;
            // A loss just before the scan asks for another one.
            let later = self.lost.map(|[_, last]| last).filter(|last| *last + times.after_loss > now);
            self.lost = later.map(|last| [last, last]);
        }
        let day = date.checked_sub(LIFETIME).unwrap_or(date);
        let completed = self.completed.filter(|at| *at <= date);
        let usual = completed.and_then(|at| at.checked_sub(OVERLAP)).unwrap_or(day);
        // The scan that is parked goes further back than this one.
        let missed = missed.filter(|_| self.parked.is_none());
        let fresh = || OrphanScanRun {
            began_at: date,
            back_to: missed.unwrap_or(usual).min(usual).max(day),
            missed: missed.map(|missed| missed.max(day)),
            size,
            asked: 0,
            parts: 0,
            oldest: None,
            oldest_told: None,
            is_in_order: true,
            failures: 0,
            has_skew: true,
            rows: ScannedRows::default(),
        };
        let run = self.run.get_or_insert_with(fresh);
        run.asked += 1;
        OrphanPage { number: run.asked, size: run.size }
    }

    /// Takes in the page that was asked for last. `skew`: `None` if the answer had no date. Returns the scan after its last
    /// page, and after each part of a long one.
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
        run.failures = 0;
        // Tasks that are made meanwhile push older ones to the next page, so only a page by itself shows the order.
        let mut oldest_on_page = None;
        for row in &page.data {
            run.rows.add(row, skew, is_owned(&row.task_id));
            let Some(created) = row.created.and_then(|created| skew.ours(created)) else { continue };
            let before = oldest_on_page.unwrap_or(created);
            // Tasks of one moment come in any order, and a page is read at its own skew.
            run.is_in_order &= created <= before + IN_ANY_ORDER;
            oldest_on_page = Some(before.min(created));
            run.oldest = Some(run.oldest.map_or(created, |oldest| oldest.min(created)));
        }
        let in_order = run.oldest.filter(|_| run.is_in_order && !run.rows.has_gaps);
        let is_back_at = |time: SystemTime| run.oldest.is_some_and(|oldest| run.is_in_order && oldest < time);
        let is_last = page.data.is_empty() || run.asked >= page.total.div_ceil(run.size.max(1));
        let goal = if run.parts > 0 { run.missed.unwrap_or(run.back_to) } else { run.back_to };
        let is_over = is_back_at(goal) || is_last;
        let is_at_part = run.asked.is_multiple_of(PAGES_OF_PART);
        if !is_over && !is_at_part {
            return None;
        }
        // The scan goes on for a lost submit that is further back, while each part shows older tasks than the last.
        let goes_on = !is_over
            && run.oldest_told.is_none_or(|told| run.oldest.is_some_and(|oldest| oldest < told))
            && run.parts + 1 < MOST_PARTS
            && in_order.is_some()
            && run.missed.is_some_and(|missed| !is_back_at(missed))
            && self.parked.is_none();
        self.failures = 0;
        if run.parts == 0 {
            self.completed = Some(run.began_at);
        }
        let reached = if is_last && !run.rows.has_gaps { Some(SystemTime::UNIX_EPOCH) } else { in_order };
        let rest = ScannedRows { has_gaps: run.rows.has_gaps, ..ScannedRows::default() };
        let done = CompleteScan {
            began_at: run.began_at,
            reached,
            has_skew: run.has_skew,
            rows: std::mem::replace(&mut run.rows, rest),
        };
        run.parts += 1;
        run.oldest_told = run.oldest;
        if !goes_on {
            self.run = None;
        }
        Some(done)
    }

    /// Ends a scan of which a page did not come. The next one begins after a pause, which is longer each time: an upstream
    /// may have no list at all. A long scan is parked, to ask for that page again a few times.
    pub(super) fn failed(&mut self, times: &OrphanTimes, now: Instant) {
        if let Some(run) = self.run.take().filter(|run| run.parts > 0 && run.failures < MOST_FAILURES) {
            self.parked = Some(OrphanScanRun { asked: run.asked - 1, failures: run.failures + 1, ..run });
        }
        let pause = AFTER_FAILURE.saturating_mul(1 << self.failures.min(8)).min(times.every);
        self.failures = self.failures.saturating_add(1);
        self.next_page = now + pause;
        // The next scan is due then.
        self.began = now.checked_sub(times.every).map_or(self.began, |began| began + pause);
    }

    /// Gives up the scans that are under way: while orphans find no room, nothing can be judged.
    pub(super) fn leave(&mut self) {
        self.run = None;
        self.parked = None;
    }

    /// Has a scan begin some time after a lost answer.
    pub(super) fn note_loss(&mut self, now: Instant) {
        self.lost = Some(self.lost.map_or([now, now], |[first, _]| [first, now]));
    }
}

/// Pages of a scan, 30,000 tasks at 100 a page, after which what they show is told. The rest of a longer list is read only for a lost
/// submit that may be there.
const PAGES_OF_PART: usize = 300;
/// Parts of one scan: two million tasks.
const MOST_PARTS: usize = 67;
/// Pages of a long scan for which one that is due waits.
const PAGES_AT_ONCE: usize = 50;
/// Failures in a row after which a long scan is given up.
const MOST_FAILURES: u32 = 3;
/// Part of the list that two scans read: a task may be listed late, and is no orphan before a minute has passed.
const OVERLAP: Duration = Duration::from_secs(600);
const IN_ANY_ORDER: Duration = Duration::from_secs(2);
const AFTER_FAILURE: Duration = Duration::from_secs(30);

#[cfg(test)]
#[path = "orphan_scan_tests.rs"]
mod tests;

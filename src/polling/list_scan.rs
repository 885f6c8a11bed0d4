//! Going through the list of all tasks in one state, page by page.

use std::time::{Duration, Instant};

/// One state's sweeps: at most one goes on at a time.
#[derive(Debug)]
pub(super) struct ListScan {
    sweep: Option<ScanRun>,
    began: Option<Instant>,
}

#[derive(Debug)]
struct ScanRun {
    began: Instant,
    /// How many tasks a page has: known from the first one.
    size: Option<usize>,
    /// How many pages there are, as the last answer said.
    pages: usize,
    asked: usize,
    answered: usize,
}

/// What a course would do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ScanStep {
    /// Ask for this page.
    Page(usize),
    /// Nothing before then.
    At(Instant),
    /// An answer must come first.
    Waits,
}

impl ListScan {
    pub(super) fn new() -> Self {
        Self { sweep: None, began: None }
    }

    pub(super) fn step(&self, every: Duration, now: Instant) -> ScanStep {
        match &self.sweep {
            None => match self.began.map(|began| began + every) {
                Some(next) if now < next => ScanStep::At(next),
                Some(_) | None => ScanStep::Page(1),
            },
            Some(sweep) if sweep.asked < sweep.pages => ScanStep::Page(sweep.asked + 1),
            Some(_) => ScanStep::Waits,
        }
    }

    /// The page of the last step is asked for. When the sweep that it is of began: the moment by which a late
    /// answer is told from one of another sweep.
    pub(super) fn ask(&mut self, now: Instant) -> Instant {
        let fresh = || ScanRun { began: now, size: None, pages: 0, asked: 0, answered: 0 };
        let sweep = self.sweep.get_or_insert_with(fresh);
        sweep.asked += 1;
        self.began = Some(sweep.began);
        sweep.began
    }

    /// A page came, of a list of so many tasks; the first one says how many a page has. Whether that was the last.
    pub(super) fn answered(&mut self, began: Instant, total: usize, size: usize) -> bool {
        let Some(sweep) = self.sweep.as_mut().filter(|sweep| sweep.began == began) else { return false };
        sweep.answered += 1;
        let size = *sweep.size.get_or_insert(size.max(1));
        // The list may have grown meanwhile, and what was on the last page be behind it.
        sweep.pages = sweep.pages.max(total.div_ceil(size)).min(MOST_PAGES);
        let is_over = sweep.answered >= sweep.pages;
        if is_over {
            self.sweep = None;
        }
        is_over
    }

    /// A page did not come: what was seen is no whole.
    pub(super) fn failed(&mut self, began: Instant) {
        if self.sweep.as_ref().is_some_and(|sweep| sweep.began == began) {
            self.sweep = None;
        }
    }
}

/// Of an answer that promises the world.
const MOST_PAGES: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_page_tells_how_many_follow() {
        let start = Instant::now();
        let every = Duration::from_secs(1);
        let mut course = ListScan::new();
        assert_eq!(course.step(every, start), ScanStep::Page(1));
        let began = course.ask(start);
        assert_eq!(course.step(every, start), ScanStep::Waits);
        assert!(!course.answered(began, 250, 100));
        assert_eq!(course.step(every, start), ScanStep::Page(2));
        course.ask(start);
        assert_eq!(course.step(every, start), ScanStep::Page(3));
        course.ask(start);
        assert_eq!(course.step(every, start), ScanStep::Waits);
        assert!(!course.answered(began, 250, 100));
        // The last page is not full, and says nothing of the others.
        assert!(course.answered(began, 250, 50));
        assert_eq!(course.step(every, start), ScanStep::At(start + every));
        assert_eq!(course.step(every, start + every), ScanStep::Page(1));
    }

    #[test]
    fn a_list_that_grows_is_gone_through_to_its_new_end() {
        let start = Instant::now();
        let every = Duration::from_secs(1);
        let mut course = ListScan::new();
        let began = course.ask(start);
        assert!(!course.answered(began, 200, 100));
        course.ask(start);
        assert!(!course.answered(began, 201, 100));
        assert_eq!(course.step(every, start), ScanStep::Page(3));
        course.ask(start);
        assert!(course.answered(began, 199, 1));
    }

    #[test]
    fn an_empty_list_is_one_page() {
        let start = Instant::now();
        let mut course = ListScan::new();
        let began = course.ask(start);
        assert!(course.answered(began, 0, 100));
    }

    #[test]
    fn a_page_that_failed_ends_the_sweep_and_late_ones_do_not_count() {
        let start = Instant::now();
        let later = start + Duration::from_secs(2);
        let mut course = ListScan::new();
        let began = course.ask(start);
        course.failed(began);
        assert_eq!(course.step(Duration::from_secs(1), later), ScanStep::Page(1));
        let again = course.ask(later);
        assert!(!course.answered(began, 1, 100));
        assert!(course.answered(again, 1, 100));
    }
}

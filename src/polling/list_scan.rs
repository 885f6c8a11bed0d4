//! A list scan: goes through the list of all tasks with one status, page by page.

use std::time::{Duration, Instant};

/// The scans of one status: one at a time.
#[derive(Debug)]
pub(super) struct ListScan {
    run: Option<ScanRun>,
    /// Start of the last scan.
    began: Option<Instant>,
}

#[derive(Debug)]
struct ScanRun {
    began: Instant,
    /// Number of tasks on a page: what was asked for, and then what the first page shows.
    size: usize,
    /// Number of pages by the latest answers.
    pages: usize,
    asked: usize,
    answered: usize,
}

/// The next step of the scans of one status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ScanStep {
    /// Ask for the page with this number.
    Page(usize),
    /// Ask for nothing before this time.
    At(Instant),
    /// Wait for an answer.
    Waits,
}

impl ListScan {
    pub(super) fn new() -> Self {
        Self { run: None, began: None }
    }

    pub(super) fn step(&self, every: Duration, now: Instant) -> ScanStep {
        match &self.run {
            None => match self.began.map(|began| began + every) {
                Some(next) if now < next => ScanStep::At(next),
                Some(_) | None => ScanStep::Page(1),
            },
            Some(run) if run.asked < run.pages => ScanStep::Page(run.asked + 1),
            Some(_) => ScanStep::Waits,
        }
    }

    /// Notes that the page of the last step is asked for; the first one of a scan with `size` tasks. Returns the start of
    /// its scan, by which late answers of another scan are recognised, and the number of tasks to ask for.
    pub(super) fn ask(&mut self, size: usize, now: Instant) -> (Instant, usize) {
        let fresh = || ScanRun { began: now, size, pages: 0, asked: 0, answered: 0 };
        let run = self.run.get_or_insert_with(fresh);
        run.asked += 1;
        self.began = Some(run.began);
        (run.began, run.size)
    }

    /// Takes in a page of a list of `total` tasks; the first page says how many tasks a page has. Returns true after
    /// the last page.
    pub(super) fn answered(&mut self, began: Instant, total: usize, size: usize) -> bool {
        let Some(run) = self.run.as_mut().filter(|run| run.began == began) else { return false };
        if run.answered == 0 {
            run.size = size.max(1);
        }
        run.answered += 1;
        // The list may have grown meanwhile, which moves tasks to a page after the last.
        run.pages = run.pages.max(total.div_ceil(run.size)).min(MOST_PAGES);
        let is_over = run.answered >= run.pages;
        if is_over {
            self.run = None;
        }
        is_over
    }

    /// Ends a scan of which a page did not come: it is not complete.
    pub(super) fn failed(&mut self, began: Instant) {
        if self.run.as_ref().is_some_and(|run| run.began == began) {
            self.run = None;
        }
    }
}

/// Bound for an answer with an absurd total.
const MOST_PAGES: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_page_tells_how_many_follow() {
        let start = Instant::now();
        let every = Duration::from_secs(1);
        let mut scan = ListScan::new();
        assert_eq!(scan.step(every, start), ScanStep::Page(1));
        let (began, _) = scan.ask(100, start);
        assert_eq!(scan.step(every, start), ScanStep::Waits);
        assert!(!scan.answered(began, 250, 100));
        assert_eq!(scan.step(every, start), ScanStep::Page(2));
        scan.ask(100, start);
        assert_eq!(scan.step(every, start), ScanStep::Page(3));
        // The pages of one scan have one size.
        assert_eq!(scan.ask(10, start), (began, 100));
        assert_eq!(scan.step(every, start), ScanStep::Waits);
        assert!(!scan.answered(began, 250, 100));
        // The last page is not full, and says nothing of the others.
        assert!(scan.answered(began, 250, 50));
        assert_eq!(scan.step(every, start), ScanStep::At(start + every));
        assert_eq!(scan.step(every, start + every), ScanStep::Page(1));
    }

    #[test]
    fn a_list_that_grows_is_gone_through_to_its_new_end() {
        let start = Instant::now();
        let every = Duration::from_secs(1);
        let mut scan = ListScan::new();
        let (began, _) = scan.ask(100, start);
        assert!(!scan.answered(began, 200, 100));
        scan.ask(100, start);
        assert!(!scan.answered(began, 201, 100));
        assert_eq!(scan.step(every, start), ScanStep::Page(3));
        scan.ask(100, start);
        assert!(scan.answered(began, 199, 1));
    }

    #[test]
    fn fewer_tasks_than_were_asked_for_are_the_size_of_all_pages() {
        let start = Instant::now();
        let mut scan = ListScan::new();
        let (began, size) = scan.ask(100, start);
        assert!(!scan.answered(began, 30, 10));
        assert_eq!((size, scan.ask(100, start)), (100, (began, 10)));
    }

    #[test]
    fn an_empty_list_is_one_page() {
        let start = Instant::now();
        let mut scan = ListScan::new();
        let (began, _) = scan.ask(100, start);
        assert!(scan.answered(began, 0, 100));
    }

    #[test]
    fn a_page_that_failed_ends_the_scan_and_late_ones_do_not_count() {
        let start = Instant::now();
        let later = start + Duration::from_secs(2);
        let mut scan = ListScan::new();
        let (began, _) = scan.ask(100, start);
        scan.failed(began);
        assert_eq!(scan.step(Duration::from_secs(1), later), ScanStep::Page(1));
        let (again, _) = scan.ask(100, later);
        assert!(!scan.answered(began, 1, 100));
        assert!(scan.answered(again, 1, 100));
    }
}

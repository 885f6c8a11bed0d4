//! Number of tasks that a page of a list is asked to have: as many as the upstream gives.

use std::time::{Duration, Instant};

use crate::dashscope::task_list::{LARGEST_PAGE, SMALLEST_PAGE};

/// The size of the pages of an account's next scans. All pages of one scan are asked for with the same size.
#[derive(Debug)]
pub(super) struct PageSize {
    size: usize,
    /// No larger size is tried before this time.
    grows_at: Option<Instant>,
    /// Pause after the next size that is not given.
    pause: Duration,
}

impl PageSize {
    pub(super) const fn new() -> Self {
        Self { size: LARGEST_PAGE, grows_at: None, pause: FIRST_PAUSE }
    }

    pub(super) fn tasks(&self) -> usize {
        self.size
    }

    /// Notes a complete scan with pages of this size. The next one has pages twice as large, unless such were not given a
    /// short while ago.
    pub(super) fn grow(&mut self, size: usize, now: Instant) {
        if size < self.size || self.grows_at.is_some_and(|at| now < at) {
            return;
        }
        if self.size == LARGEST_PAGE {
            self.pause = FIRST_PAUSE;
        }
        self.size = (self.size * 2).min(LARGEST_PAGE);
    }

    /// Notes that larger pages than this are not given.
    pub(super) fn shrink(&mut self, size: usize, now: Instant) {
        self.size = size.max(SMALLEST_PAGE).min(self.size);
        self.grows_at = Some(now + self.pause);
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }
}

const FIRST_PAUSE: Duration = Duration::from_secs(5);
/// An upstream with small pages is asked in vain for larger ones no more often than this.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_grow_again() {
        let start = Instant::now();
        let mut size = PageSize::new();
        size.shrink(12, start);
        size.grow(12, start + FIRST_PAUSE / 2);
        assert_eq!(size.tasks(), 12);
        let later = start + FIRST_PAUSE;
        let sizes: Vec<usize> = (0..5)
            .map(|_| {
                size.grow(size.tasks(), later);
                size.tasks()
            })
            .collect();
        assert_eq!(sizes, [24, 48, 96, 100, 100]);
        // A scan that began with smaller pages shows nothing of the larger ones.
        size.shrink(50, later);
        size.grow(25, later + LONGEST_PAUSE);
        assert_eq!(size.tasks(), 50);
    }

    #[test]
    fn no_fault_makes_pages_of_one() {
        let mut size = PageSize::new();
        size.shrink(0, Instant::now());
        assert_eq!(size.tasks(), SMALLEST_PAGE);
    }

    #[test]
    fn an_upstream_with_small_pages_is_seldom_asked_for_larger_ones() {
        let start = Instant::now();
        let mut size = PageSize::new();
        let mut in_vain = 0;
        for second in 0..24 * 3600 {
            let now = start + Duration::from_secs(second);
            if size.tasks() > 10 {
                in_vain += 1;
                size.shrink(10, now);
            } else {
                size.grow(10, now);
            }
        }
        assert!((20..40).contains(&in_vain), "{in_vain}");
    }
}

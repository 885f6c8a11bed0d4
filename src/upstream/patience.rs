//! Patience with a client that sends a body: how long it may be silent, and how slow it may be.

use std::time::Duration;

use tokio::time::Instant;

/// Counts the time that is spent waiting for the client, in windows of the longest silence. Time in which nobody asks
/// for bytes, because the upstream is slow, does not count.
#[derive(Debug)]
pub(super) struct Patience {
    /// Longest silence, and the length of a window.
    idle: Duration,
    /// Least number of bytes that must come in a window.
    least_bytes: u64,
    came_bytes: u64,
    window_left: Duration,
    wait: Option<Wait>,
}

#[derive(Debug, Clone, Copy)]
struct Wait {
    silent_since: Instant,
    window_ends: Instant,
}

impl Patience {
    pub(super) fn new(idle: Duration, least_bytes_per_second: u64) -> Self {
        let least_bytes = (idle.as_secs_f64() * least_bytes_per_second as f64) as u64;
        Self { idle, least_bytes, came_bytes: 0, window_left: idle, wait: None }
    }

    /// Notes a piece that came.
    pub(super) fn note(&mut self, bytes: u64, now: Instant) {
        self.came_bytes += bytes;
        if let Some(wait) = self.wait.take() {
            self.window_left = wait.window_ends.saturating_duration_since(now);
            if self.window_left.is_zero() {
                // The window ended while nobody asked for bytes.
                (self.came_bytes, self.window_left) = (0, self.idle);
            }
        }
    }

    /// Waits for the next piece: until when, or `None` once the client is too slow.
    pub(super) fn deadline(&mut self, now: Instant) -> Option<Instant> {
        let began = Wait { silent_since: now, window_ends: now + self.window_left };
        let wait = self.wait.get_or_insert(began);
        let silence_ends = wait.silent_since + self.idle;
        if now >= silence_ends {
            return None;
        }
        if now >= wait.window_ends {
            if self.came_bytes < self.least_bytes {
                return None;
            }
            self.came_bytes = 0;
            wait.window_ends = now + self.idle;
        }
        Some(silence_ends.min(wait.window_ends))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Duration = Duration::from_secs(10);

    /// Sends pieces after waits of `seconds` each; returns the number of pieces that were waited for.
    fn pieces(seconds: u64, bytes: u64, most: usize) -> usize {
        let mut now = Instant::now();
        let mut patience = Patience::new(IDLE, 100);
        (0..most)
            .take_while(|_| {
                let comes_at = now + Duration::from_secs(seconds);
                while let Some(deadline) = patience.deadline(now) {
                    if comes_at < deadline {
                        now = comes_at;
                        patience.note(bytes, now);
                        return true;
                    }
                    now = deadline;
                }
                false
            })
            .count()
    }

    /// An upstream that takes nothing for longer than a window is no fault of the client.
    #[test]
    fn a_window_that_ends_while_nobody_asks_is_begun_anew() {
        let now = Instant::now();
        let mut patience = Patience::new(IDLE, 100);
        assert!(patience.deadline(now).is_some());
        let later = now + 3 * IDLE;
        patience.note(1, later);
        assert_eq!(patience.deadline(later), Some(later + IDLE));
    }

    #[test]
    fn a_client_must_keep_to_the_floor_in_each_window() {
        assert_eq!(pieces(1, 120, 1000), 1000);
        assert_eq!(pieces(9, 2000, 1000), 1000, "pauses are no fault");
        assert_eq!(pieces(1, 80, 1000), 9);
        assert_eq!(pieces(10, 1 << 30, 1000), 0, "silent for as long as it may be");
    }

    #[test]
    fn what_came_early_does_not_pay_for_later_windows() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut patience = Patience::new(IDLE, 100);
        assert_eq!(patience.deadline(start), Some(at(10)));
        patience.note(1 << 30, at(1));
        assert_eq!(patience.deadline(at(1)), Some(at(10)));
        patience.note(1, at(9));
        assert_eq!(patience.deadline(at(9)), Some(at(10)));
        assert_eq!(patience.deadline(at(10)), Some(at(19)), "the second window begins");
        patience.note(1, at(18));
        assert_eq!(patience.deadline(at(18)), Some(at(20)));
        assert_eq!(patience.deadline(at(20)), None);
    }

    #[test]
    fn time_of_a_slow_upstream_does_not_count() {
        let start = Instant::now();
        let mut patience = Patience::new(IDLE, 100);
        for hour in 0..9 {
            let now = start + Duration::from_secs(3600 * hour);
            assert_eq!(patience.deadline(now), Some(now + IDLE));
            patience.note(1, now);
        }
    }

    #[test]
    fn without_a_floor_only_silence_counts() {
        let mut patience = Patience::new(IDLE, 0);
        let start = Instant::now();
        for step in 0..100 {
            let now = start + Duration::from_secs(9 * step);
            assert!(patience.deadline(now).is_some());
            patience.note(1, now + Duration::from_secs(9));
        }
    }
}

//! Times as percentiles and bars.

use std::time::{Duration, SystemTime};

/// Some durations, sorted.
#[derive(Default)]
pub(crate) struct Times(Vec<Duration>);

impl Times {
    pub(crate) fn new(times: impl IntoIterator<Item = Duration>) -> Times {
        let mut times: Vec<Duration> = times.into_iter().collect();
        times.sort_unstable();
        Times(times)
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// The nearest rank: of 100 times, the 99th is the 99% one.
    pub(crate) fn percentile(&self, percent: f64) -> Option<Duration> {
        let rank = (self.0.len() as f64 * percent / 100.0).ceil() as usize;
        self.0.get(rank.saturating_sub(1)).copied()
    }

    /// `p50 p90 p99 max`, in seconds.
    pub(crate) fn summary(&self) -> String {
        if self.0.is_empty() {
            return "-".to_owned();
        }
        [50.0, 90.0, 99.0, 100.0].map(|percent| shown(self.percentile(percent))).join(" ")
    }

    pub(crate) fn bars(&self) -> String {
        let most = EDGES_MILLIS.windows(2).map(|edges| self.between(edges[0], edges[1])).max().unwrap_or(0);
        let bar = |from: u64, to: u64| {
            let count = self.between(from, to);
            let bar = "#".repeat((count * 50).div_ceil(most.max(1)));
            let to = if to == u64::MAX { "more".to_owned() } else { seconds(Duration::from_millis(to)) };
            format!("  {:>7} - {to:<7} {count:>6} {bar}\n", seconds(Duration::from_millis(from)))
        };
        EDGES_MILLIS.windows(2).map(|edges| bar(edges[0], edges[1])).collect()
    }

    fn between(&self, from: u64, to: u64) -> usize {
        let until = |millis: u64| self.0.partition_point(|time| *time < Duration::from_millis(millis));
        until(to) - until(from)
    }
}

/// Time from a task's end to the moment at which it was known.
pub(crate) fn lag(ended: Option<SystemTime>, known: Option<SystemTime>) -> Option<Duration> {
    Some(known?.duration_since(ended?).unwrap_or_default())
}

pub(crate) fn shown(time: Option<Duration>) -> String {
    time.map_or_else(|| "-".to_owned(), seconds)
}

fn seconds(time: Duration) -> String {
    format!("{:.3}", time.as_secs_f64())
}

/// The most of these moments within one second.
pub(crate) fn busiest_second(mut moments: Vec<SystemTime>) -> usize {
    moments.sort_unstable();
    let mut first = 0;
    let within = |(last, at): (usize, &SystemTime)| {
        while moments[first] + Duration::from_secs(1) <= *at {
            first += 1;
        }
        last + 1 - first
    };
    moments.iter().enumerate().map(within).max().unwrap_or(0)
}

const EDGES_MILLIS: [u64; 16] =
    [0, 50, 100, 150, 200, 250, 500, 1_000, 1_500, 2_000, 3_000, 4_000, 5_000, 6_000, 10_000, u64::MAX];

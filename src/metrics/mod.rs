//! What Prometheus sees. Handles are resolved once; nobody looks a label up while a request waits.

use prometheus::core::Collector;
use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder,
};

/// All families, and a handle on each of their series.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// In the order of [`SERVED`].
    polls: [IntCounter; 3],
    tasks: IntGaugeVec,
    /// In seconds, from a task's end by the upstream's clock to our knowing of it.
    pub completion_lag: Histogram,
}

/// Where the answer to a task query came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PollServed {
    /// What was known was fresh enough.
    Cache,
    /// The upstream was asked.
    Upstream,
    /// It could not be asked in time.
    Stale,
}

impl Metrics {
    /// # Errors
    /// Two families of one name: a fault of ours.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let polls = IntCounterVec::new(
            Opts::new(
                "dashgate_polls_total",
                "Task queries of clients, by where their answer came from: memory that was fresh enough (cache), a \
                 query of the upstream (upstream), or what was known last (stale)",
            ),
            &["served"],
        )?;
        let tasks = IntGaugeVec::new(
            Opts::new(
                "dashgate_tasks",
                "Tasks that have not ended, by the state in which they were seen last",
            ),
            &["state"],
        )?;
        let completion_lag = Histogram::with_opts(
            HistogramOpts::new(
                "dashgate_completion_lag_seconds",
                "From a task's end, by the upstream's clock, until the gateway knew of it",
            )
            .buckets(LAG_BUCKETS.to_vec()),
        )?;
        let families: [Box<dyn Collector>; 3] =
            [Box::new(polls.clone()), Box::new(tasks.clone()), Box::new(completion_lag.clone())];
        for family in families {
            registry.register(family)?;
        }
        let polls = SERVED.map(|served| polls.with_label_values(&[served]));
        Ok(Self { registry, polls, tasks, completion_lag })
    }

    pub fn polled(&self, served: PollServed) {
        self.polls[served as usize].inc();
    }

    /// Everything, in Prometheus' text format. How many tasks there are is only counted when somebody asks.
    pub fn text(&self, tasks: &[(&str, usize)]) -> String {
        for (state, count) in tasks {
            self.tasks.with_label_values(&[state]).set(i64::try_from(*count).unwrap_or(i64::MAX));
        }
        TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap_or_else(|error| {
            tracing::error!(%error, "the metrics can't be written");
            String::new()
        })
    }
}

const SERVED: [&str; 3] = ["cache", "upstream", "stale"];
/// Fine where a held poll's is, and up to the hour that a task without a client may take.
const LAG_BUCKETS: [f64; 16] =
    [0.05, 0.1, 0.15, 0.2, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 10.0, 30.0, 60.0, 3600.0];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_series_is_there_from_the_start() {
        let metrics = Metrics::new().expect("families of different names");
        metrics.polled(PollServed::Stale);
        metrics.completion_lag.observe(0.3);
        let text = metrics.text(&[("pending", 1), ("running", 2)]);
        for line in [
            "dashgate_polls_total{served=\"cache\"} 0",
            "dashgate_polls_total{served=\"stale\"} 1",
            "dashgate_tasks{state=\"running\"} 2",
            "dashgate_completion_lag_seconds_bucket{le=\"0.5\"} 1",
            "dashgate_completion_lag_seconds_bucket{le=\"0.25\"} 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }
}

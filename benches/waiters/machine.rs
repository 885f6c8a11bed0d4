//! How busy the machine is with other things: then no figure is worth much.

use std::time::{Duration, Instant};

use crate::process::{Taken, taken};

/// A look at all processors, and at this program.
pub(crate) struct Look {
    busy: Duration,
    all: Duration,
    own: Taken,
    pub(crate) at: Instant,
}

impl Look {
    pub(crate) fn now() -> Look {
        let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
        let fields = text.lines().next().unwrap_or_default().split_whitespace().skip(1);
        let ticks: Vec<u64> = fields.take(8).filter_map(|field| field.parse().ok()).collect();
        let idle: u64 = ticks.iter().skip(3).take(2).sum();
        let all: u64 = ticks.iter().sum();
        let time = |ticks: u64| Duration::from_millis(10 * ticks);
        Look { busy: time(all - idle), all: time(all), own: taken(std::process::id()), at: Instant::now() }
    }

    pub(crate) fn own_cpu_since(&self) -> Duration {
        taken(std::process::id()).cpu.saturating_sub(self.own.cpu)
    }

    /// Since this look: the share of the processors that was busy, and the share that others than the processes
    /// of the run took.
    pub(crate) fn shares_since(&self, of_the_run: Duration) -> (f64, f64) {
        let now = Look::now();
        let all = now.all.saturating_sub(self.all).as_secs_f64().max(f64::EPSILON);
        let busy = now.busy.saturating_sub(self.busy);
        (busy.as_secs_f64() / all, busy.saturating_sub(of_the_run).as_secs_f64() / all)
    }
}

/// What to think of a run on a machine as busy as this.
pub(crate) fn warning(busy: f64, others: f64) -> Option<String> {
    let overloaded = others > 0.25 || busy > 0.9;
    overloaded.then(|| {
        format!(
            "WARNING: the machine was {:.0}% busy, {:.0}% with other programs: the times above say little",
            busy * 100.0,
            others * 100.0
        )
    })
}

//! Load of the machine by other programs, which makes figures worthless.

use std::io;
use std::process::Command;
use std::time::{Duration, Instant};

use super::process::{Taken, taken};

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

/// Warning for a run on a machine that was as busy as this.
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

/// The processor, how many there are, and the kernel.
pub(crate) fn description() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpus = read("/proc/cpuinfo");
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("unknown processor", |(_, name)| name);
    let count = cpus.lines().filter(|line| line.starts_with("processor")).count();
    let kernel = read("/proc/sys/kernel/osrelease");
    format!("{model}, {count} processors, Linux {}", kernel.trim())
}

/// All processors, as `taskset` writes them; this program may have only some of them.
pub(crate) fn processors() -> io::Result<String> {
    std::fs::read_to_string("/sys/devices/system/cpu/online").map(|online| online.trim().to_owned())
}

/// Leaves these processors, as `taskset` writes them, to others, and gives the rest to this program and what it starts.
///
/// # Errors
/// There is no `taskset`, or no processor is left.
pub(crate) fn confine_to_others(cores: &str) -> io::Result<String> {
    let all = std::thread::available_parallelism()?.get();
    let theirs: Vec<usize> = cores.split(',').filter_map(|text| text.trim().parse().ok()).collect();
    let rest: Vec<String> =
        (0..all).filter(|core| !theirs.contains(core)).map(|core| core.to_string()).collect();
    if rest.is_empty() {
        return Err(io::Error::other(format!("of {all} processors, none is left beside {cores}")));
    }
    let rest = rest.join(",");
    let own = std::process::id().to_string();
    let set = Command::new("taskset").args(["-a", "-cp", &rest, &own]).output()?;
    if set.status.success() { Ok(rest) } else { Err(io::Error::other("taskset can't move this program")) }
}

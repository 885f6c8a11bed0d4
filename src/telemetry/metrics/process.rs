//! Resources of the process, read from Linux, under the names that Prometheus' client libraries use.

use std::fs;

use prometheus::proto::MetricFamily;

use super::family;

/// Families of the values that can be read; outside of Linux there are none.
pub(super) fn families() -> Vec<MetricFamily> {
    let gauge = |name, help, level: Option<f64>| {
        level.map(|level| family::gauges(name, help, &[], [(Vec::new(), level)]))
    };
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let cpu = field(&stat, UTIME).zip(field(&stat, STIME)).map(|(user, system)| (user + system) / TICKS);
    let start = field(&stat, START).zip(boot_time()).map(|(ticks, boot)| boot + ticks / TICKS);
    let resident = resident_kib().map(|kib| kib * 1024.0);
    let open = fs::read_dir("/proc/self/fd").ok().map(|files| files.count() as f64);
    let mut families: Vec<MetricFamily> = [
        gauge("process_max_fds", "Maximum number of open file descriptors", most_files()),
        gauge("process_open_fds", "Number of open file descriptors", open),
        gauge("process_resident_memory_bytes", "Resident memory size in bytes", resident),
        gauge("process_start_time_seconds", "Start time of the process since unix epoch in seconds", start),
        gauge("process_threads", "Number of OS threads in the process", field(&stat, THREADS)),
    ]
    .into_iter()
    .flatten()
    .collect();
    families.extend(cpu.map(|seconds| {
        let help = "Total user and system CPU time spent in seconds";
        family::seconds_total("process_cpu_seconds_total", help, seconds)
    }));
    families
}

/// Reads a field of `/proc/self/stat`, numbered from 1 as in proc(5). The command name, field 2, may hold spaces and
/// parentheses, so fields are counted behind its last one.
fn field(stat: &str, number: usize) -> Option<f64> {
    let (_, behind) = stat.rsplit_once(')')?;
    behind.split_ascii_whitespace().nth(number - 3)?.parse().ok()
}

fn resident_kib() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

fn boot_time() -> Option<f64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    stat.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok())
}

fn most_files() -> Option<f64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

const UTIME: usize = 14;
const STIME: usize = 15;
const THREADS: usize = 20;
const START: usize = 22;
/// `USER_HZ`, which is 100 for every program on Linux, whatever the kernel's own clock.
const TICKS: f64 = 100.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_with_anything_in_its_name_is_read() {
        let stat = format!("7 (a) b) S {}", (4..=30).map(|n| n.to_string() + " ").collect::<String>());
        assert_eq!(field(&stat, UTIME), Some(14.0));
        assert_eq!(field(&stat, START), Some(22.0));
        assert_eq!(field("", UTIME), None);
    }
}

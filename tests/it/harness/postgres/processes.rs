//! Signals to all processes of a server. They are known by their working directory, which is that of the data: the
//! server's children are no group, because each begins a session of its own.

use std::fs;
use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::eventually;

/// Kills them all. The postmaster is halted first, so that it replaces none.
pub(super) fn kill(data: &Path) {
    halt(data);
    eventually("they are killed", || {
        let left = of(data);
        left.iter().for_each(|process| signal(*process, Signal::KILL));
        left.is_empty()
    });
}

/// Suspends them all, and returns when none runs.
pub(super) fn halt(data: &Path) {
    eventually("they are halted", || {
        let all = of(data);
        all.iter().for_each(|process| signal(*process, Signal::STOP));
        all.into_iter().all(is_halted) && of(data).into_iter().all(is_halted)
    });
}

pub(super) fn resume(data: &Path) {
    of(data).into_iter().for_each(|process| signal(process, Signal::CONT));
}

/// Sends a signal. A process that has ended in the meantime is none to worry about.
pub(super) fn signal(process: u32, signal: Signal) {
    let process = i32::try_from(process).ok().and_then(Pid::from_raw).expect("a process");
    let _ = kill_process(process, signal);
}

fn of(data: &Path) -> Vec<u32> {
    let all = fs::read_dir("/proc").expect("/proc").filter_map(|entry| {
        let entry = entry.ok()?;
        let process = entry.file_name().to_str()?.parse().ok()?;
        // A process that waits for its parent has no directory any more.
        (fs::read_link(entry.path().join("cwd")).ok()? == data).then_some(process)
    });
    all.collect()
}

/// True for a process that is suspended, or that has ended. Its state stands behind its name, which is in brackets.
fn is_halted(process: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_none_or(|(_, fields)| fields.starts_with(['T', 'Z', 'X']))
}

//! Test harness: a gateway on a port of its own, a scripted upstream that records requests, and
//! a client that can send what no client should.

pub(crate) mod browser;
pub(crate) mod calls;
pub(crate) mod client;
pub(crate) mod gateway;
pub(crate) mod http2;
pub(crate) mod logs;
pub(crate) mod message;
pub(crate) mod openapi;
pub(crate) mod ports;
pub(crate) mod postgres;
pub(crate) mod reached;
pub(crate) mod refusal;
pub(crate) mod relay;
pub(crate) mod secrets;
pub(crate) mod state;
pub(crate) mod tls;
pub(crate) mod upstream;

use std::time::{Duration, Instant};

pub(crate) use client::Client;
pub(crate) use gateway::{ADMIN_TOKEN, Account, Gateway, OTHER_KEY, TENANT_KEY, UPSTREAM_KEY, configuration};
pub(crate) use message::{Message, message};
pub(crate) use reached::once_reachable;
pub(crate) use refusal::{Envelope, assert_refused};
pub(crate) use state::{StateDirectory, needs_the_file, task_fields};
pub(crate) use upstream::{Upstream, answer, chunked};

/// Longest wait of a test. Anything slower has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until the condition holds.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "never came true: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Sleeps, where the passing of time is the subject of a test: something must still hold afterwards.
pub(crate) fn let_pass(time: Duration) {
    std::thread::sleep(time);
}

/// Sends a signal to a process, or to a group if a minus stands before its number. The shell's own `kill`
/// does it, because a small machine has no other.
pub(crate) fn signal(name: &str, process: &str) -> bool {
    let kill = format!("kill -{name} -- {process}");
    std::process::Command::new("bash").args(["-c", &kill]).status().is_ok_and(|status| status.success())
}

/// Prints what could not be tested here, past the capture of a passing test's output, so that nobody misses it.
pub(crate) fn not_run(what: &str) {
    let said = format!("\nNOT RUN: {what}\n");
    std::io::Write::write_all(&mut std::io::stderr(), said.as_bytes()).expect("standard error");
}

/// Processor time of a process so far, in all its threads.
pub(crate) fn processor_time(process: u32) -> Duration {
    let mut total = Duration::ZERO;
    for thread in std::fs::read_dir(format!("/proc/{process}/task")).expect("its threads") {
        let thread = thread.expect("a thread").path();
        // Nanoseconds on a processor, the first number there.
        let stat = std::fs::read_to_string(thread.join("schedstat")).unwrap_or_default();
        total += Duration::from_nanos(stat.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0));
    }
    total
}

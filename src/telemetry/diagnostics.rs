//! Diagnostics on standard error. A thread of their own writes them, so that a reader who stops reading holds nobody up:
//! lines that find the queue full are dropped, and counted.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{self, IsTerminal};
use std::sync::OnceLock;
use std::{panic, thread};

use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Starts the diagnostics of the process, filtered as `RUST_LOG` asks. The target `audit` is logged unless `RUST_LOG`
/// names it itself. Dropping the guard writes the lines that wait, within a second.
#[must_use = "lines that wait are lost unless the guard is held to the end of the process"]
pub fn start(asked: Option<String>) -> WorkerGuard {
    let mut asked = asked.filter(|asked| !asked.is_empty()).unwrap_or("info".to_owned());
    if !asked.contains("audit") {
        asked.push_str(",audit=info");
    }
    // `Targets` filters by target and level; `EnvFilter`, which also filters by fields, would bring a regex engine
    // along.
    let filter = asked.parse().unwrap_or_else(|_| Targets::new().with_default(LevelFilter::INFO));
    let (writer, guard) = NonBlockingBuilder::default()
        .buffered_lines_limit(MOST_WAITING_LINES)
        .thread_name("diagnostics")
        .finish(io::stderr());
    let _ = DROPPED.set(writer.error_counter());
    let lines = tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(io::stderr().is_terminal());
    tracing_subscriber::registry().with(lines.with_filter(filter)).init();
    log_panics();
    guard
}

/// Number of lines that were dropped so far.
pub fn dropped() -> u64 {
    DROPPED.get().map_or(0, |dropped| dropped.dropped_lines() as u64)
}

/// Reports panics as diagnostics: the hook of the standard library would wait for standard error.
fn log_panics() {
    panic::set_hook(Box::new(|panic| {
        let backtrace = Backtrace::capture();
        let thread = thread::current();
        let thread = thread.name().unwrap_or("unnamed");
        if backtrace.status() == BacktraceStatus::Captured {
            tracing::error!(thread, "{panic}\n{backtrace}");
        } else {
            tracing::error!(thread, "{panic}");
        }
    }));
}

/// The subscriber of `tracing` is the process's too.
static DROPPED: OnceLock<ErrorCounter> = OnceLock::new();
/// A line has some 200 bytes.
const MOST_WAITING_LINES: usize = 4096;

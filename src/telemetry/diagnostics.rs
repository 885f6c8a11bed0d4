//! Diagnostics on standard error. A thread of their own writes them, so that a reader who stops reading holds nobody up:
//! lines that find the queue full are dropped, and counted.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fmt;
use std::io::{self, IsTerminal};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{OnceLock, mpsc};
use std::time::Duration;
use std::{panic, thread};

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::{DefaultFields, Format, Full, Writer};
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::LogFormat;

/// To be held to the end of the process. The drop writes the lines that wait, for a second at most.
#[derive(Debug)]
#[must_use = "lines that wait are lost unless the guard is held to the end of the process"]
pub struct DiagnosticsGuard(Option<WorkerGuard>);

impl Drop for DiagnosticsGuard {
    fn drop(&mut self) {
        let Some(guard) = self.0.take() else { return };
        let (end, ended) = mpsc::channel::<()>();
        // On a full queue the guard prints to standard output, whose reader may have stopped too.
        let dropping = thread::Builder::new().name("diagnostics-end".to_owned()).spawn(move || {
            drop(guard);
            drop(end);
        });
        if dropping.is_ok() {
            // Nothing is sent: the wait ends with the thread, or is over.
            let _ = ended.recv_timeout(LONGEST_END);
        }
    }
}

/// Starts the diagnostics of the process, filtered as `RUST_LOG` asks. The targets `audit` and `panic` are logged unless
/// `RUST_LOG` names them itself.
pub fn start(asked: Option<String>) -> DiagnosticsGuard {
    let mut asked = asked.filter(|asked| !asked.is_empty()).unwrap_or("info".to_owned());
    for (target, level) in [("audit", "info"), ("panic", "error")] {
        if !asked.contains(target) {
            asked.push_str(&format!(",{target}={level}"));
        }
    }
    // `Targets` filters by target and level; `EnvFilter`, which also filters by fields, would bring a regex engine
    // along.
    let filter = asked.parse().unwrap_or_else(|_| Targets::new().with_default(LevelFilter::INFO));
    let (writer, guard) = NonBlockingBuilder::default()
        .buffered_lines_limit(MOST_WAITING_LINES)
        .thread_name("diagnostics")
        .finish(io::stderr());
    let _ = DROPPED.set(writer.error_counter());
    let text = Format::default().with_timer(LineBeginning);
    let lines = tracing_subscriber::fmt::layer()
        .event_format(LineFormat { text })
        .with_writer(writer)
        .with_ansi(io::stderr().is_terminal());
    tracing_subscriber::registry().with(lines.with_filter(filter)).init();
    log_panics();
    DiagnosticsGuard(Some(guard))
}

/// Has each further line name this replica, as several may log to one place. Only the first name counts.
pub fn name_replica(name: &str) {
    let _ = REPLICA.set(name.into());
}

/// Writes further lines in a format. Lines before the first call are text.
pub fn write_as(format: LogFormat) {
    IS_JSON.store(format == LogFormat::Json, Ordering::Relaxed);
}

/// A line of text, or an object of JSON with the fields of that line.
struct LineFormat {
    text: Format<Full, LineBeginning>,
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> FormatEvent<S, DefaultFields> for LineFormat {
    fn format_event(
        &self,
        context: &FmtContext<'_, S, DefaultFields>,
        mut line: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        if !IS_JSON.load(Ordering::Relaxed) {
            return self.text.format_event(context, line, event);
        }
        let metadata = event.metadata();
        let mut object = Map::new();
        let time = humantime::format_rfc3339_micros(std::time::SystemTime::now());
        object.insert("timestamp".to_owned(), time.to_string().into());
        object.insert("level".to_owned(), metadata.level().as_str().into());
        if let Some(name) = REPLICA.get() {
            object.insert("replica".to_owned(), (**name).into());
        }
        object.insert("target".to_owned(), metadata.target().into());
        event.record(&mut JsonFields(&mut object));
        writeln!(line, "{}", Value::Object(object))
    }
}

/// Adds the fields of an event to an object, the message as `message`.
struct JsonFields<'o>(&'o mut Map<String, Value>);

impl JsonFields<'_> {
    fn add(&mut self, field: &Field, value: Value) {
        self.0.insert(field.name().to_owned(), value);
    }
}

impl Visit for JsonFields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, value.into());
    }
}

/// The beginning of a line: the time, and the replica if there is a name.
struct LineBeginning;

impl FormatTime for LineBeginning {
    fn format_time(&self, line: &mut Writer<'_>) -> fmt::Result {
        SystemTime.format_time(line)?;
        match REPLICA.get() {
            Some(name) => write!(line, " replica={name}"),
            None => Ok(()),
        }
    }
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
            tracing::error!(target: "panic", thread, "{panic}\n{backtrace}");
        } else {
            tracing::error!(target: "panic", thread, "{panic}");
        }
    }));
}

/// The subscriber of `tracing` is the process's too.
static DROPPED: OnceLock<ErrorCounter> = OnceLock::new();
static REPLICA: OnceLock<Box<str>> = OnceLock::new();
/// True while lines are objects of JSON. A reload changes it.
static IS_JSON: AtomicBool = AtomicBool::new(false);
const LONGEST_END: Duration = Duration::from_secs(1);
/// A line has some 200 bytes.
const MOST_WAITING_LINES: usize = 4096;

//! Capture of all log lines of this process, down to level trace.

use std::io;
use std::sync::{Mutex, OnceLock};

use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use super::secrets;

static LOGGED: OnceLock<Mutex<Vec<u8>>> = OnceLock::new();

/// Captures log lines in memory, at level trace, for every test of this binary. A secret in a line ends the process,
/// because a panic in a thread of the gateway would fail no test.
pub(crate) fn capture() {
    LOGGED.get_or_init(|| {
        // Log lines of the tests' own clients are no log of the gateway.
        let filter = "trace,tungstenite=off,tokio_tungstenite=off".parse::<Targets>().expect("a filter");
        let lines = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(|| LogWriter);
        tracing_subscriber::registry().with(lines.with_filter(filter)).init();
        Mutex::default()
    });
}

/// The log so far, or its last part.
pub(crate) fn captured() -> String {
    let logged = LOGGED.get().map(|logged| logged.lock().expect("no panic").clone());
    String::from_utf8_lossy(&logged.unwrap_or_default()).into_owned()
}

struct LogWriter;

impl io::Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(line) = secrets::leak(&String::from_utf8_lossy(bytes)) {
            // Written past the capture of a test's output.
            let said = format!("\na secret is in the diagnostics: {line}\n");
            let _ = io::Write::write_all(&mut io::stderr(), said.as_bytes());
            std::process::exit(101);
        }
        if let Some(logged) = LOGGED.get() {
            let mut logged = logged.lock().expect("no panic");
            if logged.len() > MOST_BYTES {
                // The newer half stays, as a test may be about to look for one of its lines.
                let half = logged.len() / 2;
                let line_end = logged[half..].iter().position(|byte| *byte == b'\n');
                logged.drain(..line_end.map_or(half, |at| half + at + 1));
            }
            logged.extend_from_slice(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

const MOST_BYTES: usize = 64 * 1024 * 1024;

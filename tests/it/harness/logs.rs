//! Everything that is logged in this process, down to the last detail.

use std::io;
use std::sync::{Mutex, OnceLock};

static LOGGED: OnceLock<Mutex<Vec<u8>>> = OnceLock::new();

/// Logs into memory from now on, at level trace, for every test of this binary.
pub(crate) fn capture() {
    LOGGED.get_or_init(|| {
        tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_ansi(false)
            .with_writer(|| Writer)
            .init();
        Mutex::default()
    });
}

/// What was logged so far.
pub(crate) fn captured() -> String {
    let logged = LOGGED.get().map(|logged| logged.lock().expect("no panic").clone());
    String::from_utf8_lossy(&logged.unwrap_or_default()).into_owned()
}

struct Writer;

impl io::Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(logged) = LOGGED.get() {
            logged.lock().expect("no panic").extend_from_slice(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

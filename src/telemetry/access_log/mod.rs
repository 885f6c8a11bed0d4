//! The access log: one line for each exchange. A worker writes the line into a buffer of its own; a background thread
//! writes the buffers to the target. No request waits for a disk or a pipe: lines that find their buffer full are
//! dropped, and counted.

mod flusher;
mod line;
mod sink;
mod timestamp;

use std::cell::RefCell;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread::{self, Thread};
use std::time::Duration;

use parking_lot::Mutex;

pub use self::line::{LogLine, name};

use self::flusher::{Flusher, LogState};
use self::sink::Sink;
use self::timestamp::Timestamps;
use crate::config::{LogFormat, LogSettings};

/// The access log of the process, with its background thread.
#[derive(Debug)]
pub struct AccessLog {
    shared: Arc<LogState>,
    thread: Thread,
    /// Disconnected when the background thread has ended.
    ended: Mutex<Receiver<()>>,
}

impl AccessLog {
    /// Opens the target and starts the background thread.
    ///
    /// # Errors
    /// An error of opening the file, or of starting the thread.
    pub fn start(config: &LogSettings) -> io::Result<Self> {
        let sink = Sink::open(&config.access)?;
        let shared = Arc::new(LogState {
            target: Mutex::new(config.access.clone()),
            buffers: Mutex::default(),
            has_work: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            dropped: AtomicU64::new(0),
        });
        let (alive, ended) = mpsc::channel();
        let flusher = Flusher::new(Arc::clone(&shared), sink);
        let work = move || {
            let _alive: mpsc::Sender<()> = alive;
            flusher.run();
        };
        let thread = thread::Builder::new().name("access-log".to_owned()).spawn(work)?;
        Ok(Self { shared, thread: thread.thread().clone(), ended: Mutex::new(ended) })
    }

    /// Changes the target of all further lines. A target that can't be opened is reported in the diagnostic log, and
    /// tried again.
    pub fn retarget(&self, config: &LogSettings) {
        *self.shared.target.lock() = config.access.clone();
        self.shared.wake(&self.thread);
    }

    /// Makes the writer of one thread.
    pub fn writer(&self) -> LogWriter {
        let buffer = Arc::<Mutex<Vec<u8>>>::default();
        self.shared.buffers.lock().push(Arc::clone(&buffer));
        let (shared, thread) = (Arc::clone(&self.shared), self.thread.clone());
        LogWriter { buffer, shared, thread, timestamps: RefCell::default() }
    }

    /// Number of lines that found their buffer full, or could not be written.
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }

    /// Writes the buffered lines, as far as that is possible within `patience`, and ends the thread. Blocks.
    pub fn close(&self, patience: Duration) {
        self.shared.closing.store(true, Ordering::Release);
        self.thread.unpark();
        // A thread that is stuck in a write is left behind.
        let _ = self.ended.lock().recv_timeout(patience);
    }
}

/// Writes the lines of one thread.
#[derive(Debug)]
pub struct LogWriter {
    buffer: Arc<Mutex<Vec<u8>>>,
    shared: Arc<LogState>,
    thread: Thread,
    timestamps: RefCell<Timestamps>,
}

impl LogWriter {
    /// Writes a line into the buffer, or drops the line if the buffer is full.
    pub fn write(&self, line: &LogLine<'_>, format: LogFormat) {
        // The background thread holds this lock only to swap buffers.
        let mut buffer = self.buffer.lock();
        if buffer.len() >= MOST_WAITING_BYTES {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let is_first = buffer.is_empty();
        line.write(format, &mut self.timestamps.borrow_mut(), &mut buffer);
        drop(buffer);
        if is_first {
            self.shared.wake(&self.thread);
        }
    }
}

/// Most bytes in the buffer of one thread: some ten thousand lines, about a second of the work of a busy core.
const MOST_WAITING_BYTES: usize = 4 * 1024 * 1024;

#[cfg(test)]
#[path = "access_log_tests.rs"]
mod tests;

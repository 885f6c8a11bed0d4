//! One line for each exchange. A worker writes it into a buffer of its own; a thread of its own carries the buffers to
//! where they go. Nobody waits for a disk or a pipe: what does not fit is dropped, and counted.

mod flusher;
mod line;
mod sink;
mod timestamp;

use std::cell::RefCell;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Thread};
use std::time::Duration;

pub use self::line::{LogLine, name};

use self::flusher::Flusher;
use self::sink::Sink;
use self::timestamp::Timestamps;
use crate::config::{LogFormat, LogSettings, LogTarget};

/// The log, for as long as it lives.
#[derive(Debug)]
pub struct AccessLog {
    shared: Arc<LogState>,
    writer: Thread,
    /// Hears when the writer has ended.
    ended: Mutex<Receiver<()>>,
}

/// What those who write lines share with the thread that carries them away.
#[derive(Debug)]
struct LogState {
    /// Where lines are to go.
    target: Mutex<LogTarget>,
    buffers: Mutex<Vec<Arc<Mutex<Vec<u8>>>>>,
    /// There is something to carry.
    wanted: AtomicBool,
    closing: AtomicBool,
    dropped: AtomicU64,
}

impl AccessLog {
    /// Opens the target and starts the thread.
    ///
    /// # Errors
    /// Why the file can't be opened, or there is no thread.
    pub fn start(config: &LogSettings) -> io::Result<Self> {
        let sink = Sink::open(&config.access)?;
        let shared = Arc::new(LogState {
            target: Mutex::new(config.access.clone()),
            buffers: Mutex::default(),
            wanted: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            dropped: AtomicU64::new(0),
        });
        let (alive, ended) = mpsc::channel();
        let writer = Flusher::new(Arc::clone(&shared), sink);
        let work = move || {
            let _alive: mpsc::Sender<()> = alive;
            writer.run();
        };
        let thread = thread::Builder::new().name("access-log".to_owned()).spawn(work)?;
        Ok(Self { shared, writer: thread.thread().clone(), ended: Mutex::new(ended) })
    }

    /// Lines go there from now on. What can't be opened is told in the diagnostics, and tried again.
    pub fn retarget(&self, config: &LogSettings) {
        *lock(&self.shared.target) = config.access.clone();
        self.shared.wake(&self.writer);
    }

    /// For one thread that writes lines.
    pub fn writer(&self) -> LogWriter {
        let buffer = Arc::<Mutex<Vec<u8>>>::default();
        lock(&self.shared.buffers).push(Arc::clone(&buffer));
        let (shared, writer) = (Arc::clone(&self.shared), self.writer.clone());
        LogWriter { buffer, shared, writer, clock: RefCell::default() }
    }

    /// How many lines there was no room for, or that could not be written.
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }

    /// Writes what is there, as far as that is possible within the time. Blocks.
    pub fn close(&self, patience: Duration) {
        self.shared.closing.store(true, Ordering::Release);
        self.writer.unpark();
        // Either way there is nothing more to do.
        let _ = lock(&self.ended).recv_timeout(patience);
    }
}

impl LogState {
    fn wake(&self, writer: &Thread) {
        if !self.wanted.swap(true, Ordering::AcqRel) {
            writer.unpark();
        }
    }
}

/// Writes the lines of one thread.
#[derive(Debug)]
pub struct LogWriter {
    buffer: Arc<Mutex<Vec<u8>>>,
    shared: Arc<LogState>,
    writer: Thread,
    clock: RefCell<Timestamps>,
}

impl LogWriter {
    /// Writes a line, if there is room.
    pub fn write(&self, line: &LogLine<'_>, format: LogFormat) {
        // The writer only ever swaps it.
        let mut buffer = lock(&self.buffer);
        if buffer.len() >= MOST_WAITING_BYTES {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let is_first = buffer.is_empty();
        line.write(format, &mut self.clock.borrow_mut(), &mut buffer);
        drop(buffer);
        if is_first {
            self.shared.wake(&self.writer);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Of one thread: some ten thousand lines, a second or so of all that a core can serve.
const MOST_WAITING_BYTES: usize = 4 * 1024 * 1024;

#[cfg(test)]
#[path = "access_log_tests.rs"]
mod tests;

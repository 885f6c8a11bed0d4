//! Child processes of a bench: their output and their use of the machine.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

/// A running program, ended when the value is dropped.
pub(crate) struct Process {
    child: Child,
    said: Arc<Mutex<VecDeque<String>>>,
    lines: mpsc::Receiver<String>,
}

impl Process {
    pub(crate) fn start(command: &mut Command) -> io::Result<Process> {
        Process::with_output(command, Stdio::null())
    }

    /// Starts a program with its output in a file.
    pub(crate) fn start_with_output(command: &mut Command, file: &Path) -> io::Result<Process> {
        Process::with_output(command, File::create(file)?.into())
    }

    fn with_output(command: &mut Command, output: Stdio) -> io::Result<Process> {
        let mut child = command.stdin(Stdio::null()).stdout(output).stderr(Stdio::piped()).spawn()?;
        let said = Arc::new(Mutex::new(VecDeque::new()));
        let (sender, lines) = mpsc::channel();
        if let Some(pipe) = child.stderr.take() {
            collect(pipe, Arc::clone(&said), sender);
        }
        Ok(Process { child, said, lines })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The line with these words in it, once it has been said.
    pub(crate) fn line_with(&self, words: &str) -> io::Result<String> {
        let deadline = Instant::now() + READY_WITHIN;
        while let Ok(line) = self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            if line.contains(words) {
                return Ok(line);
            }
        }
        Err(io::Error::other(format!("it never said {words:?}, but:\n{}", self.said())))
    }

    /// The last lines that it said.
    pub(crate) fn said(&self) -> String {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        said.iter().map(|line| format!("  {line}\n")).collect()
    }

    /// Use of the machine by the program and its children so far.
    pub(crate) fn taken(&self) -> Taken {
        taken_by_all(self.child.id())
    }
}

impl Drop for Process {
    /// Sends SIGTERM first: a killed master would leave its workers behind.
    fn drop(&mut self) {
        let _ = Command::new("sh").args(["-c", &format!("kill -TERM {}", self.child.id())]).status();
        let deadline = Instant::now() + ENDED_WITHIN;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn collect(
    pipe: impl Read + Send + 'static,
    said: Arc<Mutex<VecDeque<String>>>,
    lines: mpsc::Sender<String>,
) {
    thread::spawn(move || {
        let mut sent = 0;
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            // Only the first lines can hold the address; later lines would fill the channel unread.
            if sent < FIRST_LINES {
                sent += 1;
                let _ = lines.send(line.clone());
            }
            let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
            said.push_back(line);
            if said.len() > LAST_LINES {
                said.pop_front();
            }
        }
    });
}

/// The address that stands behind the words.
pub(crate) fn address_after(line: &str, words: &str) -> io::Result<SocketAddr> {
    let rest = line.split_once(words).map(|(_, rest)| rest).unwrap_or_default();
    let end = rest.find(|letter: char| !letter.is_ascii_digit() && !".:".contains(letter));
    let address = &rest[..end.unwrap_or(rest.len())];
    address.parse().map_err(|_| io::Error::other(format!("no address behind {words:?} in {line:?}")))
}

/// Processor time and memory.
#[derive(Clone, Copy, Default)]
pub(crate) struct Taken {
    pub(crate) cpu: Duration,
    /// The most that was resident at a time.
    pub(crate) peak_bytes: u64,
    pub(crate) resident_bytes: u64,
}

impl Taken {
    pub(crate) fn and(self, other: Taken) -> Taken {
        Taken {
            cpu: self.cpu + other.cpu,
            peak_bytes: self.peak_bytes + other.peak_bytes,
            resident_bytes: self.resident_bytes + other.resident_bytes,
        }
    }
}

/// Use of the machine by a process and its children so far.
pub(crate) fn taken_by_all(own: u32) -> Taken {
    let pids = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| *pid == own || parent(*pid) == Some(own)).map(taken).fold(Taken::default(), Taken::and)
}

/// Use of the machine by a process; zero when it is gone.
pub(crate) fn taken(pid: u32) -> Taken {
    let ticks = |field: usize| stat(pid).get(field).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let bytes = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next());
        line.and_then(|text| text.parse::<u64>().ok()).unwrap_or(0) << 10
    };
    // utime and stime, in hundredths of a second on every Linux of today.
    Taken {
        cpu: Duration::from_millis(10 * (ticks(11) + ticks(12))),
        peak_bytes: bytes("VmHWM:"),
        resident_bytes: bytes("VmRSS:"),
    }
}

fn parent(pid: u32) -> Option<u32> {
    stat(pid).get(1)?.parse().ok()
}

/// The fields of `/proc/PID/stat` behind the name, which may hold anything.
fn stat(pid: u32) -> Vec<String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let rest = text.rsplit_once(')').map(|(_, rest)| rest).unwrap_or_default();
    rest.split_whitespace().map(str::to_owned).collect()
}

/// Below Valgrind a million keys take their time.
const READY_WITHIN: Duration = Duration::from_secs(600);
const ENDED_WITHIN: Duration = Duration::from_secs(60);
const FIRST_LINES: usize = 1_000;
const LAST_LINES: usize = 50;

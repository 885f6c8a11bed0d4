//! Clients of every kind that must notice nothing while the processes behind their address change, and their upstream.

use std::io::{self, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::harness::calls::{Dechunk, bearer, generate, poll, submit, task};
use crate::harness::message::{Message, read_body, read_head};
use crate::harness::reached::reached_after;
use crate::harness::{PATIENCE, Upstream, answer, eventually, let_pass, message};

/// Makes tasks that run for ever, and answers the rest: with a stream of events, an echo, or at once.
pub(crate) fn upstream() -> Upstream {
    let made = AtomicUsize::new(0);
    Upstream::start(move |request, stream| {
        let line = request.start_line().to_owned();
        if request.field("upgrade").is_some() {
            echo(stream);
            false
        } else if line.contains("video-synthesis") {
            let id = format!("t-{}", made.fetch_add(1, Ordering::Relaxed));
            stream.write_all(&task(&id, "PENDING")).is_ok()
        } else if let Some((_, id)) = line.split_once("/tasks/") {
            stream.write_all(&task(id.split(' ').next().unwrap_or_default(), "RUNNING")).is_ok()
        } else if request.text() == "stream" {
            events(stream, EVENTS).is_ok()
        } else if request.text() == "endless" {
            events(stream, usize::MAX).is_ok()
        } else {
            stream.write_all(&answer("200 OK", &[], "{}")).is_ok()
        }
    })
}

fn echo(stream: &mut TcpStream) {
    let head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
    stream.write_all(head.as_bytes()).expect("written");
    let mut bytes = [0; 16];
    while let Ok(read @ 1..) = stream.read(&mut bytes) {
        if stream.write_all(&bytes[..read]).is_err() {
            return;
        }
    }
}

fn events(stream: &mut TcpStream, count: usize) -> io::Result<()> {
    stream.write_all(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
    )?;
    for _ in 0..count {
        stream.write_all(b"8\r\ndata:1\n\n\r\n")?;
        let_pass(BETWEEN_EVENTS);
    }
    stream.write_all(b"0\r\n\r\n")
}

/// A connection that returns every fault as an error.
pub(crate) struct RawConnection(pub(crate) BufReader<TcpStream>);

impl RawConnection {
    pub(crate) fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self(BufReader::new(stream)))
    }

    pub(crate) fn head(&mut self, request: &str) -> io::Result<Message> {
        self.0.get_mut().write_all(request.as_bytes())?;
        read_head(&mut self.0)?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    pub(crate) fn ask(&mut self, request: &str) -> io::Result<Message> {
        let mut answer = self.head(request)?;
        read_body(&mut answer, &mut self.0, false);
        Ok(answer)
    }
}

/// True when the task is the tenant's. An unknown task is `UNKNOWN`; the status of a known one depends on the poll
/// budget.
pub(crate) fn is_known(polled: &Message) -> bool {
    polled.status() == 200
        && ["PENDING", "RUNNING"].map(Some).contains(&polled.json()["output"]["task_status"].as_str())
}

/// Observations of the clients, over all processes.
#[derive(Default)]
pub(crate) struct ClientCounts {
    stop: AtomicBool,
    fresh: AtomicUsize,
    kept: AtomicUsize,
    pub(crate) closes: AtomicUsize,
    tasks: AtomicUsize,
    streams: AtomicUsize,
    tunnels: AtomicUsize,
    /// Answers that the database is away, where replicas may say so for a moment.
    away: Option<AtomicUsize>,
}

impl ClientCounts {
    /// Clients of replicas: one without processor time may say that the database is away, and is asked again.
    pub(crate) fn of_replicas() -> Self {
        Self { away: Some(AtomicUsize::default()), ..Self::default() }
    }

    /// Number of the answers that the database is away.
    pub(crate) fn away(&self) -> usize {
        self.away.as_ref().map_or(0, |away| away.load(Ordering::Relaxed))
    }

    /// The answer to a request about a task, which needs the store.
    fn reached(&self, mut ask: impl FnMut() -> Message) -> Message {
        let Some(counted) = &self.away else { return ask() };
        let (got, away) = reached_after(ask);
        counted.fetch_add(away, Ordering::Relaxed);
        got
    }

    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    pub(crate) fn counts(&self) -> [usize; 6] {
        [&self.fresh, &self.kept, &self.closes, &self.tasks, &self.streams, &self.tunnels]
            .map(|count| count.load(Ordering::Relaxed))
    }

    /// Runs three clients of each kind while the work is done.
    pub(crate) fn during(&self, address: SocketAddr, work: impl FnOnce()) {
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| self.fresh(address));
                scope.spawn(|| self.kept(address));
                scope.spawn(|| self.tasks(address));
                scope.spawn(|| self.streams(address));
                scope.spawn(|| self.tunnels(address));
            }
            let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
            self.stop.store(true, Ordering::Relaxed);
            done.expect("all work");
        });
    }

    /// Waits until a client of each kind has been served anew. Closes are no kind.
    pub(crate) fn wait_for_each_kind(&self) {
        let before = self.counts();
        eventually("all kinds of clients are served", || {
            let now = self.counts();
            now.iter().zip(before).enumerate().all(|(at, (now, before))| at == 2 || *now > before)
        });
    }

    /// Sends each request on a new connection.
    fn fresh(&self, address: SocketAddr) {
        while self.goes_on() {
            let got = RawConnection::open(address).and_then(|mut line| line.ask(&generate("{}")));
            assert_eq!(got.expect("an answer").status(), 200);
            self.fresh.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Sends requests on one connection for as long as the gateway keeps it open.
    fn kept(&self, address: SocketAddr) {
        let mut line = RawConnection::open(address).expect("a connection");
        while self.goes_on() {
            let got = line.ask(&generate("{}")).expect("an answer");
            assert_eq!(got.status(), 200, "{}", got.head);
            self.kept.fetch_add(1, Ordering::Relaxed);
            if got.field("connection").as_deref() == Some("close") {
                self.closes.fetch_add(1, Ordering::Relaxed);
                line = RawConnection::open(address).expect("a connection");
            }
        }
    }

    /// Submits tasks, and checks that each is known at once, in every process.
    fn tasks(&self, address: SocketAddr) {
        let mut kept = RawConnection::open(address).expect("a connection");
        while self.goes_on() {
            let made = self.reached(|| {
                let made = kept.ask(&submit()).expect("an answer");
                if made.field("connection").as_deref() == Some("close") {
                    kept = RawConnection::open(address).expect("a connection");
                }
                made
            });
            assert_eq!(made.status(), 200, "{}{}", made.head, made.text());
            let id = made.json()["output"]["task_id"].as_str().expect("an id").to_owned();
            let got = self.reached(|| {
                RawConnection::open(address).and_then(|mut line| line.ask(&poll(&id))).expect("an answer")
            });
            assert!(is_known(&got), "{id}: {}{}", got.head, got.text());
            self.tasks.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn streams(&self, address: SocketAddr) {
        while self.goes_on() {
            let mut line = RawConnection::open(address).expect("a connection");
            assert_eq!(line.head(&generate("stream")).expect("a head").status(), 200);
            let mut whole = Vec::new();
            Dechunk::new(&mut line.0).read_to_end(&mut whole).expect("a whole stream");
            assert_eq!(whole.len(), EVENTS * 8);
            self.streams.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn tunnels(&self, address: SocketAddr) {
        while self.goes_on() {
            let mut line = RawConnection::open(address).expect("a connection");
            let fields =
                [&*bearer(), "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"];
            let request = message("GET /api-ws/v1/realtime?model=m", &fields, "");
            assert_eq!(line.head(&request).expect("a head").status(), 101);
            for _ in 0..EVENTS {
                line.0.get_mut().write_all(b"ping").expect("sent");
                let mut echo = [0; 4];
                line.0.read_exact(&mut echo).expect("an echo");
                let_pass(BETWEEN_EVENTS);
            }
            self.tunnels.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Number of events of a stream, and of messages of a tunnel, which so takes some two seconds.
const EVENTS: usize = 40;
const BETWEEN_EVENTS: Duration = Duration::from_millis(50);

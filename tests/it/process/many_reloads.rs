//! Reloads under load, every fifth with a broken file: no request fails, every fault is logged with its place, and the
//! last good configuration stays.

use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::reloads::swap;
use super::{Process, program};
use crate::harness::calls::{bearer, check_refusal, generate, poll, submit, task};
use crate::harness::gateway::administer;
use crate::harness::{
    Client, Message, OTHER_KEY, TENANT_KEY, Upstream, answer, client, configuration, eventually, message,
};

/// Number of reloads, if not 20.
const RELOADS: &str = "DASHGATE_RELOADS";

/// The load that runs during all reloads.
struct BackgroundLoad {
    stop: Arc<AtomicBool>,
    threads: Vec<(&'static str, JoinHandle<usize>)>,
}

/// Calls until it is stopped, and counts the answers.
type Work = fn(SocketAddr, &AtomicBool) -> usize;

impl BackgroundLoad {
    fn start(address: SocketAddr) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let kinds: [(&'static str, Work); 4] =
            [("polls", polls), ("submits", submits), ("streams", streams), ("socket messages", messages)];
        let start = |(name, work): (&'static str, Work)| {
            let stop = Arc::clone(&stop);
            (name, thread::spawn(move || work(address, &stop)))
        };
        Self { threads: kinds.map(start).into(), stop }
    }

    /// Number of answers of each kind. A call without an answer panics.
    fn end(self) -> Vec<(&'static str, usize)> {
        self.stop.store(true, Ordering::Relaxed);
        self.threads
            .into_iter()
            .map(|(name, thread)| (name, thread.join().unwrap_or_else(|_| panic!("{name} failed"))))
            .collect()
    }
}

/// Calls until it is stopped, with a pause between two calls for small machines.
fn until(stop: &AtomicBool, mut call: impl FnMut()) -> usize {
    let mut count = 0;
    while !stop.load(Ordering::Relaxed) {
        call();
        count += 1;
        thread::sleep(Duration::from_millis(5));
    }
    count
}

fn polls(address: SocketAddr, stop: &AtomicBool) -> usize {
    let mut client = Client::connect(address);
    let made = client.ask(submit());
    let id = made.json()["output"]["task_id"].as_str().expect("an id").to_owned();
    until(stop, || {
        let got = client.ask(poll(&id));
        assert_eq!(
            (got.status(), &got.json()["output"]["task_status"]),
            (200, &"RUNNING".into()),
            "{}",
            got.text()
        );
    })
}

fn submits(address: SocketAddr, stop: &AtomicBool) -> usize {
    let mut client = Client::connect(address);
    until(stop, || {
        let got = client.ask(submit());
        assert_eq!(got.status(), 200, "{}", got.text());
    })
}

fn streams(address: SocketAddr, stop: &AtomicBool) -> usize {
    until(stop, || {
        let got = client::once(address, generate("stream"));
        assert_eq!((got.status(), got.complete, got.chunks.len()), (200, true, EVENTS), "{}", got.text());
    })
}

fn messages(address: SocketAddr, stop: &AtomicBool) -> usize {
    let mut client = Client::connect(address);
    let fields = [&*bearer(), "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"];
    client.send(message("GET /api-ws/v1/inference", &fields, ""));
    assert_eq!(client.head().status(), 101);
    until(stop, || {
        client.send("ping");
        assert_eq!(client.bytes(4), b"ping");
    })
}

const EVENTS: usize = 10;

fn upstream() -> Upstream {
    let tasks = AtomicUsize::new(0);
    Upstream::start(move |request, stream| {
        let line = request.start_line();
        if line.contains("/api-ws/") {
            let head =
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
            let _ = stream.write_all(head.as_bytes());
            let mut other = stream.try_clone().expect("a clone");
            let _ = std::io::copy(stream, &mut other);
            return false;
        }
        if request.text() == "stream" {
            return stream_events(stream).is_ok();
        }
        let body = if line.contains("video-synthesis") {
            task(&format!("t-{}", tasks.fetch_add(1, Ordering::Relaxed)), "PENDING")
        } else if let Some((_, rest)) = line.split_once("GET /api/v1/tasks/") {
            task(rest.split(' ').next().unwrap_or_default(), "RUNNING")
        } else {
            answer("200 OK", &[], "{}")
        };
        stream.write_all(&body).is_ok()
    })
}

fn stream_events(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
    for _ in 0..EVENTS {
        stream.write_all(b"9\r\ndata: x\n\n\r\n")?;
        thread::sleep(Duration::from_millis(20));
    }
    stream.write_all(b"0\r\n\r\n")
}

/// A configuration in which every reloadable setting changes with the number; a key of this number identifies it.
fn numbered(upstream: SocketAddr, number: usize) -> String {
    let server = format!(
        "listen = \"127.0.0.1:0\"\nworkers = 2\nauth_failures_per_second = 0\nmax_body_bytes = {}",
        1_000_000 + number
    );
    let upstream_key = format!("sk-upstream-{}", number % 3);
    let spare = [format!("sk-spare-{number}")];
    let main = ("main", upstream, &[&*upstream_key][..], "");
    let spare = ("spare", upstream, &[&*spare[0]][..], "weight = 0");
    let accounts = if number.is_multiple_of(2) { vec![main] } else { vec![main, spare] };
    let tenant = format!("limits.concurrent_requests = {}", 100 + number);
    configuration(&server, &accounts, &tenant)
        .replace("prefix = \"/wan\"", &format!("prefix = \"/wan-{}\"", number % 4))
        + &format!(
            "[[tenants]]\nname = \"tenant-{number}\"\nkeys = [{{ id = \"key-{number}\", key = {:?} }}]\n\
             [[tenants]]\nname = \"slow\"\nkeys = [{{ id = \"slow-key\", key = \"{SLOW_KEY}\" }}]\n\
             limits = {{ requests_per_second = 0.001, burst = 3 }}\n",
            key(number)
        )
}

const SLOW_KEY: &str = "sk-tenant-slow-51d0c2b7a9e3";

fn key(number: usize) -> String {
    format!("sk-tenant-numbered-{number:06}")
}

fn call(address: SocketAddr, key: &str) -> Message {
    client::once(address, generate("{}").replace(TENANT_KEY, key))
}

/// Way in which the gateway learns of a new file.
#[derive(Debug, Clone, Copy)]
enum NoticeOfFile {
    /// A rename replaces the file, and the admin API is asked to reload.
    Asked,
    /// The file is written in place, and a signal is sent.
    Signal,
    /// A link is swapped as Kubernetes swaps a ConfigMap, without a signal.
    Swap,
}

fn bring(mount: &Path, text: &str, way: NoticeOfFile, version: usize, process: &Process, admin: SocketAddr) {
    let file = mount.join("dashgate.toml");
    match way {
        NoticeOfFile::Asked => {
            let real = fs::canonicalize(&file).expect("a file");
            fs::write(real.with_extension("new"), text).expect("written");
            fs::rename(real.with_extension("new"), &real).expect("renamed");
            administer(admin, "POST /admin/reload", "");
        }
        NoticeOfFile::Signal => {
            fs::write(&file, text).expect("written");
            process.signal("HUP");
        }
        NoticeOfFile::Swap => swap(mount, &format!("..{version}"), &[("dashgate.toml", text)]),
    }
}

#[test]
fn no_request_fails_through_many_reloads_and_every_broken_file_is_told() {
    let reloads = std::env::var(RELOADS).map_or(20, |count| count.parse().expect("a number"));
    let upstream = upstream();
    let folder = tempfile::tempdir().expect("a folder");
    let mount = folder.path().join("config");
    fs::create_dir(&mount).expect("a folder");
    swap(&mount, "..start", &[("dashgate.toml", &numbered(upstream.address, 0))]);
    let mut process = Process::start(program(folder.path()).args(["serve", "-c", "config/dashgate.toml"]));
    let (address, admin) = (process.address(), process.admin_address());
    for _ in 0..3 {
        assert_eq!(call(address, SLOW_KEY).status(), 200);
    }
    let load = BackgroundLoad::start(address);
    let (began, mut last, mut broken, mut slowest) = (Instant::now(), 0, Vec::new(), Duration::ZERO);
    for number in 1..=reloads {
        let way =
            [NoticeOfFile::Asked, NoticeOfFile::Signal, NoticeOfFile::Swap, NoticeOfFile::Asked][number % 4];
        let good = numbered(upstream.address, number);
        let brought = Instant::now();
        if number.is_multiple_of(5) {
            // The fault is at another place each time.
            let place = good.match_indices('\n').nth(1 + number % 7).map_or(0, |(at, _)| at + 1);
            let fault = format!("{}storm_{number} = 1\n", " ".repeat(number % 9));
            let text = format!("{}{fault}{}", &good[..place], &good[place..]);
            let line = text[..place].lines().count() + 1;
            bring(&mount, &text, way, number, &process, admin);
            let expected = format!("dashgate.toml:{line}:{}: ", number % 9 + 1);
            eventually("it is told", || process.printed().contains(&expected));
            broken.push(expected);
            assert_eq!(call(address, &key(number)).status(), 401);
        } else {
            bring(&mount, &good, way, number, &process, admin);
            eventually("it is in force", || call(address, &key(number)).status() == 200);
            assert!(number == 1 || call(address, &key(last)).status() == 401);
            last = number;
        }
        assert_eq!(call(address, &key(last)).status(), 200, "the last good one stays");
        check_refusal(&call(address, SLOW_KEY), 429, "rate");
        assert_eq!(call(address, OTHER_KEY).status(), 200);
        slowest = slowest.max(brought.elapsed());
    }
    let took = began.elapsed();
    let answered = load.end();
    for (name, count) in &answered {
        assert!(*count > 0, "no {name}");
    }
    process.signal("TERM");
    let (ended, printed) = process.end();
    assert_eq!(ended.code(), Some(0), "{printed}");
    // The watch of the file may notice a broken one before the test asks for its reload, which is then told twice.
    assert!(printed.matches("not reloaded, and nothing changed").count() >= broken.len(), "{printed}");
    println!(
        "{reloads} reloads in {took:.1?}, {} of them broken and told; slowest {slowest:.1?}; answered: {answered:?}",
        broken.len()
    );
}

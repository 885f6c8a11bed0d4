//! The program itself: exit codes, signals, what it prints, and the memory that it takes.

mod access_log;
mod admission;
mod audit;
mod descriptors;
mod diagnostics;
mod egress;
pub(crate) mod kills;
mod many_reloads;
mod memory;
mod online_check;
mod outages;
mod reloads;
mod store_command;
mod systemd;
mod traces;
pub(crate) mod upgrade;

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use crate::harness::calls::{bearer, generate, poll, submit, task};
use crate::harness::ports::free_address;
use crate::harness::secrets;
use crate::harness::{
    Client, Message, OTHER_KEY, TENANT_KEY, UPSTREAM_KEY, Upstream, answer, configuration, eventually,
    message, signal,
};

/// The program with nothing in its environment but what the test sets, in an empty folder.
pub(crate) fn program(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dashgate"));
    command
        .env_clear()
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// A running program and what it has printed.
pub(crate) struct Process {
    pub(crate) child: Child,
    printed: Arc<Mutex<String>>,
    readers: Vec<JoinHandle<()>>,
}

impl Process {
    pub(crate) fn start(command: &mut Command) -> Self {
        Self::start_into(command, Stdio::piped())
    }

    /// Starts the program with its output to a given place instead of a pipe.
    fn start_into(command: &mut Command, output: Stdio) -> Self {
        let mut child = command.stdout(output).spawn().expect("a process");
        let printed = Arc::new(Mutex::new(String::new()));
        let none = || Box::new(std::io::empty()) as Box<dyn std::io::Read + Send>;
        let out = child.stdout.take().map_or_else(none, |out| Box::new(out));
        let err: Box<dyn std::io::Read + Send> = Box::new(child.stderr.take().expect("its errors"));
        let read = |from| {
            let printed = Arc::clone(&printed);
            std::thread::spawn(move || {
                for line in BufReader::new(from).split(b'\n').map_while(Result::ok) {
                    *printed.lock().expect("no panic") += &(String::from_utf8_lossy(&line) + "\n");
                }
            })
        };
        let readers = [out, err].map(read).into();
        Self { child, printed, readers }
    }

    pub(crate) fn printed(&self) -> String {
        self.printed.lock().expect("no panic").clone()
    }

    /// The address in the log line of readiness.
    pub(crate) fn address(&mut self) -> SocketAddr {
        self.address_behind("listening on http://")
    }

    /// The address of the admin listener.
    pub(crate) fn admin_address(&mut self) -> SocketAddr {
        self.address_behind("(admin http://")
    }

    fn address_behind(&mut self, before: &str) -> SocketAddr {
        let mut found = None;
        eventually("it is ready", || {
            let printed = self.printed();
            let ended = self.child.try_wait().expect("a status");
            assert!(ended.is_none(), "it ended with {ended:?}: {printed}");
            found = printed.lines().find_map(|line| {
                let (_, behind) = line.split_once(before)?;
                behind.split([' ', ',']).next()?.parse().ok()
            });
            found.is_some()
        });
        found.expect("an address")
    }

    pub(crate) fn signal(&self, name: &str) {
        assert!(signal(name, &self.child.id().to_string()), "{name} was not sent");
    }

    /// Waits for the end of the program, and returns its output.
    pub(crate) fn end(mut self) -> (ExitStatus, String) {
        let mut status = None;
        eventually("it ends", || {
            status = self.child.try_wait().expect("a status");
            status.is_some()
        });
        for reader in self.readers.drain(..) {
            reader.join().expect("no panic");
        }
        (status.expect("a status"), self.printed())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if !std::thread::panicking() {
            let printed = self.printed();
            assert_eq!(secrets::leak(&printed), None, "the program printed a secret");
        }
    }
}

/// A folder with a configuration for the upstream.
fn configured(upstream: SocketAddr, listen: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let server = format!("listen = {listen:?}\nworkers = 2");
    let text = configuration(&server, &[("main", upstream, &[UPSTREAM_KEY], "")], "");
    std::fs::write(folder.path().join("dashgate.toml"), text).expect("written");
    folder
}

fn nowhere() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 9))
}

#[test]
fn bad_usage_ends_with_64() {
    let folder = tempfile::tempdir().expect("a folder");
    for arguments in
        [&[][..], &["nonsense"], &["serve", "--nonsense"], &["serve", "x"], &["serve"], &["check"]]
    {
        let (status, printed) = Process::start(program(folder.path()).args(arguments)).end();
        assert_eq!(status.code(), Some(64), "{arguments:?}: {printed}");
        assert!(!printed.is_empty() && !printed.contains("panicked"), "{printed}");
    }
    for arguments in [["--help"], ["--version"]] {
        let (status, printed) = Process::start(program(folder.path()).args(arguments)).end();
        assert_eq!(status.code(), Some(0), "{printed}");
    }
}

#[test]
fn a_bad_configuration_ends_with_64_and_says_where() {
    let folder = configured(nowhere(), "127.0.0.1:0");
    let file = folder.path().join("dashgate.toml");
    let text = std::fs::read_to_string(&file).expect("a file") + "[serverr]\nx = 1\n[store]\npaht = \"x\"\n";
    std::fs::write(&file, &text).expect("written");
    let line_of = |what: &str| text.lines().position(|line| line.starts_with(what)).expect("a line") + 1;
    for arguments in [&["serve"][..], &["check"], &["check", "-c", "dashgate.toml"]] {
        let (status, printed) = Process::start(program(folder.path()).args(arguments)).end();
        assert_eq!(status.code(), Some(64), "{printed}");
        for (what, column) in [("[serverr]", 2), ("paht", 1)] {
            let place = format!("dashgate.toml:{}:{column}: ", line_of(what));
            assert!(printed.lines().any(|line| line.starts_with(&place)), "{place} in {printed}");
        }
        assert!(![UPSTREAM_KEY, TENANT_KEY, OTHER_KEY].iter().any(|key| printed.contains(key)), "{printed}");
    }
    let (status, printed) =
        Process::start(program(folder.path()).args(["serve", "-c", "missing.toml"])).end();
    assert_eq!(status.code(), Some(64), "{printed}");
    assert!(printed.contains("missing.toml"), "{printed}");
}

#[test]
fn check_ends_with_0_for_a_good_configuration() {
    let folder = configured(nowhere(), "127.0.0.1:0");
    let (status, printed) = Process::start(program(folder.path()).arg("check")).end();
    assert_eq!(status.code(), Some(0), "{printed}");
    let elsewhere = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("dashgate.toml");
    let mut by_environment = program(elsewhere.path());
    let (status, printed) = Process::start(by_environment.arg("check").env("DASHGATE_CONFIG", file)).end();
    assert_eq!(status.code(), Some(0), "{printed}");
}

#[test]
fn a_port_that_is_taken_ends_with_1() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let taken = listener.local_addr().expect("an address");
    let folder = configured(nowhere(), &taken.to_string());
    let (status, printed) = Process::start(program(folder.path()).arg("serve")).end();
    assert_eq!(status.code(), Some(1), "{printed}");
    assert!(printed.contains(&taken.to_string()), "{printed}");
}

/// A process on port 0 is a trial, which may start without the store. On a named port it must not start: it would serve
/// clients without their tasks.
#[test]
fn a_second_process_over_the_same_store_starts_only_as_a_trial() {
    let folder = configured(nowhere(), "127.0.0.1:0");
    let mut first = Process::start(program(folder.path()).arg("serve"));
    let taken = first.address();
    let mut second = Process::start(program(folder.path()).arg("serve"));
    second.address();
    assert!(second.printed().contains("a restart will forget tasks and keys"), "{}", second.printed());
    let free = free_address();
    assert_ne!(free, taken);
    let other = configured(nowhere(), &free.to_string());
    let config = other.path().join("dashgate.toml").display().to_string();
    let (status, printed) = Process::start(program(folder.path()).args(["serve", "-c", &config])).end();
    assert_eq!(status.code(), Some(1), "{printed}");
    assert!(printed.contains("dashgate.db"), "{printed}");
    first.signal("TERM");
    second.signal("TERM");
    assert_eq!((first.end().0.code(), second.end().0.code()), (Some(0), Some(0)));
}

/// Both would listen with SO_REUSEPORT, and the kernel would share the connections out among them.
#[test]
fn a_second_process_on_the_same_port_ends_with_1() {
    let upstream = Upstream::answering(answer("200 OK", &[], "{}"));
    let folder = configured(upstream.address, "127.0.0.1:0");
    let mut first = Process::start(program(folder.path()).arg("serve"));
    let address = first.address();
    let folder = configured(upstream.address, &address.to_string());
    let (status, printed) = Process::start(program(folder.path()).arg("serve")).end();
    assert_eq!(status.code(), Some(1), "{printed}");
    assert!(printed.contains(&address.to_string()), "{printed}");
    for _ in 0..10 {
        assert_eq!(crate::harness::client::once(address, generate("{}")).status(), 200);
    }
}

#[test]
fn a_signal_drains_and_ends_with_0() {
    for name in ["TERM", "INT"] {
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let wait = Mutex::new(wait);
        let upstream = Upstream::start(move |_, stream| {
            wait.lock().expect("no panic").recv().expect("a word");
            stream.write_all(&answer("200 OK", &[], "late")).is_ok()
        });
        let folder = configured(upstream.address, "127.0.0.1:0");
        let mut process = Process::start(program(folder.path()).arg("serve"));
        let address = process.address();
        let mut client = Client::connect(address);
        client.send(generate("{}"));
        eventually("the request has arrived", || upstream.requests().len() == 1);
        process.signal(name);
        eventually("it has stopped accepting", || std::net::TcpStream::connect(address).is_err());
        go.send(()).expect("heard");
        // The answer may come before the connection's task has learnt of the drain, and then it announces no close.
        assert_eq!(client.answer().text(), "late");
        assert_eq!(client.rest(), b"");
        let (status, printed) = process.end();
        assert_eq!(status.code(), Some(0), "{printed}");
    }
}

#[test]
fn a_sidecar_takes_any_key_or_none() {
    let upstream = Upstream::answering(answer("200 OK", &[], "{}"));
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = program(folder.path());
    command
        .arg("serve")
        .env("DASHSCOPE_API_KEY", UPSTREAM_KEY)
        .env("DASHGATE_LISTEN", "127.0.0.1:0")
        .env("DASHGATE_UPSTREAM_URL", format!("http://{}", upstream.address));
    let mut process = Process::start(&mut command);
    let address = process.address();
    let requests = [
        generate("{}"),
        generate("{}").replace(TENANT_KEY, "sk-anything-at-all"),
        generate("{}").replace(&format!("{}\r\n", bearer()), ""),
        generate("{}").replace(&bearer(), &format!("Authorization: Bearer {UPSTREAM_KEY}")),
    ];
    for request in &requests {
        assert_eq!(crate::harness::client::once(address, request).status(), 200, "{request}");
    }
    let expected = format!("Bearer {UPSTREAM_KEY}");
    let seen: Vec<Message> = upstream.requests();
    assert_eq!(seen.len(), requests.len());
    assert!(seen.iter().all(|seen| seen.field("authorization").as_deref() == Some(&*expected)));
    process.signal("TERM");
    let (status, printed) = process.end();
    assert_eq!(status.code(), Some(0), "{printed}");
    assert!(printed.contains("sidecar") && !printed.contains(UPSTREAM_KEY), "{printed}");
}

#[test]
fn no_secret_is_printed_at_any_level() {
    let upstream = Upstream::start(|request, stream| match &*request.text() {
        "cut" => false,
        "garbage" => stream.write_all(format!("{}\r\n\r\n", request.head).as_bytes()).is_err(),
        "part" => stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\npart").is_err(),
        text if text.contains("wan2.7") => stream.write_all(&task("t-1", "PENDING")).is_ok(),
        _ => stream.write_all(&answer("200 OK", &[&format!("X-Echo: {UPSTREAM_KEY}")], "{}")).is_ok(),
    });
    let folder = configured(upstream.address, "127.0.0.1:0");
    let mut process = Process::start(program(folder.path()).arg("serve").env("RUST_LOG", "trace"));
    let address = process.address();
    let socket =
        message("GET /api-ws/v1/inference", &[&bearer(), "Upgrade: websocket", "Connection: upgrade"], "");
    let in_target = message(&format!("GET /api/v1/tasks/{TENANT_KEY}"), &[&bearer()], "");
    let two = message("POST /api/v1/tokenizer", &[&bearer(), &format!("x-api-key: {OTHER_KEY}")], "{}");
    let broken = generate("{}").replace("Host: gateway", &format!("Host : {TENANT_KEY}"));
    for request in [
        generate("{}"),
        generate("cut"),
        generate("garbage"),
        generate("part"),
        submit(),
        poll("t-1"),
        socket,
        in_target,
        two,
        broken,
        poll("x").replace(TENANT_KEY, OTHER_KEY),
    ] {
        let mut client = Client::connect(address);
        client.send(request);
        client.answer();
    }
    // HTTP/2 has a parser with a log of its own: one HEADERS frame with the key as a literal.
    let mut block = vec![0x82, 0x86, 0x44, 0x0d];
    block.extend_from_slice(b"/api/v1/tasks");
    block.extend_from_slice(&[0x41, 0x01, b'a', 0x0f, 0x08]);
    let value = format!("Bearer {TENANT_KEY}");
    block.push(u8::try_from(value.len()).expect("a short one"));
    block.extend_from_slice(value.as_bytes());
    let mut client = Client::connect(address);
    client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
    client.send([0, 0, u8::try_from(block.len()).expect("a short one"), 1, 5, 0, 0, 0, 1]);
    client.send(block);
    let mut frames = Vec::new();
    while !String::from_utf8_lossy(&frames).contains("request_id") {
        frames.extend(client.bytes(1));
    }
    client.leave();
    process.signal("TERM");
    let (status, printed) = process.end();
    assert_eq!(status.code(), Some(0), "{printed}");
    let is_traced = printed.contains("h2::codec") && printed.contains("\"key_id\":\"one-key\"");
    assert!(is_traced, "nothing was traced: {printed}");
    for key in [UPSTREAM_KEY, TENANT_KEY, OTHER_KEY] {
        let at = printed.find(key);
        assert!(at.is_none(), "{:?}", at.map(|at| &printed[at.saturating_sub(300)..at + key.len()]));
    }
}

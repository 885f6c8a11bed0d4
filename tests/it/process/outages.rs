//! Store outages: new tasks are refused before anything is sent, known tasks go on, the operator
//! reads why, and the outage ends by itself where that is possible.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use dashgate::sim::{RecordedRequest, Simulator, SimulatorOptions};
use rusqlite::Connection;
use serde_json::json;

use super::{Process, program};
use crate::harness::calls::{GENERATION, SYNTHESIS, bearer, poll};
use crate::harness::{
    Client, Envelope, Message, assert_refused, client, configuration, eventually, message, not_run,
};

/// A simulator, and the folder and the store of a gateway before it.
struct Setup {
    simulator: Simulator,
    folder: tempfile::TempDir,
    store: PathBuf,
}

impl Setup {
    fn new() -> Self {
        let options = SimulatorOptions {
            keys: vec!["sk-main".parse().expect("a key")],
            run: Duration::from_secs(24 * 3600),
            submit_rps: Some(u32::MAX),
            query_qps: u32::MAX,
            ..SimulatorOptions::default()
        };
        let simulator = Simulator::start(options).expect("a simulator");
        let account = ("main", simulator.address(), &["sk-main"][..], "query_qps = 100000");
        let text = configuration("listen = \"127.0.0.1:0\"\nworkers = 1", &[account], "");
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir(folder.path().join("disk")).expect("a folder");
        let store = folder.path().join("disk/dashgate.db");
        let text = format!("{text}\n[store]\npath = {store:?}\n");
        fs::write(folder.path().join("dashgate.toml"), text).expect("written");
        Self { simulator, folder, store }
    }

    fn command(&self) -> Command {
        let mut command = program(self.folder.path());
        command.arg("serve");
        command
    }

    fn submits(&self) -> usize {
        self.simulator.requests().iter().filter(|seen| seen.path() == SYNTHESIS).count()
    }
}

/// A running gateway, and every task whose id its client received.
struct StoppableGateway<'a> {
    place: &'a Setup,
    process: Process,
    address: SocketAddr,
    admin: SocketAddr,
    received: BTreeSet<String>,
}

impl<'a> StoppableGateway<'a> {
    fn start(place: &'a Setup, command: Command) -> Self {
        let mut gateway = Self::start_as_is(place, command);
        for _ in 0..5 {
            assert_eq!(gateway.submit().status(), 200);
        }
        assert_eq!(gateway.ready().0, 200);
        gateway
    }

    fn start_as_is(place: &'a Setup, mut command: Command) -> Self {
        let mut process = Process::start(&mut command);
        let address = process.address();
        let printed = process.printed();
        let (_, behind) = printed.split_once("(admin http://").expect("an admin listener");
        let admin = behind.split(',').next().and_then(|text| text.parse().ok()).expect("an address");
        Self { place, process, address, admin, received: BTreeSet::new() }
    }

    fn submit(&mut self) -> Message {
        let body = json!({"model": "wan2.7-t2v", "input": {"prompt": "a cat"}}).to_string();
        let fields = [&*bearer(), "X-DashScope-Async: enable"];
        let got = client::once(self.address, message(&format!("POST {SYNTHESIS}"), &fields, &body));
        if got.status() == 200 {
            self.received.insert(got.json()["output"]["task_id"].as_str().expect("an id").to_owned());
        }
        got
    }

    /// The answer of `/readyz`.
    fn ready(&self) -> (u16, String) {
        let got = client::once(self.admin, message("GET /readyz", &[], ""));
        (got.status(), got.json()["problem"].as_str().unwrap_or_default().to_owned())
    }

    /// Checks during an outage of the store. `words` must be in the reason of `/readyz`.
    fn is_out(&mut self, words: &str) {
        // Tasks that were submitted before the outage was noticed are answered and kept.
        eventually("it is noticed", || self.submit().status() == 503);
        let before = self.place.submits();
        for _ in 0..20 {
            let got = self.submit();
            let received =
                assert_refused(&got, 503, "store_unavailable", "ServiceUnavailable", Envelope::Flat);
            assert!(received.contains("was not submitted"), "{received}");
        }
        assert_eq!(self.place.submits(), before, "a refused submit was sent");
        let policy = message("GET /api/v1/uploads?action=getPolicy&model=wan2.7-i2v", &[&bearer()], "");
        let got = client::once(self.address, policy);
        assert_refused(&got, 503, "store_unavailable", "ServiceUnavailable", Envelope::Flat);
        let is_policy = |seen: &RecordedRequest| seen.path() == "/api/v1/uploads";
        assert!(
            !self.place.simulator.requests().iter().any(is_policy),
            "a policy was asked for that can't be noted"
        );
        let (status, problem) = self.ready();
        assert_eq!(status, 503, "{problem}");
        assert!(problem.starts_with("the store ") && problem.contains(words), "{problem}");
        assert!(problem.contains("new tasks") && problem.contains("are refused"), "{problem}");
        assert!(!problem.contains("dashgate.db") && !problem.contains('/'), "{problem}");
        let line = format!("{} {}", self.place.store.display(), &problem["the store ".len()..]);
        eventually("the operator is told", || self.process.printed().contains(&line));
        self.serves_what_is_known();
    }

    /// Checks polls and lists of every known task, and a call that makes no task.
    fn serves_what_is_known(&self) {
        let mut client = Client::connect(self.address);
        for id in &self.received {
            let got = client.ask(poll(id));
            let status = got.json()["output"]["task_status"].as_str().expect("a status").to_owned();
            assert!(["PENDING", "RUNNING"].contains(&&*status), "{id}: {}", got.text());
        }
        let got = client.ask(message("GET /api/v1/tasks?page_size=100", &[&bearer()], ""));
        assert_eq!(got.json()["total"], self.received.len());
        let body = r#"{"model":"qwen-plus","input":{"messages":[{"role":"user","content":"hi"}]}}"#;
        let got = client.ask(message(&format!("POST {GENERATION}"), &[&bearer()], body));
        assert_eq!(got.status(), 200, "{}", got.text());
        let live = client::once(self.admin, message("GET /livez", &[], ""));
        assert_eq!(live.status(), 200, "a restart would help nobody");
    }

    /// Checks that the gateway works after the outage without help.
    fn is_back(&mut self) {
        eventually("it can be written again", || self.ready().0 == 200);
        assert_eq!(self.submit().status(), 200);
        // The log tells of it a moment after the store takes changes.
        eventually("the operator is told", || self.process.printed().contains("can be written again"));
        self.serves_what_is_known();
    }

    /// Kills the gateway, and checks that the next one knows every task whose id the client received.
    fn has_kept_all(mut self) {
        self.process.child.kill().expect("killed");
        let (place, received) = (self.place, self.received);
        self.process.end();
        let mut after = Self::start(place, place.command());
        after.received.extend(received);
        after.serves_what_is_known();
    }

    /// Checks that the gateway does not start over a damaged file, and says why.
    fn refuses_to_start(place: &Setup, words: &str) {
        let (status, printed) = Process::start(&mut place.command()).end();
        assert_eq!(status.code(), Some(1), "{printed}");
        let path = place.store.display().to_string();
        assert!(printed.lines().any(|line| line.contains(&path) && line.contains(words)), "{printed}");
    }
}

#[test]
fn a_full_disk() {
    let place = Setup::new();
    // The gateway has a disk of its own, in a mount namespace of its own.
    let disk = place.store.parent().expect("a folder").to_owned();
    let mut command = Command::new("unshare");
    let mounting = "mount -t tmpfs -o size=4m none \"$0\" && exec \"$@\"";
    command.args(["-rm", "sh", "-c", mounting]).arg(&disk);
    let mut trial = Command::new("unshare");
    trial.args(command.get_args()).arg("true");
    if !trial.status().is_ok_and(|status| status.success()) {
        return not_run("a gateway whose disk is full: this machine lets no process have mounts of its own");
    }
    let serve = place.command();
    command.arg(serve.get_program()).args(serve.get_args()).current_dir(place.folder.path());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut gateway = StoppableGateway::start(&place, command);
    let inside = PathBuf::from(format!("/proc/{}/root{}", gateway.process.child.id(), disk.display()));
    let ballast = inside.join("ballast");
    let mut file = File::create(&ballast).expect("a file");
    while file.write_all(&[7; 4_096]).is_ok() {}
    drop(file);
    gateway.is_out("its disk is full");
    fs::remove_file(&ballast).expect("removed");
    gateway.is_back();
    // The disk vanishes with the process, so its files are copied first.
    gateway.process.signal("STOP");
    for name in ["dashgate.db", "dashgate.db-wal"] {
        fs::copy(inside.join(name), disk.join(name)).expect("copied");
    }
    gateway.has_kept_all();
}

/// A gateway that starts on a full disk does all that needs no writing. Its predecessor has ended well, or was killed and
/// had used up its reserve.
#[test]
fn a_start_on_a_full_disk() {
    for ends_well in [true, false] {
        let place = Setup::new();
        let disk = place.store.parent().expect("a folder").to_owned();
        let StoppableGateway { mut process, received, .. } = StoppableGateway::start(&place, place.command());
        if ends_well {
            process.signal("TERM");
        } else {
            process.child.kill().expect("killed");
        }
        process.end();
        let saved = place.folder.path().join("saved");
        fs::rename(&disk, &saved).expect("moved");
        fs::create_dir(&disk).expect("a folder");
        let _ = fs::remove_file(saved.join("dashgate.db-handover"));
        if !ends_well {
            fs::remove_file(saved.join("dashgate.db-reserve")).expect("removed");
            fs::remove_file(saved.join("dashgate.db-shm")).expect("removed");
        }
        let mut command = Command::new("unshare");
        let mounting = "mount -t tmpfs -o size=4m none \"$0\" && cp saved/* \"$0\" && \
                        { dd if=/dev/zero of=\"$0/ballast\" bs=4k 2>&-; exec \"$@\"; }";
        command.args(["-rm", "sh", "-c", mounting]).arg(&disk);
        let mut trial = Command::new("unshare");
        trial.args(command.get_args()).arg("true").current_dir(place.folder.path());
        if !trial.status().is_ok_and(|status| status.success()) {
            return not_run("a start on a full disk: this machine lets no process have mounts of its own");
        }
        let serve = place.command();
        command.arg(serve.get_program()).args(serve.get_args()).current_dir(place.folder.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut gateway = StoppableGateway::start_as_is(&place, command);
        gateway.received = received;
        assert_eq!(gateway.submit().status(), 503, "refused from the start on");
        gateway.is_out("its disk is full");
        let inside = format!("/proc/{}/root{}", gateway.process.child.id(), disk.display());
        fs::remove_file(PathBuf::from(inside).join("ballast")).expect("removed");
        gateway.is_back();
    }
}

#[test]
fn a_lock_of_another_process() {
    let place = Setup::new();
    let mut gateway = StoppableGateway::start(&place, place.command());
    // Locks are per process, and this process is not the gateway, so its lock keeps the gateway out.
    let other = Connection::open(&place.store).expect("the file");
    other.execute_batch("BEGIN EXCLUSIVE").expect("a lock");
    gateway.is_out("locked by another program");
    other.execute_batch("COMMIT").expect("no lock");
    gateway.is_back();
    gateway.has_kept_all();
}

#[test]
fn a_file_that_is_cut_short() {
    for (length, words) in [(40 * 1_024, "is damaged"), (0, "is empty")] {
        let place = Setup::new();
        let mut gateway = StoppableGateway::start(&place, place.command());
        for _ in 0..1_100 {
            gateway.submit();
        }
        // A clean end has written all changes into the store's file.
        gateway.process.signal("TERM");
        let StoppableGateway { process, received, .. } = gateway;
        process.end();
        let backup = fs::read(&place.store).expect("the file");
        let cut = || File::options().write(true).open(&place.store).and_then(|file| file.set_len(length));
        let mut gateway = StoppableGateway::start(&place, place.command());
        gateway.received.extend(received.clone());
        cut().expect("cut");
        // Only the operator can repair the file, and the reason says how.
        gateway.is_out("restore a backup");
        gateway.process.child.kill().expect("killed");
        gateway.process.end();
        fs::write(&place.store, &backup).expect("written");
        for suffix in ["-wal", "-shm"] {
            let _ = fs::remove_file(format!("{}{suffix}", place.store.display()));
        }
        cut().expect("cut");
        StoppableGateway::refuses_to_start(&place, words);
        fs::write(&place.store, &backup).expect("written");
        let mut gateway = StoppableGateway::start(&place, place.command());
        gateway.received.extend(received);
        gateway.serves_what_is_known();
    }
}

//! Ways to start an upgrade: by a new process or by a signal. An upgrade that fails changes nothing, and keys and the
//! new configuration hold after it.

use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::clients::{RawConnection, upstream};
use super::{place, serve, take_over};
use crate::harness::calls::{Dechunk, generate};
use crate::harness::gateway::CONFIG_FILE;
use crate::harness::{ADMIN_TOKEN, OTHER_KEY, PATIENCE, TENANT_KEY, client, eventually, message, signal};
use crate::process::{Process, program};

#[test]
fn where_none_runs_it_starts_as_usual() {
    let folder = place(upstream().address);
    let mut process = take_over(folder.path());
    process.address();
    process.signal("TERM");
    assert_eq!(process.end().0.code(), Some(0));
}

/// With a bad configuration, or a port that another process has, the old process goes on, and the next try may succeed.
#[test]
fn an_upgrade_that_fails_changes_nothing() {
    let upstream = upstream();
    let folder = place(upstream.address);
    let mut old = serve(folder.path());
    let address = old.address();
    let good = std::fs::read_to_string(folder.path().join(CONFIG_FILE)).expect("a file");
    let other = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let elsewhere = good.replacen("127.0.0.1:0", &other.local_addr().expect("an address").to_string(), 1);
    for (text, code, expected) in
        [(good.replace("[admin]", "[adminn]"), 64, "unknown key `adminn`"), (elsewhere, 1, "can't listen on")]
    {
        std::fs::write(folder.path().join(CONFIG_FILE), text).expect("written");
        let (status, printed) = take_over(folder.path()).end();
        assert_eq!(status.code(), Some(code), "{printed}");
        assert!(printed.contains(expected), "{printed}");
        assert_eq!(client::once(address, generate("{}")).status(), 200);
    }
    std::fs::write(folder.path().join(CONFIG_FILE), &good).expect("written");
    let mut next = take_over(folder.path());
    assert_eq!(next.address(), address);
    assert_eq!(old.end().0.code(), Some(0));
    assert_eq!(client::once(address, generate("{}")).status(), 200);
}

/// With systemd the service starts its own successor, and tells systemd the new main process.
#[test]
fn a_signal_has_the_program_started_again() {
    let upstream = upstream();
    let folder = place(upstream.address);
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let heard = || {
        let mut buffer = [0; 256];
        let length = socket.recv(&mut buffer).expect("a message");
        String::from_utf8_lossy(&buffer[..length]).trim_end().to_owned()
    };
    let mut old = Process::start(program(folder.path()).arg("serve").env("NOTIFY_SOCKET", &path));
    let address = old.address();
    assert_eq!(heard(), "READY=1");
    old.signal("USR2");
    let process = heard().strip_prefix("MAINPID=").expect("who it is now").to_owned();
    assert_eq!(heard(), "READY=1");
    assert_ne!(process, old.child.id().to_string());
    eventually("the old one has ended", || old.child.try_wait().expect("a status").is_some());
    assert_eq!(client::once(address, generate("{}")).status(), 200);
    let proc = PathBuf::from(format!("/proc/{process}"));
    assert!(signal("TERM", &process));
    assert_eq!(heard(), "STOPPING=1");
    eventually("the new one has ended", || !proc.exists());
    let (status, printed) = old.end();
    assert_eq!(status.code(), Some(0), "{printed}");
    assert_eq!(printed.matches("ready: listening on").count(), 2, "{printed}");
}

/// More or fewer workers, other keys: the new configuration holds, and no socket is left without a worker.
#[test]
fn the_new_process_has_a_configuration_of_its_own() {
    let upstream = upstream();
    let folder = place(upstream.address);
    let mut running = serve(folder.path());
    let address = running.address();
    let text = std::fs::read_to_string(folder.path().join(CONFIG_FILE)).expect("a file");
    for (workers, key) in
        [(4, "sk-new-key-0123456789"), (1, "sk-newer-key-0123456789"), (3, "sk-newest-0123456789")]
    {
        let new = text.replace("workers = 2", &format!("workers = {workers}")).replace(TENANT_KEY, key);
        std::fs::write(folder.path().join(CONFIG_FILE), new).expect("written");
        let mut next = take_over(folder.path());
        assert_eq!(next.address(), address);
        assert_eq!(std::mem::replace(&mut running, next).end().0.code(), Some(0));
        for _ in 0..20 {
            assert_eq!(client::once(address, generate("{}").replace(TENANT_KEY, key)).status(), 200);
        }
    }
}

/// The stream ends at the deadline and not before.
#[test]
fn a_stream_that_goes_on_and_on_is_cut_at_the_deadline() {
    let upstream = upstream();
    let folder = place(upstream.address);
    let file = folder.path().join(CONFIG_FILE);
    let text = std::fs::read_to_string(&file).expect("a file").replace("drain = \"20s\"", "drain = \"1s\"");
    std::fs::write(&file, text).expect("written");
    let mut old = serve(folder.path());
    let mut line = RawConnection::open(old.address()).expect("a connection");
    assert_eq!(line.head(&generate("endless")).expect("a head").status(), 200);
    let began = Instant::now();
    let mut new = take_over(folder.path());
    new.address();
    let cut = std::io::copy(&mut Dechunk::new(&mut line.0), &mut std::io::sink());
    assert!(cut.is_err() && began.elapsed() >= Duration::from_secs(1), "{cut:?} after {:?}", began.elapsed());
    let (status, printed) = old.end();
    assert_eq!(status.code(), Some(0), "{printed}");
    assert!(printed.contains("what still runs is cut cut=1"), "{printed}");
}

/// A key made or revoked in one process holds in both.
#[test]
fn keys_hold_in_both_processes() {
    let upstream = upstream();
    let folder = place(upstream.address);
    let mut old = serve(folder.path());
    let (address, admin) = (old.address(), old.admin_address());
    let mut lines: Vec<RawConnection> =
        (0..3).map(|_| RawConnection::open(address).expect("a connection")).collect();
    let made = |admin, id: &str| {
        let token = format!("Authorization: Bearer {ADMIN_TOKEN}");
        let body = format!(r#"{{"tenant":"two","id":"{id}"}}"#);
        let request = message("POST /admin/keys", &[&token, "Content-Type: application/json"], &body);
        let made = client::once(admin, request);
        assert_eq!(made.status(), 201, "{}", made.text());
        made.json()["key"].as_str().expect("a key").to_owned()
    };
    let before = made(admin, "before");
    let with = |key: &str| generate("{}").replace(TENANT_KEY, key);
    for line in &mut lines {
        assert_eq!(line.ask(&with(OTHER_KEY)).expect("an answer").status(), 200);
    }
    let mut new = take_over(folder.path());
    assert_eq!((new.address(), new.admin_address()), (address, admin));
    eventually("the old one hands over", || old.printed().contains("has taken over"));
    let after = made(admin, "after");
    assert_eq!(client::once(address, with(&before)).status(), 200, "made before the upgrade");
    let mut old_line = lines.pop().expect("a connection");
    assert_eq!(
        old_line.ask(&with(&after)).expect("an answer").status(),
        200,
        "made after it, used at the old one"
    );
    let token = format!("Authorization: Bearer {ADMIN_TOKEN}");
    for id in ["before", "after"] {
        let revoked = client::once(admin, message(&format!("DELETE /admin/keys/{id}"), &[&token], ""));
        assert_eq!(revoked.status(), 200, "{}", revoked.text());
    }
    for (line, key) in lines.iter_mut().zip([&before, &after]) {
        assert_eq!(line.ask(&with(key)).expect("an answer").status(), 401, "revoked at the new one");
    }
    assert_eq!(old.end().0.code(), Some(0));
}

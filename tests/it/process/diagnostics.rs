//! Diagnostics of the real program: a reader that stops reading holds nothing up.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, ErrorKind, PipeWriter, Write};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::process::Stdio;

use serde_json::Value;

use super::{Process, configured, nowhere, program};
use crate::harness::calls::generate;
use crate::harness::gateway::administer;
use crate::harness::{Client, Upstream, client, eventually, message, signal};

/// Fills the pipe. The descriptor is opened anew, so that only its own writes don't wait.
fn fill(pipe: &PipeWriter) {
    let path = format!("/proc/self/fd/{}", pipe.as_raw_fd());
    let without_waiting =
        OpenOptions::new().write(true).custom_flags(rustix::fs::OFlags::NONBLOCK.bits() as i32).open(path);
    let mut file: File = without_waiting.expect("the pipe");
    for piece in [4096, 1] {
        let error = std::iter::repeat_with(|| file.write_all(&vec![b'x'; piece])).find_map(Result::err);
        assert_eq!(error.expect("it is full in the end").kind(), ErrorKind::WouldBlock);
    }
}

#[test]
fn a_full_standard_error_holds_nothing_up() {
    let upstream = Upstream::start(|_, _| false);
    let folder = configured(upstream.address, "127.0.0.1:0");
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let mut command = program(folder.path());
    let held = writer.try_clone().expect("the same pipe");
    let mut gateway =
        command.arg("serve").stdout(Stdio::null()).stderr(Stdio::from(writer)).spawn().expect("a process");
    drop(command);
    let mut lines = BufReader::new(reader).lines().map_while(Result::ok);
    let ready = lines.find(|line| line.contains("ready:")).expect("it is ready");
    let address = |before: &str| -> SocketAddr {
        let (_, behind) = ready.split_once(before).expect("an address");
        behind.split([' ', ',']).next().and_then(|address| address.parse().ok()).expect("an address")
    };
    let (address, admin) = (address("listening on http://"), address("(admin http://"));
    fill(&held);
    // Each call is lost on its way, which the gateway says on standard error.
    for _ in 0..20 {
        assert_eq!(Client::connect(address).ask(generate("{}")).status(), 502);
    }
    assert_eq!(client::once(admin, message("GET /livez", &[], "")).status(), 200);
    assert!(signal("TERM", &gateway.id().to_string()));
    eventually("it ends", || gateway.try_wait().expect("a status").is_some_and(|status| status.success()));
}

/// The lines of a process; each is an object of JSON until the file asks for text.
#[test]
fn diagnostics_are_json_where_the_file_says_so() {
    let folder = configured(nowhere(), "127.0.0.1:0");
    let file = folder.path().join("dashgate.toml");
    let text = std::fs::read_to_string(&file).expect("a file");
    let log = |format: &str| format!("{text}\n[log]\naccess = \"off\"\ndiagnostics = \"{format}\"\n");
    std::fs::write(&file, log("json")).expect("written");
    let process = Process::start(program(folder.path()).arg("serve"));
    eventually("it is ready", || process.printed().contains("\"message\":\"ready: "));
    let objects = || -> Vec<Value> {
        process
            .printed()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}")))
            .collect()
    };
    let ready = objects()
        .into_iter()
        .find(|line| line["message"].as_str().is_some_and(|text| text.starts_with("ready: ")));
    let ready = ready.expect("a line");
    assert!(
        ready["level"] == "INFO" && ready["timestamp"].as_str().is_some_and(|at| at.ends_with('Z')),
        "{ready}"
    );
    let (_, behind) =
        ready["message"].as_str().expect("text").split_once("(admin http://").expect("an address");
    let admin: SocketAddr = behind.split(',').next().expect("an address").parse().expect("an address");
    assert_eq!(administer(admin, "POST /admin/keys", r#"{"tenant":"one","id":"k1"}"#).status(), 201);
    std::fs::write(&file, log("no such format")).expect("written");
    assert_eq!(administer(admin, "POST /admin/reload", "").status(), 422);
    let has = |name: &str, value: &str| objects().iter().any(|line| line[name] == value);
    eventually("the changes are told", || has("action", "reload"));
    let lines = objects();
    let audit = lines.iter().find(|line| line["action"] == "create_key").expect("a line");
    for (name, value) in [("target", "audit"), ("key_id", "k1"), ("outcome", "done"), ("message", "changed")]
    {
        assert_eq!(audit[name], value, "{audit}");
    }
    assert!(
        lines
            .iter()
            .any(|line| line["level"] == "ERROR" && line["message"].to_string().contains("log.diagnostics")),
        "{lines:#?}"
    );
    // A reload takes effect at once.
    std::fs::write(&file, log("text")).expect("written");
    assert_eq!(administer(admin, "POST /admin/reload", "").status(), 200);
    assert_eq!(administer(admin, "DELETE /admin/keys/k1", "").status(), 200);
    eventually("a line is text", || process.printed().contains(" audit: changed action=\"revoke_key\""));
    process.signal("TERM");
    process.end();
}

//! Diagnostics of the real program: a reader that stops reading holds nothing up.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, ErrorKind, PipeWriter, Write};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::process::Stdio;

use super::{configured, program};
use crate::harness::calls::generate;
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

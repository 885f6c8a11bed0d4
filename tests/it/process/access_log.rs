//! Access log of the real program: every line is on standard output before the program ends, and a reader that is gone
//! or never reads holds nothing up.

use std::process::Stdio;

use super::{Process, configured, program};
use crate::harness::calls::{generate, submit};
use crate::harness::{Client, Upstream, answer, client, eventually, message};

fn upstream() -> Upstream {
    Upstream::answering(answer("200 OK", &[], "{}"))
}

#[test]
fn every_line_is_out_before_the_program_ends() {
    let upstream = upstream();
    let folder = configured(upstream.address, "127.0.0.1:0");
    let mut gateway = Process::start(program(folder.path()).arg("serve"));
    let mut client = Client::connect(gateway.address());
    for _ in 0..200 {
        assert_eq!(client.ask(generate("{}")).status(), 200);
    }
    gateway.signal("TERM");
    let (status, printed) = gateway.end();
    assert_eq!(status.code(), Some(0), "{printed}");
    let lines = printed.lines().filter(|line| line.starts_with("{\"time\":\""));
    let lines: Vec<serde_json::Value> = lines.map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines.len(), 200, "{printed}");
    assert!(lines.iter().all(|line| line["operation"] == "service" && line["tenant"] == "one"));
}

#[test]
fn a_reader_that_is_gone_or_never_reads_holds_nothing_up() {
    let upstream = upstream();
    let folder = configured(upstream.address, "127.0.0.1:0");
    for is_gone in [false, true] {
        // The pipe's other end is held and never read, or closed.
        let (reader, writer) = std::io::pipe().expect("a pipe");
        let held = (!is_gone).then(|| reader.try_clone().expect("the other end"));
        drop(reader);
        let mut command = program(folder.path());
        command.arg("serve");
        let mut gateway = Process::start_into(&mut command, Stdio::from(writer));
        drop(command);
        let mut client = Client::connect(gateway.address());
        let admin = gateway.admin_address();
        for _ in 0..300 {
            assert_eq!(client.ask(generate("{}")).status(), 200);
        }
        assert_eq!(client.ask(submit()).status(), 200);
        if is_gone {
            eventually("what nobody gets is counted", || {
                let page = client::once(admin, message("GET /metrics", &[], "")).text();
                let line = page.lines().find(|line| line.starts_with("dashgate_access_log_dropped_total "));
                line.is_some_and(|line| line.ends_with(" 301"))
            });
        }
        gateway.signal("TERM");
        let (status, printed) = gateway.end();
        assert_eq!(status.code(), Some(0), "{printed}");
        assert_eq!(printed.contains("the access log misses lines"), is_gone, "{printed}");
        drop(held);
    }
}

//! Killed at any instant, the program forgets no task that a client was told of.

use std::io::{BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Process, configured, program};
use crate::harness::calls::{poll, submit, task};
use crate::harness::message::{read_body, read_head};
use crate::harness::{Client, OTHER_KEY, PATIENCE, TENANT_KEY, Upstream, eventually};

const CLIENTS: usize = 8;

#[test]
fn no_task_that_a_client_was_told_of_is_lost() {
    let kills = std::env::var("DASHGATE_KILLS").map_or(10, |kills| kills.parse().expect("a number"));
    let issued = AtomicUsize::new(0);
    let upstream = Upstream::start(move |request, stream| {
        let id = match request.start_line().split("/tasks/").nth(1) {
            Some(rest) => rest.split(' ').next().unwrap_or_default().to_owned(),
            None => format!("t-{}", issued.fetch_add(1, Ordering::Relaxed)),
        };
        stream.write_all(&task(&id, "RUNNING")).is_ok()
    });
    let folder = configured(upstream.address, "127.0.0.1:0");
    let mut told = Vec::new();
    for round in 0..kills {
        let mut process = Process::start(program(folder.path()).arg("serve"));
        let address = process.address();
        // A different moment in each round, without a clock: after so many answers.
        let enough = 1 + round * 37 % 211;
        let now = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..CLIENTS {
                scope.spawn(|| {
                    while let Some(id) = submitted(address) {
                        now.lock().expect("no panic").push(id);
                    }
                });
            }
            eventually("enough tasks were told of", || now.lock().expect("no panic").len() >= enough);
            process.child.kill().expect("killed");
        });
        process.end();
        told.append(&mut now.into_inner().expect("no panic"));
    }
    let mut process = Process::start(program(folder.path()).arg("serve"));
    let mut client = Client::connect(process.address());
    for id in &told {
        let status = |answer: serde_json::Value| answer["output"]["task_status"].as_str().map(str::to_owned);
        assert_eq!(status(client.ask(poll(id)).json()).as_deref(), Some("RUNNING"), "{id} of {}", told.len());
        let strangers = poll(id).replace(TENANT_KEY, OTHER_KEY);
        assert_eq!(status(client.ask(strangers).json()).as_deref(), Some("UNKNOWN"));
    }
    println!("{kills} kills, {} tasks told of, none lost", told.len());
}

/// Submits a task; `None` once the gateway is gone.
fn submitted(address: SocketAddr) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.write_all(submit().as_bytes()).ok()?;
    let mut reader = BufReader::new(stream);
    let mut answer = read_head(&mut reader).ok()??;
    read_body(&mut answer, &mut reader, false);
    let id = answer.complete.then(|| answer.json()["output"]["task_id"].as_str().map(str::to_owned));
    id.flatten()
}

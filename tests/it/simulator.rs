//! The simulator answers over real sockets as DashScope does: the other tests rely on it.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

pub(crate) mod bill;
mod faults;
mod oss;
mod streams;
mod tasks;
mod websocket;
mod wire;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use dashgate::sim::{Simulator, SimulatorOptions};
use serde_json::{Value, json};

fn start(options: SimulatorOptions) -> Simulator {
    Simulator::start(options).unwrap()
}

/// Polls until the condition holds.
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < end, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
    /// The connection ended before the body did.
    cut: bool,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    fn header(&self, name: &str) -> Option<&str> {
        let named =
            |line: &&str| line.split_once(':').is_some_and(|(known, _)| known.eq_ignore_ascii_case(name));
        self.head.lines().find(named).map(|line| line.split_once(':').unwrap().1.trim())
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

/// Sends a whole request on a connection of its own and reads to its end.
fn ask(address: SocketAddr, request: &str) -> Answer {
    let mut stream = connect(address);
    stream.write_all(request.as_bytes()).unwrap();
    read_answer(&mut stream)
}

fn read_answer(stream: &mut TcpStream) -> Answer {
    let mut bytes = Vec::new();
    let mut failed = false;
    let mut buffer = [0; 64 << 10];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => bytes.extend_from_slice(&buffer[..count]),
            Err(_) => {
                failed = true;
                break;
            }
        }
    }
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
    let Some(end) = end else {
        return Answer { status: 0, head: String::new(), body: bytes, cut: true };
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let mut answer = Answer { status, head, body: bytes[end + 4..].to_vec(), cut: failed };
    if answer.header("transfer-encoding").is_some() {
        (answer.body, answer.cut) = dechunked(&answer.body);
    } else if let Some(length) =
        answer.header("content-length").map(|length| length.parse::<usize>().unwrap())
    {
        answer.cut |= answer.body.len() < length;
    }
    answer
}

fn dechunked(mut bytes: &[u8]) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    while let Some(line) = bytes.windows(2).position(|window| window == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&bytes[..line]).unwrap(), 16).unwrap();
        bytes = &bytes[line + 2..];
        if size == 0 {
            return (body, false);
        }
        body.extend_from_slice(&bytes[..size.min(bytes.len())]);
        if bytes.len() < size + 2 {
            break;
        }
        bytes = &bytes[size + 2..];
    }
    (body, true)
}

fn get(simulator: &Simulator, key: &str, path: &str) -> Answer {
    let head = format!(
        "GET {path} HTTP/1.1\r\nhost: sim\r\nconnection: close\r\nauthorization: Bearer {key}\r\n\r\n"
    );
    ask(simulator.address(), &head)
}

fn post(simulator: &Simulator, key: &str, path: &str, headers: &str, body: &Value) -> Answer {
    let body = body.to_string();
    ask(
        simulator.address(),
        &format!(
            "POST {path} HTTP/1.1\r\nhost: sim\r\nconnection: close\r\nauthorization: Bearer {key}\r\n\
             {headers}content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        ),
    )
}

const ASYNC: &str = "X-DashScope-Async: enable\r\n";
const SYNTHESIS: &str = "/api/v1/services/aigc/video-generation/video-synthesis";
const GENERATION: &str = "/api/v1/services/aigc/text-generation/generation";

fn image_to_video() -> Value {
    json!({
        "model": "wan2.7-i2v",
        "input": {"prompt": "a cat", "media": [{"type": "first_frame", "url": "https://example.com/a.png"}]},
        "parameters": {"resolution": "720P", "duration": 5},
    })
}

/// Submits a video task and gives its id.
fn submit(simulator: &Simulator, key: &str) -> String {
    let answer = post(simulator, key, SYNTHESIS, ASYNC, &image_to_video());
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["output"]["task_id"].as_str().unwrap().to_owned()
}

fn query(simulator: &Simulator, key: &str, id: &str) -> Value {
    let answer = get(simulator, key, &format!("/api/v1/tasks/{id}"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

//! Scripted faults of the simulator: the effect of each on an answer.

use std::io::Read;
use std::time::Duration;

use dashgate::sim::{FaultAction, ScriptedFault, Simulator, SimulatorOptions};

use super::{ASYNC, Answer, SYNTHESIS, connect, get, image_to_video, post, start};

const TASK: &str = "/api/v1/tasks/x";

fn under(act: FaultAction) -> (Simulator, Answer) {
    let simulator = start(SimulatorOptions::default());
    simulator.fault(ScriptedFault::on("GET /api/v1/tasks/*", act).times(1));
    let answer = get(&simulator, "sk-1", TASK);
    assert_eq!(get(&simulator, "sk-1", TASK).status, 200, "the fault is over");
    (simulator, answer)
}

#[test]
fn errors_are_answered_in_the_envelope() {
    let busy = FaultAction::Status { status: 503, code: "ServiceUnavailable".into(), message: "busy".into() };
    let simulator = start(SimulatorOptions::default());
    simulator.fault(ScriptedFault::on("*", busy).header("retry-after", "7").delay(Duration::from_millis(1)));
    let answer = get(&simulator, "sk-1", TASK);
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("7")));
    assert_eq!(answer.json()["code"], "ServiceUnavailable");
    let answer = post(&simulator, "sk-1", "/compatible-mode/v1/chat/completions", "", &image_to_video());
    assert_eq!(answer.json()["error"]["message"], "busy");
}

#[test]
fn connections_end_without_an_answer() {
    for act in [FaultAction::Close, FaultAction::Reset, FaultAction::Lose] {
        let (_, answer) = under(act.clone());
        assert!(answer.cut && answer.status == 0, "{act:?}");
        assert!(answer.body.is_empty());
    }
    let (_, garbage) = under(FaultAction::Garbage);
    assert!(garbage.status == 0 && garbage.head.contains("not HTTP"));
}

#[test]
fn a_lost_answer_was_to_a_request_that_took_effect() {
    let simulator = start(SimulatorOptions::default());
    simulator.fault(ScriptedFault::on("POST *", FaultAction::Lose));
    assert_eq!(post(&simulator, "sk-1", SYNTHESIS, ASYNC, &image_to_video()).status, 0);
    assert_eq!(simulator.tasks().len(), 1);
}

#[test]
fn bodies_are_cut_and_lengths_lie() {
    let (_, whole) = under(FaultAction::Answer);
    for reset in [false, true] {
        let (simulator, answer) = under(FaultAction::Truncate { after: 10, reset });
        assert_eq!((answer.status, answer.cut), (200, true));
        assert!(answer.body.len() <= 10, "an RST may take what was sent along");
        assert!(!simulator.requests()[0].closed_early, "it was not the client who left");
    }
    let (_, longer) = under(FaultAction::WrongLength(5));
    assert!(longer.cut && longer.body.len() == whole.body.len());
    let (_, shorter) = under(FaultAction::WrongLength(-5));
    assert_eq!(shorter.header("content-length"), Some((whole.body.len() - 5).to_string().as_str()));
    assert_eq!(shorter.body.len(), whole.body.len());
    let (_, slow) = under(FaultAction::Slow { bytes: 40, every: Duration::from_millis(1) });
    assert_eq!((slow.body.len(), slow.cut), (whole.body.len(), false));
}

#[test]
fn a_connection_hangs_up_after_a_whole_answer() {
    let simulator = start(SimulatorOptions::default());
    simulator.fault(ScriptedFault::on("*", FaultAction::HangUp));
    // The request has no `connection: close`, so the connection ends only because the simulator hangs up.
    let head = "authorization: Bearer sk-1\r\n\r\n";
    let answer = super::ask(simulator.address(), &format!("GET {TASK} HTTP/1.1\r\nhost: s\r\n{head}"));
    assert_eq!((answer.status, answer.cut, answer.header("connection")), (200, false, None));
    let body = serde_json::json!({"model": "qwen-plus", "input": {"prompt": "hi"}});
    let stream = post(&simulator, "sk-1", super::GENERATION, "X-DashScope-SSE: enable\r\n", &body);
    assert_eq!((stream.status, stream.cut), (200, false));
}

#[test]
fn a_stream_is_cut_inside_a_chunk() {
    let simulator = start(SimulatorOptions::default());
    simulator.fault(ScriptedFault::on("POST *", FaultAction::Truncate { after: 100, reset: false }));
    let body = serde_json::json!({"model": "qwen-plus", "input": {"prompt": "hi"}});
    let answer = post(&simulator, "sk-1", super::GENERATION, "X-DashScope-SSE: enable\r\n", &body);
    assert!(answer.cut && answer.body.starts_with(b"id:1\nevent:result\n"));
    assert_eq!(answer.body.len(), 100);
}

#[test]
fn silence_lasts_until_the_client_gives_up() {
    for act in [FaultAction::Silence, FaultAction::Stall { after: 4 }] {
        let simulator = start(SimulatorOptions::default());
        simulator.fault(ScriptedFault::on("GET *", act));
        let mut stream = connect(simulator.address());
        stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let head = format!("GET {TASK} HTTP/1.1\r\nhost: s\r\nauthorization: Bearer sk-1\r\n\r\n");
        std::io::Write::write_all(&mut stream, head.as_bytes()).unwrap();
        let mut bytes = Vec::new();
        let timed_out = stream.read_to_end(&mut bytes).unwrap_err();
        assert_eq!(timed_out.kind(), std::io::ErrorKind::WouldBlock);
        drop(stream);
        super::eventually("the connection is gone", || simulator.connections() == 0);
    }
}

#[test]
fn an_early_answer_does_not_wait_for_the_body() {
    let simulator = start(SimulatorOptions::default());
    let busy = FaultAction::Status { status: 429, code: "Throttling".into(), message: "slow down".into() };
    simulator.fault(ScriptedFault::on("POST *", busy).early());
    let mut stream = connect(simulator.address());
    let head = format!("POST {SYNTHESIS} HTTP/1.1\r\nhost: s\r\ncontent-length: 1000000\r\n\r\n{{");
    std::io::Write::write_all(&mut stream, head.as_bytes()).unwrap();
    let mut bytes = [0; 12];
    stream.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"HTTP/1.1 429");
}

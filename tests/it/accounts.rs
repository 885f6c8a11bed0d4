//! Accounts: a submit goes to a fit account, every later call on its task to that account, and an ambiguous submit is
//! never sent twice.

mod errors;
mod late_model;
mod retry_after;
mod rotation;
mod unreachable;

use std::collections::HashMap;
use std::io::Write;
use std::time::{Duration, Instant};

use dashgate::sim::{
    FaultAction, RecordedRequest, ScriptedFault, SimulatedListener, Simulator, SimulatorOptions,
    ThrottledShare, ThrottlingKind,
};
use serde_json::json;

use crate::harness::{Client, Gateway, Message, PATIENCE, TENANT_KEY, Upstream, answer, eventually, message};

const SYNTHESIS: &str = "/api/v1/services/aigc/video-generation/video-synthesis";
const GENERATION: &str = "/api/v1/services/aigc/text-generation/generation";

/// A simulator of one account with these keys.
fn simulator(keys: &[&str]) -> Simulator {
    let keys = keys.iter().map(|key| key.parse().expect("a key")).collect();
    let options = SimulatorOptions {
        keys,
        submit_rps: Some(u32::MAX),
        query_qps: u32::MAX,
        ..SimulatorOptions::default()
    };
    // Tasks stay PENDING, and can be canceled, for as long as a test takes.
    let options = SimulatorOptions { pending: Some(PATIENCE), ..options };
    Simulator::start(options).expect("a simulator")
}

/// Three simulators of one account each, with a key named like the account, and a gateway before them.
fn three() -> (Gateway, [Simulator; 3]) {
    let simulators = ["sk-east", "sk-west", "sk-north"].map(|key| simulator(&[key]));
    let [east, west, north] = [0, 1, 2].map(|index| simulators[index].address());
    let gateway = Gateway::pooled(&[
        ("east", east, &["sk-east"], ""),
        ("west", west, &["sk-west"], ""),
        ("north", north, &["sk-north"], ""),
    ]);
    (gateway, simulators)
}

fn throttled(kind: ThrottlingKind) -> Option<ThrottledShare> {
    Some(ThrottledShare { kind, rate: 1.0 })
}

fn body(model: &str) -> String {
    json!({
        "model": model,
        "input": {"prompt": "a cat", "media": [{"type": "first_frame", "url": "https://example.com/a.png"}]},
        "parameters": {"resolution": "720P", "duration": 5},
    })
    .to_string()
}

fn submit_of(body: &str) -> String {
    let fields = [
        &format!("Authorization: Bearer {TENANT_KEY}"),
        "X-DashScope-Async: enable",
        "Content-Type: application/json",
    ];
    message(&format!("POST {SYNTHESIS}"), &fields, body)
}

fn submit(gateway: &Gateway) -> Message {
    gateway.ask(submit_of(&body("wan2.7-i2v")))
}

fn chat(gateway: &Gateway) -> Message {
    let fields = [&format!("Authorization: Bearer {TENANT_KEY}"), "Content-Type: application/json"];
    let body = r#"{"model":"qwen-plus","input":{"messages":[{"role":"user","content":"hi"}]}}"#;
    gateway.ask(message(&format!("POST {GENERATION}"), &fields, body))
}

fn call(gateway: &Gateway, line: &str) -> Message {
    gateway.ask(message(line, &[&format!("Authorization: Bearer {TENANT_KEY}")], ""))
}

fn task_id(answer: &Message) -> String {
    assert_eq!(answer.status(), 200, "{}", answer.text());
    answer.json()["output"]["task_id"].as_str().expect("a task").to_owned()
}

fn submits(simulator: &Simulator) -> Vec<RecordedRequest> {
    simulator.requests().into_iter().filter(|seen| seen.path() == SYNTHESIS).collect()
}

fn queries(simulator: &Simulator) -> Vec<RecordedRequest> {
    simulator.requests().into_iter().filter(|seen| seen.path().starts_with("/api/v1/tasks/")).collect()
}

fn wait_seconds(answer: &Message) -> u64 {
    answer.field("retry-after").expect("retry-after").parse().expect("seconds")
}

#[test]
fn new_tasks_are_shared_by_weight_and_keep_their_account() {
    let simulators = ["sk-east", "sk-west", "sk-north"].map(|key| simulator(&[key]));
    let [east, west, north] = [0, 1, 2].map(|index| simulators[index].address());
    let gateway = Gateway::pooled(&[
        ("east", east, &["sk-east"], "weight = 3"),
        ("west", west, &["sk-west"], ""),
        ("north", north, &["sk-north"], "weight = 0"),
    ]);
    let ids: Vec<String> = (0..40).map(|_| task_id(&submit(&gateway))).collect();
    let counts = [0, 1, 2].map(|index| submits(&simulators[index]).len());
    assert!((28..=32).contains(&counts[0]) && counts[0] + counts[1] == 40 && counts[2] == 0, "{counts:?}");
    for id in &ids {
        let got = call(&gateway, &format!("GET /api/v1/tasks/{id}"));
        assert_eq!(got.json()["output"]["task_status"], "PENDING", "{}", got.text());
        assert_eq!(call(&gateway, &format!("POST /api/v1/tasks/{id}/cancel")).status(), 200);
    }
    for (simulator, count) in simulators.iter().zip(counts) {
        let known: Vec<String> = simulator.tasks().into_iter().map(|task| task.id).collect();
        assert_eq!(known.len(), count);
        assert!(queries(simulator).len() >= 2 * count);
        // The gateway asks by itself, too, and a query that has only begun has no status yet.
        assert!(queries(simulator).iter().all(|seen| seen.status.is_none_or(|status| status == 200)));
    }
}

#[test]
fn one_throttled_one_overdue_one_with_a_dead_key_and_every_submit_succeeds() {
    let (east, west, north) =
        (simulator(&["sk-east"]), simulator(&["main=sk-west"]), simulator(&["sk-live"]));
    east.throttle(throttled(ThrottlingKind::RateQuota));
    west.set_overdue("main", true);
    let gateway = Gateway::pooled(&[
        ("east", east.address(), &["sk-east"], ""),
        ("west", west.address(), &["sk-west"], ""),
        ("north", north.address(), &["sk-dead", "sk-live"], ""),
    ]);
    let ids: Vec<String> = (0..30).map(|_| task_id(&submit(&gateway))).collect();
    // East and west were asked once each, and then rested.
    assert_eq!(submits(&east).iter().map(|seen| seen.status).collect::<Vec<_>>(), [Some(429)]);
    assert_eq!(submits(&west).iter().map(|seen| seen.status).collect::<Vec<_>>(), [Some(400)]);
    let mut by_key = HashMap::<_, usize>::new();
    for seen in submits(&north) {
        *by_key.entry((seen.key.unwrap_or_default(), seen.status)).or_default() += 1;
    }
    let expected = [(("sk-dead".to_owned(), Some(401)), 1), (("sk-live".to_owned(), Some(200)), 30)];
    assert_eq!(by_key, HashMap::from(expected));
    for id in &ids {
        assert_eq!(
            call(&gateway, &format!("GET /api/v1/tasks/{id}")).json()["output"]["task_id"],
            id.as_str()
        );
    }
    assert_eq!([&east, &west].map(|simulator| queries(simulator).len()), [0, 0]);
    assert!(
        queries(&north).len() == 30
            && queries(&north).iter().all(|seen| seen.key.as_deref() == Some("sk-live"))
    );
}

#[test]
fn every_kind_of_throttling_sends_a_submit_elsewhere() {
    for kind in ThrottlingKind::ALL {
        let (gateway, [east, west, north]) = three();
        east.throttle(throttled(kind));
        for _ in 0..12 {
            task_id(&submit(&gateway));
        }
        assert_eq!(submits(&east).len(), 1, "{kind:?}");
        assert_eq!(submits(&west).len() + submits(&north).len(), 12, "{kind:?}");
        // Limits are counted by model, bills by account.
        east.throttle(None);
        for _ in 0..12 {
            assert_eq!(chat(&gateway).status(), 200);
        }
        let is_bill = matches!(
            kind,
            ThrottlingKind::CommodityNotPurchased
                | ThrottlingKind::PrepaidBillOverdue
                | ThrottlingKind::PostpaidBillOverdue
        );
        assert_eq!(east.requests().iter().any(|seen| seen.path() == GENERATION), !is_bill, "{kind:?}");
    }
}

#[test]
fn with_all_out_the_client_gets_429_and_the_time_to_wait() {
    let (gateway, simulators) = three();
    for simulator in &simulators {
        simulator.throttle(throttled(ThrottlingKind::BurstRate));
    }
    // The client gets the last account's own answer; the other two were asked before it.
    let own = submit(&gateway);
    assert_eq!((own.status(), own.json()["code"].as_str()), (429, Some("Throttling.BurstRate")));
    assert_eq!((own.field("x-dashgate-reason"), wait_seconds(&own)), (None, 5));
    let ours = submit(&gateway);
    assert_eq!((ours.status(), ours.json()["code"].as_str()), (429, Some("Throttling.RateQuota")));
    assert_eq!(ours.field("x-dashgate-reason").as_deref(), Some("accounts_out"));
    assert!((1..=5).contains(&wait_seconds(&ours)));
    assert_eq!(simulators.each_ref().map(|simulator| submits(simulator).len()), [1, 1, 1]);
    // Another model is another limit.
    let other = gateway.ask(submit_of(&body("wan2.6-i2v")));
    assert_eq!((other.status(), other.field("x-dashgate-reason")), (429, None));
}

#[test]
fn with_all_overdue_the_client_is_not_told_whose_bill_it_is() {
    let (gateway, simulators) = three();
    for simulator in &simulators {
        simulator.set_overdue("main", true);
    }
    let got = submit(&gateway);
    assert_eq!((got.status(), got.json()["code"].as_str()), (429, Some("Throttling.RateQuota")));
    assert!((50..=60).contains(&wait_seconds(&got)));
    assert!(!got.text().contains("standing"));
}

#[test]
fn an_account_comes_back_by_one_probe() {
    let (gateway, [east, west, north]) = three();
    let refusal = |times| {
        ScriptedFault::on(&format!("POST {SYNTHESIS}"), FaultAction::Throttle(ThrottlingKind::RateQuota))
            .times(times)
            .header("retry-after", "1")
    };
    // Two refusals: of the first submit, and of the first probe.
    east.fault(refusal(2));
    west.set_overdue("main", true);
    north.set_overdue("main", true);
    let first = submit(&gateway);
    assert_eq!(first.status(), 429);
    assert_eq!(submits(&east).len(), 1);
    let began = Instant::now();
    eventually("the probe is sent", || {
        assert_eq!(submit(&gateway).status(), 429);
        submits(&east).len() == 2
    });
    assert!(began.elapsed() > Duration::from_millis(900));
    // The next probe is slow, and no other request passes meanwhile.
    east.fault(
        ScriptedFault::on(&format!("POST {SYNTHESIS}"), FaultAction::Answer).delay(Duration::from_secs(2)),
    );
    let mut clients = Vec::new();
    eventually("the second probe is on its way", || {
        let mut client = Client::connect(gateway.address);
        client.send(submit_of(&body("wan2.7-i2v")));
        clients.push(client);
        std::thread::sleep(Duration::from_millis(30));
        submits(&east).len() == 3
    });
    for _ in 0..5 {
        let meanwhile = submit(&gateway);
        assert_eq!(
            (meanwhile.status(), meanwhile.field("x-dashgate-reason").as_deref()),
            (429, Some("accounts_out"))
        );
    }
    assert_eq!(submits(&east).len(), 3);
    let answers = clients.iter_mut().map(Client::answer);
    assert_eq!(answers.filter(|answer| answer.status() == 200).count(), 1);
    east.clear_faults();
    for _ in 0..5 {
        task_id(&submit(&gateway));
    }
    assert_eq!(submits(&east).len(), 8);
}

#[test]
fn what_is_ambiguous_is_never_sent_again() {
    for act in [
        FaultAction::Lose,
        FaultAction::Reset,
        FaultAction::Close,
        FaultAction::Garbage,
        FaultAction::Truncate { after: 0, reset: true },
        FaultAction::Status { status: 500, code: "InternalError".into(), message: "no".into() },
        FaultAction::Status { status: 503, code: "ServiceUnavailable".into(), message: "no".into() },
        FaultAction::Status { status: 400, code: "InvalidParameter".into(), message: "no".into() },
        FaultAction::Status { status: 403, code: "AccessDenied".into(), message: "no".into() },
    ] {
        let (gateway, simulators) = three();
        for simulator in &simulators {
            simulator.fault(ScriptedFault::on(&format!("POST {SYNTHESIS}"), act.clone()));
        }
        let got = submit(&gateway);
        assert!(got.status() >= 400 && got.status() != 429, "{act:?}: {}", got.status());
        let sent: usize = simulators.iter().map(|simulator| submits(simulator).len()).sum();
        assert_eq!(sent, 1, "{act:?}");
    }
}

#[test]
fn a_synchronous_call_is_never_sent_again_but_the_next_one_goes_elsewhere() {
    let (gateway, [east, west, north]) = three();
    for simulator in [&west, &north] {
        simulator.set_overdue("main", true);
    }
    let statuses: Vec<u16> = (0..9).map(|_| chat(&gateway).status()).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 400).count(), 2, "{statuses:?}");
    let sent: usize = [&east, &west, &north].map(|simulator| simulator.requests().len()).iter().sum();
    assert_eq!(sent, 9);
}

#[test]
fn the_repeated_body_is_the_same_byte_for_byte() {
    let body = body("wan2.7-i2v").replacen('{', "{ \t", 1).replace("a cat", &"猫 ".repeat(90_000));
    let by_length = submit_of(&body).into_bytes();
    let mut in_chunks =
        submit_of("").replace("\r\n\r\n", "\r\nTransfer-Encoding: chunked\r\n\r\n").into_bytes();
    for chunk in body.as_bytes().chunks(30_001) {
        in_chunks.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        in_chunks.extend_from_slice(chunk);
        in_chunks.extend_from_slice(b"\r\n");
    }
    in_chunks.extend_from_slice(b"0\r\n\r\n");
    for request in [by_length, in_chunks] {
        let (gateway, [east, west, north]) = three();
        for simulator in [&east, &west] {
            simulator.throttle(throttled(ThrottlingKind::RateQuota));
        }
        for _ in 0..4 {
            task_id(&gateway.ask(&request));
        }
        let seen = [&east, &west, &north].map(submits);
        assert_eq!(seen.each_ref().map(Vec::len), [1, 1, 4]);
        assert!(seen.iter().flatten().all(|seen| seen.body_complete && seen.body == body.as_bytes()));
        assert!(seen.iter().flatten().all(|seen| seen.header("x-dashscope-async") == Some("enable")));
    }
}

#[test]
fn a_body_that_is_too_large_to_keep_gets_the_upstreams_answer() {
    let (gateway, simulators) = three();
    for simulator in &simulators {
        simulator.throttle(throttled(ThrottlingKind::RateQuota));
    }
    let large = body("wan2.7-i2v")
        .replace("https://example.com/a.png", &format!("data:image/png;base64,{}", "A".repeat(1 << 20)));
    let got = gateway.ask(submit_of(&large));
    assert_eq!((got.status(), got.field("x-dashgate-reason")), (429, None));
    let sent: usize = simulators.iter().map(|simulator| submits(simulator).len()).sum();
    assert_eq!(sent, 1);
}

#[test]
fn a_query_goes_on_with_another_key_of_the_same_account() {
    let east = simulator(&["sk-old", "sk-new"]);
    let west = simulator(&["sk-west"]);
    let gateway = Gateway::pooled(&[
        ("east", east.address(), &["sk-old", "sk-new"], ""),
        ("west", west.address(), &["sk-west"], "weight = 0"),
    ]);
    let id = task_id(&submit(&gateway));
    // The old key dies.
    let dead = FaultAction::Status {
        status: 401,
        code: "InvalidApiKey".into(),
        message: "Invalid API-key provided.".into(),
    };
    east.fault(ScriptedFault::on("GET /api/v1/tasks/*", dead.clone()).nth(1));
    for _ in 0..5 {
        let got = call(&gateway, &format!("GET /api/v1/tasks/{id}"));
        assert_eq!(got.json()["output"]["task_id"], id.as_str(), "{}", got.text());
    }
    let keys: Vec<_> = queries(&east).into_iter().map(|seen| seen.key.unwrap_or_default()).collect();
    assert_eq!(keys, ["sk-old", "sk-new", "sk-new", "sk-new", "sk-new", "sk-new"]);
    // The new key dies too: polls get the last known state, as every SDK takes an error for the task's end.
    east.fault(ScriptedFault::on("/api/v1/tasks/*", dead));
    let got = call(&gateway, &format!("GET /api/v1/tasks/{id}/"));
    assert_eq!((got.status(), got.json()["output"]["task_id"].as_str()), (200, Some(&*id)), "{}", got.text());
    assert!(got.field("age").is_some(), "{}", got.head);
    east.clear_faults();
    assert_eq!(call(&gateway, &format!("GET /api/v1/tasks/{id}")).status(), 200);
    assert_eq!(queries(&west).len(), 0);
}

#[test]
fn a_throttled_query_is_no_clients_and_stops_no_submit() {
    let (gateway, simulators) = three();
    let id = task_id(&submit(&gateway));
    for simulator in &simulators {
        simulator.fault(ScriptedFault::on(
            "GET /api/v1/tasks/*",
            FaultAction::Throttle(ThrottlingKind::RateQuota),
        ));
    }
    let got = call(&gateway, &format!("GET /api/v1/tasks/{id}"));
    assert_eq!((got.status(), got.json()["output"]["task_id"].as_str()), (200, Some(&*id)), "{}", got.text());
    for _ in 0..6 {
        task_id(&submit(&gateway));
    }
    assert!(simulators.iter().all(|simulator| submits(simulator).len() >= 2));
}

#[test]
fn the_only_account_answers_for_itself() {
    let simulator = simulator(&["sk-east"]);
    let gateway = Gateway::pooled(&[("east", simulator.address(), &["sk-east"], "")]);
    simulator.throttle(throttled(ThrottlingKind::RateQuota));
    for _ in 0..3 {
        let got = submit(&gateway);
        let names = ["x-dashgate-reason", "retry-after"];
        assert_eq!((got.status(), names.map(|name| got.field(name))), (429, [None, None]));
    }
    simulator.throttle(None);
    simulator.set_overdue("main", true);
    assert_eq!(submit(&gateway).json()["code"], "Arrearage");
    simulator.set_overdue("main", false);
    task_id(&submit(&gateway));
    let dead = Gateway::pooled(&[("east", simulator.address(), &["sk-gone"], "")]);
    assert_eq!(submit(&dead).status(), 401);
    assert_eq!(submits(&simulator).iter().filter(|seen| seen.listener == SimulatedListener::Api).count(), 6);
}

#[test]
fn a_refused_handshake_ejects_the_key() {
    let east = simulator(&["sk-live"]);
    let gateway = Gateway::pooled(&[("east", east.address(), &["sk-dead", "sk-live"], "")]);
    let handshake = || {
        let fields = [
            &*format!("Authorization: Bearer {TENANT_KEY}"),
            "Connection: upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        ];
        let mut client = Client::connect(gateway.address);
        client.send(message("GET /api-ws/v1/inference", &fields, ""));
        client.head().status()
    };
    assert_eq!([handshake(), handshake()], [101, 101]);
    let keys: Vec<_> = east.requests().into_iter().map(|seen| seen.key.unwrap_or_default()).collect();
    assert_eq!(keys, ["sk-dead", "sk-live", "sk-live"]);
}

#[test]
fn a_synchronous_call_that_a_dead_key_refused_goes_on_with_the_next_one() {
    let (east, west) = (simulator(&["sk-live"]), simulator(&["sk-west"]));
    let gateway = Gateway::pooled(&[("east", east.address(), &["sk-dead", "sk-live"], "")]);
    assert_eq!([chat(&gateway).status(), chat(&gateway).status()], [200, 200]);
    let asked = |simulator: &Simulator| {
        let seen = simulator.requests().into_iter();
        seen.map(|seen| (seen.key.unwrap_or_default(), seen.status.unwrap_or_default())).collect::<Vec<_>>()
    };
    let [dead, live] = [("sk-dead".to_owned(), 401), ("sk-live".to_owned(), 200)];
    assert_eq!(asked(&east), [dead.clone(), live.clone(), live]);
    assert!(east.requests().windows(2).all(|pair| pair[0].body == pair[1].body));
    // When the account's last key is dead, the call goes to the other account.
    east.clear();
    let accounts: [crate::harness::Account<'_>; 2] =
        [("east", east.address(), &["sk-dead"], "weight = 1000"), ("west", west.address(), &["sk-west"], "")];
    let gateway = Gateway::pooled(&accounts);
    assert_eq!(chat(&gateway).status(), 200);
    assert_eq!((asked(&east), west.requests().len()), (vec![dead], 1));
    // A body too large to keep can't be sent again: the client gets the upstream's answer.
    let gateway = Gateway::pooled(&accounts);
    let body = format!(r#"{{"model":"qwen-plus","x":"{}"}}"#, "x".repeat(20_000));
    let fields = [&format!("Authorization: Bearer {TENANT_KEY}"), "Content-Type: application/json"];
    let got = gateway.ask(message(&format!("POST {GENERATION}"), &fields, &body));
    assert_eq!((got.status(), got.field("x-dashgate-reason"), west.requests().len()), (401, None, 1));
}

#[test]
fn an_error_is_read_through_its_coding_and_passed_on_as_it_came() {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(br#"{"code":"Arrearage","message":"m","request_id":"r"}"#).expect("memory");
    let gzip = gzip.finish().expect("memory");
    let bytes = gzip.clone();
    let overdue = Upstream::start(move |_, stream| {
        let head = format!(
            "HTTP/1.1 400 Bad Request\r\nContent-Type: application/json; charset=utf-8\r\nContent-Encoding: gzip\r\n\
             Content-Length: {}\r\n\r\n",
            bytes.len()
        );
        stream.write_all(&[head.as_bytes(), &bytes].concat()).is_ok()
    });
    let fine =
        Upstream::answering(answer("200 OK", &[], r#"{"output":{"task_id":"t","task_status":"PENDING"}}"#));
    let gateway = Gateway::pooled(&[
        ("overdue", overdue.address, &["sk-a"], ""),
        ("fine", fine.address, &["sk-b"], ""),
    ]);
    for _ in 0..4 {
        task_id(&submit(&gateway));
    }
    assert_eq!((overdue.requests().len(), fine.requests().len()), (1, 4));
    let gateway = Gateway::pooled(&[("overdue", overdue.address, &["sk-a"], "")]);
    let got = submit(&gateway);
    assert_eq!((got.status(), got.body), (400, gzip));
    assert_eq!(got.head.to_ascii_lowercase().matches("content-encoding: gzip").count(), 1);
}

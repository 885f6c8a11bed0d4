//! Faults of an account's own keys and bills: what clients see of them, and what the log says of their end.

use dashgate::sim::{Simulator, ThrottlingKind};

use super::{body, call, chat, queries, simulator, submit, submit_of, submits, task_id, throttled};
use crate::harness::calls::{bearer, check_refusal};
use crate::harness::refusal::{Envelope, assert_refused};
use crate::harness::{Gateway, Message, configuration, logs, message};

const NEUTRAL: &str = "errors = \"neutral\"";
const COMPATIBLE: &str = "/compatible-mode/v1/chat/completions";

/// A gateway with a unified mount beside the usual ones, over one account.
fn gateway(simulator: &Simulator, keys: &[&str], more: &str) -> Gateway {
    let server = "listen = \"127.0.0.1:0\"\nworkers = 1\n[poll]\nmax_age = \"0s\"";
    let native = configuration(server, &[("main", simulator.address(), keys, more)], "");
    Gateway::configured(&format!("{native}\n[[mounts]]\nprefix = \"/unified\"\ndialect = \"unified\"\n"))
}

fn post(gateway: &Gateway, path: &str, body: &str) -> Message {
    gateway.ask(message(&format!("POST {path}"), &[&bearer(), "Content-Type: application/json"], body))
}

fn handshake(gateway: &Gateway) -> Message {
    let fields = [
        &*bearer(),
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ];
    gateway.ask(message("GET /api-ws/v1/inference", &fields, ""))
}

/// Checks that every kind of call is refused without a word of the account.
fn check_neutral(gateway: &Gateway) {
    let native = |answer: &Message| {
        assert_refused(answer, 503, "account_fault", "ServiceUnavailable", Envelope::Flat);
    };
    native(&submit(gateway));
    native(&chat(gateway));
    native(&call(gateway, "GET /api/v1/uploads?action=getPolicy&model=wan2.7-i2v"));
    for answer in [
        post(gateway, COMPATIBLE, r#"{"model":"qwen-plus","messages":[{"role":"user","content":"hi"}]}"#),
        post(gateway, "/unified/videos", r#"{"model":"wan2.7-t2v","prompt":"a cat"}"#),
    ] {
        assert_refused(&answer, 503, "account_fault", "service_unavailable", Envelope::OpenAi);
    }
    let seen = gateway.administer("GET /metrics", "").text();
    assert!(seen.contains(r#"dashgate_rejections_total{reason="account_fault",tenant="one"} 5"#), "{seen}");
}

/// Clients got DashScope's 401 for the gateway's own key, and looked for the fault in theirs.
#[test]
fn a_dead_key_is_the_operators_matter_where_errors_are_neutral() {
    let simulator = simulator(&["sk-other"]);
    let passing = gateway(&simulator, &["sk-dead"], "");
    for answer in [submit(&passing), chat(&passing), handshake(&passing)] {
        assert_eq!(answer.status(), 401, "{}", answer.head);
        assert!(answer.field("x-dashgate-reason").is_none(), "{}", answer.head);
    }
    let neutral = gateway(&simulator, &["sk-dead", "sk-dead-too"], NEUTRAL);
    check_neutral(&neutral);
    check_refusal(&handshake(&neutral), 503, "account_fault");
}

#[test]
fn an_overdue_bill_is_the_operators_matter_where_errors_are_neutral() {
    let simulator = simulator(&["main=sk-live"]);
    simulator.set_overdue("main", true);
    let passing = gateway(&simulator, &["sk-live"], "");
    for answer in [submit(&passing), chat(&passing)] {
        assert_eq!((answer.status(), &answer.json()["code"]), (400, &"Arrearage".into()), "{}", answer.head);
    }
    let neutral = gateway(&simulator, &["sk-live"], NEUTRAL);
    for answer in [submit(&neutral), chat(&neutral)] {
        check_refusal(&answer, 503, "account_fault");
    }
    simulator.set_overdue("main", false);
    assert_eq!(submit(&neutral).status(), 200);
}

#[test]
fn bills_that_come_as_throttling_are_neutral_and_true_throttling_is_not() {
    let simulator = simulator(&["sk-live"]);
    let neutral = gateway(&simulator, &["sk-live"], NEUTRAL);
    simulator.throttle(throttled(ThrottlingKind::RateQuota));
    assert_eq!(submit(&neutral).status(), 429);
    simulator.throttle(throttled(ThrottlingKind::PrepaidBillOverdue));
    check_refusal(&submit(&neutral), 503, "account_fault");
}

#[test]
fn other_keys_and_accounts_are_tried_before_a_neutral_error() {
    let (east, west) = (simulator(&["sk-east"]), simulator(&["sk-west"]));
    let gateway = Gateway::pooled(&[
        ("east", east.address(), &["sk-dead", "sk-east"], NEUTRAL),
        ("west", west.address(), &["sk-west"], NEUTRAL),
    ]);
    let id = task_id(&submit(&gateway));
    west.revoke("sk-west");
    let ids: Vec<String> = (0..6).map(|_| task_id(&submit(&gateway))).collect();
    assert_eq!(ids.len(), 6);
    east.revoke("sk-east");
    // The first answer comes of attempts, the second of the rests that they began.
    for _ in 0..2 {
        check_refusal(&submit(&gateway), 503, "account_fault");
    }
    assert!(!submits(&west).is_empty() && !queries(&east).iter().any(|seen| seen.status == Some(401)));
    let got = call(&gateway, &format!("POST /api/v1/tasks/{id}/cancel"));
    assert_eq!((got.status(), got.field("x-dashgate-reason").as_deref()), (503, Some("no_live_key")));
}

/// The line of the log about this account that holds `words`.
fn logged(account: &str, words: &str) -> Option<String> {
    let log = logs::captured();
    let name = format!("account={account:?}");
    log.lines().find(|line| line.contains(words) && line.contains(&name)).map(str::to_owned)
}

/// The log told that a key or an account rested, and never that it worked again.
#[test]
fn the_log_tells_the_end_of_a_rest_and_the_likely_causes_of_a_refused_key() {
    let simulator = simulator(&["main=sk-live"]);
    let gateway = Gateway::pooled(&[("recovers", simulator.address(), &["sk-live"], "")]);
    let submit = || gateway.ask(submit_of(&body("wan2.7-i2v"))).status();
    assert_eq!(submit(), 200);
    simulator.revoke("sk-live");
    assert_eq!(submit(), 401);
    let line = logged("recovers", "upstream key ejected").expect("a line");
    assert!(line.contains("of another region than that of 127.0.0.1"), "{line}");
    assert_eq!(logged("recovers", "upstream key works again"), None);
    simulator.issue("main=sk-live".parse().expect("a key"));
    assert_eq!(submit(), 200);
    let line = logged("recovers", "upstream key works again").expect("a line");
    assert!(line.contains("INFO") && line.contains("key=1") && line.contains("invalid_key"), "{line}");
    simulator.set_overdue("main", true);
    assert_eq!(submit(), 400);
    simulator.set_overdue("main", false);
    assert_eq!(submit(), 200);
    assert!(logged("recovers", "account works again").expect("a line").contains("arrearage"));
    simulator.throttle(throttled(ThrottlingKind::RateQuota));
    assert_eq!(submit(), 429);
    simulator.throttle(None);
    assert_eq!(submit(), 200);
    assert!(logged("recovers", "account takes a model again").expect("a line").contains("wan2.7-i2v"));
}

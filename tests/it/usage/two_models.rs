//! Bodies that name two models: DashScope reads the last one, so it is paid for, though the first one came alone.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::budgets::{CHAT, configuration, key, poll, upstream};
use super::{SUBMIT, entries};
use crate::harness::{Client, Gateway, Message, let_pass};

/// Sends a body in two writes, with time for the gateway to read the first one alone.
fn ask_in_two(gateway: &Gateway, line: &str, body: [&str; 2]) -> Message {
    let length = body[0].len() + body[1].len();
    let fields = if line == SUBMIT { "X-DashScope-Async: enable\r\n" } else { "" };
    let mut client = Client::connect(gateway.address);
    client.send(format!(
        "{line} HTTP/1.1\r\nHost: gateway\r\n{}\r\n{fields}Content-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n{}",
        key(),
        body[0]
    ));
    let_pass(Duration::from_millis(200));
    client.ask(body[1])
}

const FREE_FIRST: [&str; 2] =
    [r#"{"model":"wan2.2-t2v-plus","id":"good-1","#, r#""model":"wan2.7-t2v","parameters":{"duration":5}}"#];

#[test]
fn a_task_is_paid_for_by_the_last_model() {
    let (upstream, _) = upstream();
    let gateway = Gateway::from_file(&configuration(&upstream, ""));
    assert_eq!(ask_in_two(&gateway, SUBMIT, FREE_FIRST).status(), 200);
    assert_eq!(poll(&gateway, "good-1").field("x-dashgate-cost").as_deref(), Some("5.000000000 CNY"));
    assert_eq!(&*entries(gateway)[0].model, "wan2.7-t2v");
}

#[test]
fn a_call_is_paid_for_by_the_last_model_however_far_behind_it_stands() {
    let (upstream, _) = upstream();
    for tenant in ["", "budgets = [{ amount = \"20\", period = \"month\" }]"] {
        let gateway = Gateway::from_file(&configuration(&upstream, tenant));
        let long = format!(r#"{{"model":"qwen-first","messages":["{}"#, "x".repeat(100_000));
        let answer = ask_in_two(&gateway, CHAT, [&long, r#""],"model":"qwen-last"}"#]);
        assert_eq!(answer.status(), 200);
        assert_eq!(&*entries(gateway)[0].model, "qwen-last");
    }
}

#[test]
fn two_models_are_refused_where_money_is_limited() {
    let (upstream, made) = upstream();
    let budget = "budgets = [{ amount = \"20\", period = \"month\" }]";
    let gateway = Gateway::from_file(&configuration(&upstream, budget));
    let chat = [r#"{"model":"qwen-first","messages":[],"#, r#""m\u006fdel":"qwen-last"}"#];
    for (line, body) in [(SUBMIT, FREE_FIRST), (CHAT, chat)] {
        let answer = ask_in_two(&gateway, line, body);
        assert_eq!(answer.status(), 400, "{}", answer.text());
        assert!(answer.text().contains("`model` could be read in two ways"), "{}", answer.text());
    }
    assert_eq!(made.load(Ordering::Relaxed), 0);
    assert!(upstream.requests().is_empty());
}

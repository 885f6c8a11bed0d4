//! WebSockets of tenants with prices: what a message hides from the meter would be free, so each is read by one strict
//! reader, and each task has the price of its own begin.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, SystemTime};

use dashgate::dashscope::usage::Unit;
use dashgate::store::Entry;
use dashgate::usage::Zone;

use super::socket_money::{assert_closed, entered, open, repeating, run};
use super::sockets::{event, masked, text};
use super::{entries, price, priced};
use crate::harness::{Gateway, Upstream, eventually};
use crate::websocket::{INFERENCE, accepting};

fn configuration(upstream: &Upstream, prices: &[(&str, &str)], tenant: &str) -> String {
    let row = |(amount, more): &(&str, &str)| {
        price("cosyvoice-*", "character", amount, &format!("per = 1000\n{more}"))
    };
    priced(upstream.address, "/", &prices.iter().map(row).collect::<String>(), tenant)
}

fn gateway(upstream: &Upstream) -> Gateway {
    Gateway::from_file(&configuration(upstream, &[("1", "")], ""))
}

/// Answers with `told` once all that was sent is there, and waits for the end.
fn telling(sent: &[Vec<u8>], told: Vec<u8>) -> Upstream {
    let asked: usize = sent.iter().map(Vec::len).sum();
    accepting(move |stream: &mut TcpStream| {
        stream.read_exact(&mut vec![0; asked]).expect("all that was asked");
        stream.write_all(&told).expect("sent");
        let _ = stream.read(&mut [0; 512]);
    })
}

/// Sends messages, reads what is told, and leaves; returns the entries.
fn left(path: &str, sent: &[Vec<u8>], told: &[u8]) -> Vec<Entry> {
    let upstream = telling(sent, told.to_vec());
    let gateway = gateway(&upstream);
    let mut client = open(&gateway, path);
    client.send(sent.concat());
    assert_eq!(client.bytes(told.len()), told);
    drop(client);
    upstream.wait_for_silence();
    entries(gateway)
}

fn amount(entry: &Entry) -> Option<String> {
    entry.charge.amount.as_ref().map(|amount| amount.short())
}

fn finished() -> Vec<u8> {
    event("task-finished", "a", r#"{"usage":{"characters":5000}}"#)
}

#[test]
fn a_model_that_is_written_with_escapes_is_paid_for() {
    let hidden = masked(
        r#"{"header":{"action":"run-task","task_id":"a"},"payload":{"mod\u0065l":"cosyvoice-v2","task":"tts"}}"#,
    );
    let entries = left(INFERENCE, &[hidden], &finished());
    assert_eq!((&*entries[0].model, amount(&entries[0]).as_deref()), ("cosyvoice-v2", Some("5")));
}

#[test]
fn a_task_that_is_written_with_escapes_is_estimated_when_its_client_leaves() {
    let sent = [
        masked(
            r#"{"header":{"action":"run-t\u0061sk","task_id":"a"},"payload":{"model":"cosyvoice-v2","task":"\u0074ts"}}"#,
        ),
        masked(
            r#"{"header":{"action":"continue-t\u0061sk","task_id":"a"},"payload":{"input":{"text":"hello"}}}"#,
        ),
    ];
    let sound = [&event("task-started", "a", "{}")[..], &[0x82, 2, 1, 2]].concat();
    let entries = left(INFERENCE, &sent, &sound);
    assert_eq!(entries[0].units.get(Unit::Character), 5_000);
    assert!(entries[0].flags.is_estimated);
}

#[test]
fn a_second_task_under_the_id_of_a_running_one_changes_nothing() {
    let entries = left(INFERENCE, &[run("cosyvoice-v2"), run("free")], &finished());
    assert_eq!((&*entries[0].model, amount(&entries[0]).as_deref()), ("cosyvoice-v2", Some("5")));
}

#[test]
fn a_response_is_of_the_model_of_its_query_whatever_a_message_says() {
    let done = text(
        r#"{"type":"response.done","response":{"id":"r","status":"completed","usage":{"total_tokens":65536,"input_tokens":0,"output_tokens":65536}}}"#,
    );
    let entries = left("/api-ws/v1/realtime?model=qwen3-omni-flash-realtime", &[run("free")], &done);
    assert_eq!(&*entries[0].model, "qwen3-omni-flash-realtime");
}

#[test]
fn what_can_not_be_read_is_refused() {
    let (upstream, _) = repeating(Vec::new());
    let gateway = gateway(&upstream);
    let doubled =
        r#"{"header":{"action":"run-task","task_id":"a"},"payload":{"model":"free","model":"cosyvoice-v2"}}"#;
    let broken = [&[0x81, 0x83, 0, 0, 0, 0][..], b"{\xff}"].concat();
    let long = [&[0x81, 0xff][..], &70_000_u64.to_be_bytes(), &[0; 4], &[b' '; 70_000]].concat();
    for (sent, reason) in [
        (masked(doubled), "could be read in two ways"),
        (broken, "must be plain JSON"),
        (long, "longer than 64 KiB"),
    ] {
        let mut client = open(&gateway, INFERENCE);
        client.push(sent);
        assert_closed(client, reason);
    }
}

#[test]
fn each_task_of_a_socket_has_the_price_of_its_begin() {
    let (upstream, _) = repeating(finished());
    let gateway = Gateway::from_file(&configuration(&upstream, &[("1", "")], ""));
    // Not before the start and the first task, which take some seconds among replicas and on a busy machine.
    let soon = SystemTime::now() + Duration::from_secs(10);
    let from = format!("from = \"{}\"", Zone::CHINA.moment(soon));
    assert_eq!(gateway.reload(&configuration(&upstream, &[("2", &from), ("1", "")], "")).status(), 200);
    let mut client = open(&gateway, INFERENCE);
    let mut finish = |number: usize| {
        client.send(run("cosyvoice-v2"));
        assert_eq!(client.bytes(finished().len()), finished());
        entered(&gateway, number);
    };
    finish(1);
    eventually("the next price holds", || SystemTime::now() > soon);
    finish(2);
    assert_eq!(gateway.reload(&configuration(&upstream, &[("3", "")], "")).status(), 200);
    finish(3);
    let budget = "budgets = [{ amount = \"30\", period = \"total\" }]";
    assert_eq!(gateway.reload(&configuration(&upstream, &[("3", "")], budget)).status(), 200);
    client.send(run("cosyvoice-v2"));
    assert_closed(client, "The total budget of 30 CNY");
    let amounts: Vec<_> = entries(gateway).iter().map(amount).collect();
    assert_eq!(amounts, ["5", "10", "15"].map(|amount| Some(amount.to_owned())));
}

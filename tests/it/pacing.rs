//! Pacing: submits beyond DashScope's rate wait for their turn, in fair order.

mod running;
mod shares;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use dashgate::sim::{RecordedRequest, Simulator, SimulatorOptions};
use serde_json::json;

use crate::harness::calls::{GENERATION, SYNTHESIS, generate, task};
use crate::harness::{
    Account, Client, Envelope, Gateway, Message, TENANT_KEY, Upstream, assert_refused, configuration,
    eventually, let_pass, message,
};

/// DashScope's own limit of this model is two submits a second, in the gateway as in the simulator.
const MODEL: &str = "wan2.2-t2v-plus";

/// A simulator of one account that takes any key and has DashScope's limits of each model.
fn simulator() -> Simulator {
    Simulator::start(SimulatorOptions { query_qps: u32::MAX, ..SimulatorOptions::default() })
        .expect("a simulator")
}

/// A gateway with this `max_wait`, one worker, and more lines in its accounts and in its first tenant.
fn gateway(upstreams: &[SocketAddr], max_wait: &str, account: &str, tenant: &str) -> Gateway {
    let names: Vec<String> = (0..upstreams.len()).map(|number| format!("a{number}")).collect();
    let accounts: Vec<Account<'_>> = names
        .iter()
        .zip(upstreams)
        .map(|(name, address)| {
            (name.as_str(), *address, &[["sk-one"], ["sk-two"]][(name == "a1") as usize][..], account)
        })
        .collect();
    let server = "listen = \"127.0.0.1:0\"\nworkers = 1";
    let text = configuration(server, &accounts, tenant);
    Gateway::configured(&format!("{text}\n[submit]\nmax_wait = {max_wait:?}\n"))
}

fn submit(key: &str, model: &str, prompt: &str, fields: &[&str]) -> String {
    let body = json!({"model": model, "input": {"prompt": prompt}}).to_string();
    let key = format!("Authorization: Bearer {key}");
    let own = [&*key, "X-DashScope-Async: enable", "Content-Type: application/json"];
    message(&format!("POST {SYNTHESIS}"), &[&own, fields].concat(), &body)
}

/// Sends a request on a connection of its own, from which the test reads the answer later.
fn send(gateway: &Gateway, request: &str) -> Client {
    let mut client = Client::connect(gateway.address);
    client.send(request);
    client
}

/// Waits until the one worker has taken all earlier requests: it has when it has answered later ones.
fn barrier(gateway: &Gateway) {
    for _ in 0..3 {
        let _ = gateway.ask(generate("{}"));
    }
}

/// Submits that the simulator has answered. The body of one that has only begun may be missing.
fn submits(simulator: &Simulator) -> Vec<RecordedRequest> {
    let is_answered = |seen: &RecordedRequest| seen.path() == SYNTHESIS && seen.status.is_some();
    simulator.requests().into_iter().filter(is_answered).collect()
}

fn prompts(simulator: &Simulator) -> Vec<String> {
    let prompt = |seen: RecordedRequest| {
        let body: serde_json::Value = serde_json::from_slice(&seen.body).expect("JSON");
        body["input"]["prompt"].as_str().expect("text").to_owned()
    };
    submits(simulator).into_iter().map(prompt).collect()
}

/// Checks that the upstream refused no submit.
#[track_caller]
fn assert_never_throttled(simulator: &Simulator) {
    let statuses: Vec<Option<u16>> = submits(simulator).into_iter().map(|seen| seen.status).collect();
    assert!(statuses.iter().all(|status| *status == Some(200)), "{statuses:?}");
}

/// Seconds of `retry-after` in the gateway's refusal.
#[track_caller]
fn refused(answer: &Message, limit: &str) -> u64 {
    let message = assert_refused(answer, 429, "paced", "Throttling.RateQuota", Envelope::Flat);
    let expected = "Requests rate limit exceeded, please try again later. The limit is ";
    assert_eq!(message, format!("{expected}{limit}."));
    answer.field("retry-after").expect("retry-after").parse().expect("seconds")
}

#[test]
fn a_burst_waits_and_the_upstream_refuses_none() {
    let simulator = simulator();
    let address = simulator.address();
    let names = [("main", address, &["sk-one"][..], "")];
    let text = configuration("listen = \"127.0.0.1:0\"\nworkers = 2", &names, "");
    let gateway = Gateway::configured(&format!("{text}\n[submit]\nmax_wait = \"60s\"\n"));
    let began = Instant::now();
    let clients: Vec<Client> =
        (0..10).map(|_| send(&gateway, &submit(TENANT_KEY, MODEL, "p", &[]))).collect();
    for mut client in clients {
        let got = client.answer();
        assert_eq!(got.status(), 200, "{}", got.text());
    }
    assert!(began.elapsed() >= Duration::from_secs(4));
    assert_eq!(submits(&simulator).len(), 10);
    assert_never_throttled(&simulator);
}

#[test]
fn who_would_wait_too_long_is_told_when_to_come_again_and_then_succeeds() {
    let simulator = simulator();
    let gateway = gateway(&[simulator.address()], "3s", "", "");
    let request = submit(TENANT_KEY, MODEL, "p", &[]);
    let clients: Vec<Client> = (0..16).map(|_| send(&gateway, &request)).collect();
    let answers: Vec<Message> = clients.into_iter().map(|mut client| client.answer()).collect();
    let waits: Vec<u64> = answers
        .iter()
        .filter(|answer| answer.status() != 200)
        .map(|answer| refused(answer, "2 submits per second of wan2.2-t2v-plus"))
        .collect();
    assert!(!waits.is_empty());
    assert_eq!(submits(&simulator).len(), 16 - waits.len());
    std::thread::scope(|scope| {
        for wait in &waits {
            let (gateway, request) = (&gateway, &request);
            scope.spawn(move || {
                let_pass(Duration::from_secs(*wait));
                let got = gateway.ask(request);
                assert_eq!(got.status(), 200, "after {wait}: {}{}", got.head, got.text());
            });
        }
    });
    assert_never_throttled(&simulator);
}

#[test]
fn a_client_can_ask_for_its_own_patience() {
    let simulator = simulator();
    let address = simulator.address();
    let rule = |rate: &str| format!("pace = [{{ models = [\"*\"], requests_per_second = {rate} }}]");
    let ask = |gateway: &Gateway, fields: &[&str]| gateway.ask(submit(TENANT_KEY, MODEL, "p", fields));
    let impatient = gateway(&[address], "0s", &rule("0.1"), "");
    assert_eq!(ask(&impatient, &[]).status(), 200);
    for fields in [&[][..], &["X-DashScope-Wait-Timeout: 0"], &["X-DashScope-Wait-Timeout: 121"]] {
        let wait = refused(&ask(&impatient, fields), "0.1 submits per second of wan2.2-t2v-plus");
        assert!((1..=33).contains(&wait), "{wait}");
    }
    assert_eq!(ask(&impatient, &["X-DashScope-Wait-Timeout: 60"]).status(), 200);
    assert_eq!(submits(&simulator)[1].header("x-dashscope-wait-timeout"), Some("60"));
    let patient = gateway(&[address], "120s", &rule("0.01"), "");
    assert_eq!(ask(&patient, &[]).status(), 200);
    let began = Instant::now();
    let got = ask(&patient, &["X-DashScope-Wait-Timeout: 1"]);
    let wait = refused(&got, "0.01 submits per second of wan2.2-t2v-plus");
    assert!((60..=103).contains(&wait), "{wait}");
    assert!(began.elapsed() < Duration::from_secs(60), "it waited in vain");
}

#[test]
fn who_leaves_while_it_waits_has_submitted_nothing() {
    let simulator = simulator();
    let gateway = gateway(&[simulator.address()], "60s", "", "");
    let request = |prompt| submit(TENANT_KEY, MODEL, prompt, &[]);
    let mut first: Vec<Client> = (0..4).map(|_| send(&gateway, &request("first"))).collect();
    let left: Vec<Client> = (0..3).map(|_| send(&gateway, &request("left"))).collect();
    barrier(&gateway);
    left.into_iter().for_each(Client::leave);
    barrier(&gateway);
    let mut last = send(&gateway, &request("last"));
    assert_eq!(last.answer().status(), 200);
    for client in &mut first {
        assert_eq!(client.answer().status(), 200);
    }
    assert_eq!(prompts(&simulator), ["first", "first", "first", "first", "last"]);
}

/// A client that leaves over HTTP/2, where its connection stays.
#[test]
fn who_gives_its_stream_up_while_it_waits_has_submitted_nothing() {
    let simulator = simulator();
    let rule = "pace = [{ models = [\"*\"], requests_per_second = 0.2 }]";
    let gateway = gateway(&[simulator.address()], "60s", rule, "");
    assert_eq!(gateway.ask(submit(TENANT_KEY, MODEL, "first", &[])).status(), 200);
    let request = |path: &str, prompt: &str| {
        let body = json!({"model": MODEL, "input": {"prompt": prompt}}).to_string();
        hyper::Request::post(format!("http://gateway{path}"))
            .header("authorization", format!("Bearer {TENANT_KEY}"))
            .header("x-dashscope-async", if path == SYNTHESIS { "enable" } else { "disable" })
            .body(http_body_util::Full::new(bytes::Bytes::from(body)))
            .expect("a request")
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(gateway.address).await.expect("a connection");
        let io = hyper_util::rt::TokioIo::new(stream);
        let executor = hyper_util::rt::TokioExecutor::new();
        let handshake = hyper::client::conn::http2::handshake(executor, io);
        let (mut sender, connection) = handshake.await.expect("HTTP/2");
        tokio::spawn(connection);
        let waits = sender.send_request(request(SYNTHESIS, "left"));
        assert!(tokio::time::timeout(Duration::from_millis(500), waits).await.is_err(), "it did not wait");
        // Frames come in their order: when this request is answered, the gateway has seen the end of the other one.
        sender.send_request(request(GENERATION, "")).await.expect("an answer");
    });
    assert_eq!(gateway.ask(submit(TENANT_KEY, MODEL, "last", &[])).status(), 200);
    assert_eq!(prompts(&simulator), ["first", "last"]);
}

#[test]
fn those_who_wait_at_a_drain_are_told_to_connect_again() {
    let simulator = simulator();
    let gateway = gateway(
        &[simulator.address()],
        "100s",
        "pace = [{ models = [\"*\"], requests_per_second = 0.01 }]",
        "",
    );
    assert_eq!(gateway.ask(submit(TENANT_KEY, MODEL, "first", &[])).status(), 200);
    let mut waits = send(&gateway, &submit(TENANT_KEY, MODEL, "waits", &["X-DashScope-Wait-Timeout: 120"]));
    barrier(&gateway);
    gateway.running.drain();
    let got = waits.answer();
    assert_refused(&got, 503, "draining", "ServiceUnavailable", Envelope::Flat);
    gateway.running.join().expect("joined");
    assert_eq!(prompts(&simulator), ["first"]);
}

#[test]
fn an_account_with_room_comes_before_a_wait_at_any() {
    let simulators = [simulator(), simulator()];
    let addresses = simulators.each_ref().map(Simulator::address);
    let rule = "pace = [{ models = [\"*\"], requests_per_second = 0.01 }]";
    let gateway = gateway(&addresses, "0s", rule, "");
    let ask = |model| gateway.ask(submit(TENANT_KEY, model, "p", &[]));
    for _ in 0..2 {
        let got = ask(MODEL);
        assert_eq!(got.status(), 200, "{}", got.text());
    }
    assert_eq!(simulators.each_ref().map(|simulator| submits(simulator).len()), [1, 1]);
    assert!(refused(&ask(MODEL), "0.01 submits per second of wan2.2-t2v-plus") > 30);
    // Another model has a rate of its own.
    assert_eq!(ask("wan2.1-t2v-plus").status(), 200);
}

/// One try with each key is enough, although only one task may run.
#[test]
fn a_key_that_is_refused_takes_nobodys_place() {
    let keys = vec!["sk-two".parse().expect("a key")];
    let simulator =
        Simulator::start(SimulatorOptions { keys, ..SimulatorOptions::default() }).expect("a simulator");
    let one = "pace = [{ models = [\"*\"], requests_per_second = \"unlimited\", running = 1 }]";
    let account = ("main", simulator.address(), &["sk-dead", "sk-two"][..], one);
    let gateway = Gateway::pooled(&[account]);
    let got = gateway.ask(submit(TENANT_KEY, MODEL, "p", &[]));
    assert_eq!(got.status(), 200, "{}", got.text());
    assert_eq!(
        submits(&simulator).into_iter().map(|seen| seen.status).collect::<Vec<_>>(),
        [Some(401), Some(200)]
    );
}

#[test]
fn a_key_that_is_revoked_while_it_waits_submits_nothing() {
    let simulator = simulator();
    let rule = "pace = [{ models = [\"*\"], requests_per_second = 0.1 }]";
    let gateway = gateway(&[simulator.address()], "60s", rule, "");
    let made = gateway.administer("POST /admin/keys", r#"{"tenant":"one","id":"short"}"#).json();
    let key = made["key"].as_str().unwrap_or_else(|| panic!("{made}"));
    assert_eq!(gateway.ask(submit(key, MODEL, "first", &[])).status(), 200);
    let mut waits = send(&gateway, &submit(key, MODEL, "waits", &[]));
    barrier(&gateway);
    assert_eq!(gateway.administer("DELETE /admin/keys/short", "").status(), 200);
    assert_refused(&waits.answer(), 401, "revoked_key", "InvalidApiKey", Envelope::Flat);
    assert_eq!(prompts(&simulator), ["first"]);
}

#[test]
fn one_that_is_throttled_all_the_same_goes_where_there_is_room_or_is_told_so() {
    let simulators = [simulator(), simulator()];
    simulators[0].set_overdue("main", true);
    let gateway = gateway(&simulators.each_ref().map(Simulator::address), "60s", "", "");
    for _ in 0..6 {
        assert_eq!(gateway.ask(submit(TENANT_KEY, MODEL, "p", &[])).status(), 200);
    }
    assert_eq!(submits(&simulators[0]).len(), 1);
    assert_never_throttled(&simulators[1]);
}

/// A submit's model may stand behind a picture, for example.
#[test]
fn a_model_that_comes_late_is_paced_like_any_other() {
    let upstream = Upstream::answering(task("t", "PENDING"));
    let late = |model| {
        let body = format!(r#"{{"input":{{"prompt":{:?}}},"model":{model:?}}}"#, "x".repeat(200_000));
        let key = format!("Authorization: Bearer {TENANT_KEY}");
        message(&format!("POST {SYNTHESIS}"), &[&key, "X-DashScope-Async: enable"], &body)
    };
    let usual = gateway(&[upstream.address], "0s", "", "");
    assert_eq!(usual.ask(late("wan2.7-t2v")).status(), 200);
    let rules = "pace = [{ models = [\"wan2.2-*\"], requests_per_second = 0.1 }]";
    let ruled = gateway(&[upstream.address], "0s", rules, "");
    assert_eq!(ruled.ask(late(MODEL)).status(), 200);
    assert!(refused(&ruled.ask(late(MODEL)), &format!("0.1 submits per second of {MODEL}")) >= 9);
    assert_eq!(ruled.ask(late("wan2.7-t2v")).status(), 200);
    assert_eq!(upstream.requests().len(), 3);
}

/// Only a rule for every model applies to submits that name none, and counts them as submits of one model.
#[test]
fn a_submit_without_a_model_is_paced_only_with_all() {
    let upstream = Upstream::answering(task("t", "PENDING"));
    let unnamed = || submit(TENANT_KEY, MODEL, "p", &[]).replace("\"model\"", "\"Model\"");
    let all = "pace = [{ models = [\"wan2.2-*\"], requests_per_second = 1 }, { models = [\"*\"], requests_per_second = 0.1 }]";
    let all = gateway(&[upstream.address], "0s", all, "");
    assert_eq!(all.ask(unnamed()).status(), 200);
    assert!(refused(&all.ask(unnamed()), "0.1 submits per second of ") >= 9);
    assert_eq!(upstream.requests().len(), 1);
}

#[test]
fn what_the_operator_does_not_want_paced_is_not() {
    let upstream = Upstream::answering(task("t", "PENDING"));
    let off = "pace = [{ models = [\"wan2.2-*\"], requests_per_second = \"unlimited\" }]";
    let gateway = gateway(&[upstream.address], "0s", off, "");
    for _ in 0..20 {
        assert_eq!(gateway.ask(submit(TENANT_KEY, MODEL, "p", &[])).status(), 200);
    }
    // The limits of this model are not known.
    for _ in 0..20 {
        assert_eq!(gateway.ask(submit(TENANT_KEY, "wan2.7-t2v", "p", &[])).status(), 200);
    }
    eventually("all arrived", || upstream.requests().len() == 40);
}

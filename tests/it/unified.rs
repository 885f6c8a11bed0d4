//! Unified dialect: `/v1/videos` and `/v1/tasks/{id}` have the same tasks, keys, limits and accounts as the native
//! paths.

mod both_dialects;
mod content;
mod files;
mod mapping;
mod reading;
mod storage;

use std::net::SocketAddr;
use std::time::Duration;

use dashgate::sim::{RecordedRequest, Simulator, SimulatorOptions};
use serde_json::{Value, json};

use crate::harness::{
    Account, Gateway, Message, TENANT_KEY, UPSTREAM_KEY, configuration, eventually, message,
};

/// A simulator whose tasks stay PENDING until a test says otherwise.
fn simulator() -> Simulator {
    simulator_with(SimulatorOptions {
        pending: Some(Duration::from_secs(3600)),
        ..SimulatorOptions::default()
    })
}

fn simulator_with(options: SimulatorOptions) -> Simulator {
    let keys = vec![UPSTREAM_KEY.parse().expect("a key")];
    let options = SimulatorOptions { keys, submit_rps: Some(u32::MAX), query_qps: 10_000, ..options };
    Simulator::start(options).expect("a simulator")
}

/// A configuration with the usual mounts, and with `/v1` and `/ope` in the unified dialect, the latter with ope.ai's
/// statuses. Each query asks the upstream.
fn configured(accounts: &[Account<'_>], storage: &[String], tenant: &str) -> String {
    let server = "listen = \"127.0.0.1:0\"\nworkers = 1\n[poll]\nmax_age = \"0s\"";
    let mount = |prefix: &str, statuses: &str| {
        format!(
            "[[mounts]]\nprefix = {prefix:?}\ndialect = \"unified\"\nvideo_statuses = {statuses:?}\n\
             storage = {{ hosts = {storage:?} }}\n"
        )
    };
    configuration(server, accounts, tenant) + &mount("/v1", "openai") + &mount("/ope", "opeai")
}

fn gateway(simulator: &Simulator) -> Gateway {
    gateway_at(simulator.address(), &[origin(simulator.oss_address())], "")
}

fn gateway_at(upstream: SocketAddr, storage: &[String], tenant: &str) -> Gateway {
    let account: Account<'_> = ("main", upstream, &[UPSTREAM_KEY], "query_qps = 10000\ncancel_qps = 10000");
    Gateway::configured(&configured(&[account], storage, tenant))
}

fn origin(address: SocketAddr) -> String {
    format!("http://{address}")
}

/// Sends a request to the gateway, with a body as JSON.
fn call_as(gateway: &Gateway, key: &str, line: &str, fields: &[&str], body: Option<&Value>) -> Message {
    let authorization = format!("Authorization: Bearer {key}");
    let body = body.map(Value::to_string).unwrap_or_default();
    let mut all = vec![authorization.as_str()];
    if !body.is_empty() {
        all.push("Content-Type: application/json");
    }
    all.extend(fields);
    gateway.ask(message(line, &all, &body))
}

fn call(gateway: &Gateway, line: &str) -> Message {
    call_as(gateway, TENANT_KEY, line, &[], None)
}

#[track_caller]
fn ok(answer: &Message) -> Value {
    assert_eq!(answer.status(), 200, "{}{}", answer.head, answer.text());
    answer.json()
}

#[track_caller]
fn create(gateway: &Gateway, body: &Value) -> String {
    let video = ok(&call_as(gateway, TENANT_KEY, "POST /v1/videos", &[], Some(body)));
    video["id"].as_str().expect("an id").to_owned()
}

fn lighthouse() -> Value {
    json!({"model": "wan2.7-t2v", "prompt": "a lighthouse", "seconds": "5", "size": "1280x720"})
}

/// Lets the task succeed, and waits until the gateway knows.
fn finish(gateway: &Gateway, simulator: &Simulator, id: &str) {
    assert!(simulator.finish(id), "{id} can't be finished");
    eventually("the video is completed", || {
        ok(&call(gateway, &format!("GET /v1/videos/{id}")))["status"] == "completed"
    });
}

fn submits(simulator: &Simulator) -> Vec<RecordedRequest> {
    simulator.requests().into_iter().filter(|seen| seen.path().ends_with("/video-synthesis")).collect()
}

/// Checks that the answer is an error in OpenAI's envelope, and returns the error.
#[track_caller]
fn refused(answer: &Message, status: u16, code: &str) -> Value {
    let shown = format!("{}{}", answer.head, answer.text());
    assert_eq!(answer.status(), status, "{shown}");
    assert_eq!(answer.field("content-type").as_deref(), Some("application/json"), "{shown}");
    let body = answer.json();
    let error = &body["error"];
    assert_eq!(error["code"], code, "{shown}");
    assert!(error["message"].is_string() && error["type"].is_string(), "{shown}");
    assert_eq!(answer.field("x-request-id").as_deref(), body["request_id"].as_str(), "{shown}");
    error.clone()
}

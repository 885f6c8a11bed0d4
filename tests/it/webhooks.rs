//! Webhooks: tenants are told of events at least once, signed, and nobody is reached who must not be.

mod addresses;
mod administration;
mod events;
mod failures;
mod figures;
mod forbidden;
mod kills;
mod library;
mod own;
mod replicas;

use std::collections::BTreeSet;
use std::io::Write;
use std::net::SocketAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::harness::{Gateway, Message, TENANT_KEY, Upstream, answer, eventually, message};
use crate::usage::budgets;

pub(crate) const SECRETS: [&str; 2] =
    ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX"];

/// An upstream that makes a task of each submit. Tasks end at once, as their ids begin: `failed`, `canceled`, else well.
pub(crate) fn upstream() -> Upstream {
    Upstream::start(|request, stream| {
        let line = request.start_line().to_owned();
        let body = match line.strip_prefix("GET /api/v1/tasks/") {
            Some(id) => end(id.split(' ').next().expect("an id")),
            None if line.starts_with("POST ") => {
                let id = request.json()["id"].clone();
                json!({"output": {"task_id": id, "task_status": "PENDING"}, "request_id": "r"})
            }
            None => json!({"code": "NotFound"}),
        };
        stream.write_all(&answer("200 OK", &[], &body.to_string())).is_ok()
    })
}

fn end(id: &str) -> Value {
    let ended = "2026-11-29 20:00:41.000";
    let request_id = format!("r-{id}");
    if id.starts_with("failed") {
        let output =
            json!({"task_id": id, "task_status": "FAILED", "end_time": ended, "code": "Bad", "message": "m"});
        return json!({"output": output, "request_id": request_id});
    }
    let status = if id.starts_with("canceled") { "CANCELED" } else { "SUCCEEDED" };
    let output =
        json!({"task_id": id, "task_status": status, "end_time": ended, "video_url": "https://x/v.mp4"});
    let usage = json!({"duration": 5, "SR": 720, "video_count": 1});
    json!({"output": output, "usage": usage, "request_id": request_id})
}

/// An endpoint that answers each delivery so.
pub(crate) fn endpoint(status: &'static str, fields: &[&str]) -> Upstream {
    Upstream::answering(answer(status, fields, ""))
}

/// An entry of `webhooks` for an endpoint of this machine.
pub(crate) fn hook(address: SocketAddr, more: &str) -> String {
    format!(
        "{{ url = \"http://{address}/hooks?token=t\", secrets = [{:?}], private = true{more} }}",
        SECRETS[0]
    )
}

/// A configuration whose tenant `one` pays one unit for a second of video, and has these webhooks.
pub(crate) fn configured(upstream: &Upstream, webhooks: &[String], tenant: &str) -> String {
    let tenant = format!("webhooks = [{}]\n{tenant}", webhooks.join(", "));
    budgets::configuration(upstream, &tenant)
}

pub(crate) fn key() -> String {
    format!("Authorization: Bearer {TENANT_KEY}")
}

/// Submits a task, and has the gateway learn its end.
#[track_caller]
pub(crate) fn run_task(address: SocketAddr, id: &str) {
    let made = crate::harness::client::once(address, budgets::submit(id));
    assert_eq!(made.status(), 200, "{}", made.text());
    learn_end(address, id);
}

#[track_caller]
pub(crate) fn learn_end(address: SocketAddr, id: &str) {
    let poll = message(&format!("GET /wan/v1/tasks/{id}"), &[&key(), "Prefer: wait=20"], "");
    let told = crate::harness::client::once(address, poll);
    assert_eq!(told.status(), 200, "{}", told.text());
}

/// The payload of a delivery, once its signature by each of the secrets is found right.
#[track_caller]
pub(crate) fn verified(delivery: &Message, secrets: &[&str]) -> Value {
    let field = |name: &str| delivery.field(name).unwrap_or_else(|| panic!("{name} in {}", delivery.head));
    let [id, timestamp, signatures] = ["webhook-id", "webhook-timestamp", "webhook-signature"].map(field);
    let signed = [format!("{id}.{timestamp}.").as_bytes(), &delivery.body].concat();
    let expected: Vec<String> = secrets
        .iter()
        .map(|secret| {
            let key = STANDARD.decode(secret.strip_prefix("whsec_").expect("a prefix")).expect("base64");
            format!("v1,{}", STANDARD.encode(hmac(&key, &signed)))
        })
        .collect();
    assert_eq!(signatures.split(' ').collect::<Vec<_>>(), expected);
    assert_eq!(field("content-type"), "application/json");
    assert_eq!(delivery.field("authorization"), None);
    delivery.json()
}

/// HMAC (RFC 2104), written out, so that the program's is not held against itself.
fn hmac(key: &[u8], text: &[u8]) -> [u8; 32] {
    let mut block = [0; 64];
    block[..key.len()].copy_from_slice(key);
    let padded = |with: u8| block.map(|byte| byte ^ with);
    let inner = Sha256::new().chain_update(padded(0x36)).chain_update(text).finalize();
    Sha256::new().chain_update(padded(0x5c)).chain_update(inner).finalize().into()
}

/// Ids of the tasks that an endpoint was told of.
pub(crate) fn told_tasks(endpoint: &Upstream) -> BTreeSet<String> {
    let id = |delivery: &Message| delivery.json()["data"]["task_id"].as_str().map(str::to_owned);
    endpoint.requests().iter().filter_map(id).collect()
}

/// Deliveries as the admin API tells them, newest first.
pub(crate) fn listed(gateway: &Gateway, query: &str) -> Vec<Value> {
    let page = gateway.administer(&format!("GET /admin/webhooks/deliveries{query}"), "");
    page.json()["deliveries"].as_array().expect("deliveries").clone()
}

/// Waits until all deliveries have come to an end.
pub(crate) fn wait_for_ends(gateway: &Gateway) {
    eventually("all deliveries have ended", || listed(gateway, "?state=waiting").is_empty());
}

#[test]
fn an_end_is_told_once_and_signed_by_each_secret() {
    let (upstream, endpoint) = (upstream(), endpoint("204 No Content", &[]));
    let both = format!(
        "{{ url = \"http://{}/hooks?token=t\", secrets = {SECRETS:?}, private = true }}",
        endpoint.address
    );
    let gateway = Gateway::configured(&configured(&upstream, &[both], ""));
    run_task(gateway.address, "t-1");
    eventually("it is told", || !endpoint.requests().is_empty());
    wait_for_ends(&gateway);
    let delivery = endpoint.only();
    assert_eq!(delivery.start_line(), "POST /hooks?token=t HTTP/1.1");
    let payload = verified(&delivery, &SECRETS);
    let submitted_at = payload["data"]["submitted_at"].clone();
    let expected = json!({
        "type": "task.succeeded",
        "timestamp": "2026-11-29T12:00:41.000Z",
        "data": {
            "task_id": "t-1", "tenant": "one", "key_id": "one-key", "model": "wan2.7-t2v", "status": "SUCCEEDED",
            "submitted_at": submitted_at, "ended_at": "2026-11-29T12:00:41.000Z", "request_id": "r-t-1", "error": null,
            "units": {"video_second": "5.000"}, "cost": {"amount": "5.000000000", "currency": "CNY"},
        },
    });
    assert_eq!(payload, expected);
    let [told] = &listed(&gateway, "")[..] else { panic!("one delivery") };
    assert_eq!(told["id"].as_str(), delivery.field("webhook-id").as_deref());
    assert_eq!(told["url"], format!("http://{}/hooks", endpoint.address), "the query may be a secret");
    let shown = ["tenant", "event", "state", "tries", "status", "own"].map(|name| &told[name]);
    assert_eq!(json!(shown), json!(["one", "task.succeeded", "delivered", 1, 204, false]));
}

//! Usage: what a task used is in the ledger once, from the upstream's own answer.

pub(crate) mod budgets;
mod call_holds;
mod calls;
mod command;
mod counts;
pub(crate) mod kills;
mod left;
mod own;
mod prices;
mod renames;
mod reprice;
mod responses;
mod socket_money;
mod socket_prices;
mod sockets;
mod streams;
mod strict;
mod two_models;
mod unreadable;

use std::io::Write;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use dashgate::dashscope::usage::{Unit, Units};
use dashgate::store::Entry;
use serde_json::json;

use crate::harness::{ADMIN_TOKEN, Gateway, OTHER_KEY, TENANT_KEY, Upstream, answer, message};

const SUBMIT: &str = "POST /wan/v1/services/aigc/video-generation/video-synthesis";

/// Ends of tasks: the id, and the answer to its query but for the id.
const ENDS: [(&str, &str); 4] = [
    (
        "fraction",
        r#"{"output":{"task_id":"fraction","task_status":"SUCCEEDED","video_url":"https://x/v.mp4"},
            "usage":{"duration": 10.04, "input_video_duration": 5.0,"output_video_duration":5.04,"SR":720,"video_count":1}}"#,
    ),
    (
        "failed",
        r#"{"output":{"task_id":"failed","task_status":"FAILED","code":"InternalError","message":"m"}}"#,
    ),
    ("strange", r#"{"output":{"task_id":"strange","task_status":"SUCCEEDED"},"usage":{"moons":3}}"#),
    (
        "planted",
        r#"{"usage":{"duration":5,"SR":480,"video_count":1,"output_video_duration":5,"input_video_duration":0},
            "output":{"task_id":"planted","task_status":"SUCCEEDED","video_url":"u","orig_prompt":"\"usage\":{\"duration\":0}","usage":{"duration":0}}}"#,
    ),
];

/// A configuration whose tenant `one` pays by the list `default`. `prices` and `tenant` are lines of rows and of the tenant.
fn priced(upstream: SocketAddr, mount: &str, prices: &str, tenant: &str) -> String {
    format!(
        r#"
[server]
listen = "127.0.0.1:0"
[admin]
listen = "127.0.0.1:0"
token = "{ADMIN_TOKEN}"
{prices}
[[accounts]]
name = "main"
base_url = "http://{upstream}"
keys = ["sk-upstream"]
[[mounts]]
prefix = "{mount}"
[[tenants]]
name = "one"
prices = "default"
{tenant}
keys = [{{ id = "one-key", key = "{TENANT_KEY}", expires = "2099-01-01T00:00:00Z" }}]
"#
    )
}

/// A second tenant, `two`, to stand behind a configuration.
fn second(tenant: &str) -> String {
    format!("[[tenants]]\nname = \"two\"\n{tenant}\nkeys = [{{ id = \"two-key\", key = \"{OTHER_KEY}\" }}]\n")
}

/// A row of the list `default`; `more` are further lines of it.
fn price(models: &str, unit: &str, price: &str, more: &str) -> String {
    format!(
        "[[prices]]\nlist = \"default\"\nmodels = [\"{models}\"]\nunit = \"{unit}\"\nprice = \"{price}\"\n{more}\n"
    )
}

fn upstream() -> Upstream {
    Upstream::start(|request, stream| {
        let line = request.start_line().to_owned();
        let body = if line.starts_with("POST ") {
            let id = request.json()["id"].clone();
            json!({"output": {"task_id": id, "task_status": "PENDING"}, "request_id": "r"}).to_string()
        } else {
            let end = ENDS.iter().find(|(id, _)| line.contains(&format!("/{id} ")));
            end.expect("a task").1.to_owned()
        };
        stream.write_all(&answer("200 OK", &[], &body)).is_ok()
    })
}

fn entries(gateway: Gateway) -> Vec<Entry> {
    let directory = gateway.stop();
    let store = directory.open();
    let mut entries = Vec::new();
    let all = [UNIX_EPOCH, SystemTime::now() + Duration::from_secs(60)];
    store
        .entries(all, |entry| {
            entries.push(entry);
            ControlFlow::Continue(())
        })
        .expect("read");
    entries
}

#[test]
fn an_end_is_entered_when_it_is_told_with_all_that_was_used() {
    let upstream = upstream();
    let gateway = Gateway::start(upstream.address);
    let key = format!("Authorization: Bearer {TENANT_KEY}");
    for (id, end) in ENDS {
        let body = json!({"model": "wan2.7-i2v", "id": id}).to_string();
        gateway.ask(message(SUBMIT, &[&key, "X-DashScope-Async: enable"], &body));
        for _ in 0..2 {
            let told = gateway.ask(message(&format!("GET /wan/v1/tasks/{id}"), &[&key], ""));
            assert_eq!(told.text(), end, "{id}");
        }
    }
    let entries = entries(gateway);
    let found: Vec<_> = entries
        .iter()
        .map(|entry| (entry.source.label(&entry.account), &*entry.status, &entry.units, &*entry.class))
        .collect();
    let used = |seconds, input, output| {
        Units::from_iter([
            (Unit::VideoSecond, seconds),
            (Unit::InputVideoSecond, input),
            (Unit::OutputVideoSecond, output),
        ])
    };
    let nothing = Units::default();
    assert_eq!(
        found,
        [
            ("task:main/fraction".to_owned(), "SUCCEEDED", &used(10_040, 5_000, 5_040), "720P"),
            ("task:main/failed".to_owned(), "FAILED", &nothing, ""),
            ("task:main/strange".to_owned(), "SUCCEEDED", &nothing, ""),
            ("task:main/planted".to_owned(), "SUCCEEDED", &used(5_000, 0, 5_000), "480P"),
        ]
    );
    let flags: Vec<bool> = entries.iter().map(|entry| entry.flags.is_unread).collect();
    assert_eq!(flags, [false, false, true, false]);
    let first = &entries[0];
    assert_eq!(
        [&*first.tenant, &*first.account, &*first.model, &*first.mount],
        ["one", "main", "wan2.7-i2v", "/wan"]
    );
    assert_eq!(
        &*first.usage,
        r#"{"duration": 10.04, "input_video_duration": 5.0,"output_video_duration":5.04,"SR":720,"video_count":1}"#
    );
    assert!(first.at >= first.submitted_at);
    assert_eq!(&*entries[2].usage, r#"{"moons":3}"#);
}

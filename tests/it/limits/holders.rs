//! What is used now of a tenant's limits, and which keys and tasks hold the slots.

use std::io::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use super::events;
use crate::harness::calls::{poll, submit, task};
use crate::harness::{Client, Gateway, Upstream, answer, eventually, message};

/// An upstream whose tasks run until they are polled, and whose streams never end.
fn upstream() -> Upstream {
    let made = AtomicUsize::new(0);
    Upstream::start(move |request, stream| {
        let line = request.start_line().to_owned();
        if request.field("x-dashscope-sse").is_some() {
            let head =
                b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
            return stream.write_all(&[&head[..], b"8\r\ndata:1\n\n\r\n"].concat()).is_ok();
        }
        let bytes = if request.field("x-dashscope-async").is_some() {
            task(&format!("t-{}", made.fetch_add(1, Ordering::SeqCst)), "PENDING")
        } else if let Some((_, id)) = line.split_once("/tasks/") {
            task(id.split([' ', '/']).next().expect("an id"), "SUCCEEDED")
        } else {
            answer("200 OK", &[], "{}")
        };
        stream.write_all(&bytes).is_ok()
    })
}

fn shown(gateway: &Gateway) -> Value {
    gateway.administer("GET /admin/tenants/one", "").json()
}

fn in_flight(gateway: &Gateway) -> [f64; 2] {
    let page = gateway.administer("GET /metrics", "").text();
    ["requests", "tasks"].map(|kind| {
        let series = format!("dashgate_tenant_in_flight{{tenant=\"one\",kind=\"{kind}\"}} ");
        let line = page.lines().find_map(|line| line.strip_prefix(&series));
        line.expect("a level").parse().expect("a number")
    })
}

#[test]
fn an_operator_sees_who_holds_the_slots() {
    let upstream = upstream();
    let tenant = "limits = { tasks_in_flight = 5 }\n\
                  tenant_limits = { concurrent_requests = 7, requests_per_second = 0.001, burst = 9 }";
    let gateway = Gateway::with(upstream.address, "[poll]\nmax_age = \"0s\"", tenant);
    let made = gateway.administer("POST /admin/keys", r#"{"tenant":"one","id":"busy"}"#).json();
    let busy = format!("Authorization: Bearer {}", made["key"].as_str().expect("a secret"));
    let submit_as_busy = || {
        let path = format!("POST {}", crate::harness::calls::SYNTHESIS);
        let body = r#"{"model":"wan2.7-i2v","input":{"prompt":"p"}}"#;
        gateway.ask(message(&path, &[&busy, "X-DashScope-Async: enable"], body))
    };
    assert_eq!(gateway.ask(submit()).status(), 200);
    assert_eq!([submit_as_busy().status(), submit_as_busy().status()], [200, 200]);
    let mut client = Client::connect(gateway.address);
    client.send(events());
    assert_eq!(client.head().status(), 200);
    eventually("the submits have ended", || in_flight(&gateway) == [1.0, 3.0]);
    let tenant = shown(&gateway);
    let used = json!({
        "concurrent_requests": 7, "running": 1, "requests_per_second": 0.001, "burst": 9, "remaining": 5,
        "requests": 1, "tasks": 3,
    });
    assert_eq!(tenant["use"], used);
    let holders = &tenant["holders"];
    let keys = json!([
        { "id": "busy", "requests": 0, "tasks": 2, "limits": { "tasks_in_flight": 5, "tasks": 2 } },
        { "id": "one-key", "requests": 1, "tasks": 1, "limits": { "tasks_in_flight": 5, "tasks": 1 } },
    ]);
    assert_eq!((&holders["keys"], &holders["key_count"]), (&keys, &2.into()));
    let oldest: Vec<String> = holders["oldest_tasks"]
        .as_array()
        .expect("tasks")
        .iter()
        .map(|task| format!("{} {} {}", task["id"], task["key_id"], task["status"]).replace('"', ""))
        .collect();
    assert_eq!(oldest, ["t-0 one-key PENDING", "t-1 busy PENDING", "t-2 busy PENDING"]);
    let printed = gateway.printed("tenants", &["show", "one"]);
    for row in ["use.running 1", "slots busy: 0 request(s), 2 task(s)", "task t-0: of one-key, since 20"] {
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(printed.lines().any(|line| words(line).starts_with(row)), "{row} is not in\n{printed}");
    }
    // Another tenant's page has none of it.
    let other = gateway.administer("GET /admin/tenants/two", "").json();
    assert_eq!(other["holders"], json!({ "keys": [], "key_count": 0, "oldest_tasks": [] }));
    drop(client);
    assert_eq!(gateway.ask(poll("t-0")).json()["output"]["task_status"], "SUCCEEDED");
    eventually("what has ended holds nothing", || in_flight(&gateway) == [0.0, 2.0]);
    let tenant = shown(&gateway);
    assert_eq!((&tenant["use"]["running"], &tenant["use"]["tasks"]), (&0.into(), &2.into()));
    assert_eq!(
        (&tenant["holders"]["key_count"], &tenant["holders"]["keys"][0]["id"]),
        (&1.into(), &"busy".into())
    );
}

#[test]
fn budgets_are_shown_with_what_is_left() {
    let upstream = upstream();
    let tenant = "prices = \"p\"\nbudgets = [{ amount = \"10\", period = \"month\" }]\n\
                  [[prices]]\nlist = \"p\"\nmodels = [\"none\"]\nunit = \"image\"\nprice = \"1\"";
    let gateway = Gateway::with(upstream.address, "", tenant);
    let budget = &shown(&gateway)["budgets"][0];
    let figures =
        ["period", "amount", "spent", "held", "left"].map(|name| budget[name].as_str().expect("text"));
    assert_eq!(figures, ["month", "10.000000000", "0.000000000", "0.000000000", "10.000000000"]);
    let printed = gateway.printed("tenants", &["show", "one"]);
    assert!(
        printed.contains("10.000000000: spent 0.000000000, held 0.000000000, left 10.000000000"),
        "{printed}"
    );
}

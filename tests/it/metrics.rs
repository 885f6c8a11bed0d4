//! Metrics agree with what happened, and their number stays bounded.

mod exact;
mod failures;
mod incidents;
mod names;

use std::collections::BTreeMap;

use crate::harness::calls::{bearer, generate, poll, submit, task};
use crate::harness::{
    Client, Gateway, Message, OTHER_KEY, UPSTREAM_KEY, Upstream, answer, client, configuration, eventually,
    message,
};

/// Every series of `/metrics`, as it is written there.
#[derive(Default)]
pub(crate) struct Page(BTreeMap<String, f64>);

impl Page {
    pub(crate) fn of(gateway: &Gateway) -> Self {
        let answer = client::once(gateway.admin, message("GET /metrics", &[], ""));
        assert_eq!(answer.status(), 200);
        let text = answer.text();
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        Self(
            lines
                .filter_map(|line| line.rsplit_once(' '))
                .map(|(name, value)| (name.to_owned(), value.parse().expect("a number")))
                .collect(),
        )
    }

    /// The value of a series, or 0 if there is no such series.
    pub(crate) fn value(&self, series: &str) -> f64 {
        self.0.get(series).copied().unwrap_or(0.0)
    }

    /// The sum of all series of the family with these labels among theirs.
    pub(crate) fn sum(&self, family: &str, labels: &[&str]) -> f64 {
        let is_of = |series: &str| {
            series.split('{').next() == Some(family) && labels.iter().all(|label| series.contains(label))
        };
        self.0.iter().filter(|(series, _)| is_of(series)).map(|(_, value)| value).sum()
    }

    /// All series of a family.
    pub(crate) fn series(&self, family: &str) -> impl Iterator<Item = (&str, f64)> {
        let of_it = move |(series, _): &(&String, &f64)| series.split('{').next() == Some(family);
        self.0.iter().filter(of_it).map(|(series, value)| (series.as_str(), *value))
    }
}

fn body_of(request: &str) -> &str {
    request.split_once("\r\n\r\n").expect("a head").1
}

/// An upstream whose tasks are in this state.
fn upstream(status: &'static str) -> Upstream {
    Upstream::start(move |request, stream| {
        use std::io::Write;
        let bytes = match request.head.split(' ').nth(1) {
            Some(path) if path.ends_with("video-synthesis") => task("task-1", "PENDING"),
            Some(path) if path.starts_with("/api/v1/tasks/") => {
                let body = format!(r#"{{"output":{{"task_id":"task-1","task_status":"{status}"}}}}"#);
                answer("200 OK", &["Date: Sun, 06 Nov 1994 08:49:37 GMT"], &body)
            }
            _ if request.text() == "busy" => answer(
                "429 Too Many Requests",
                &["Content-Type: application/json"],
                r#"{"code":"Throttling.RateQuota"}"#,
            ),
            _ if request.text() == "used" => {
                answer("200 OK", &[], r#"{"usage":{"input_tokens":1,"output_tokens":1,"total_tokens":2}}"#)
            }
            _ => answer("200 OK", &[], "0123456789"),
        };
        stream.write_all(&bytes).is_ok()
    })
}

fn refused(got: &Message, reason: &str) {
    assert_eq!(got.field("x-dashgate-reason").as_deref(), Some(reason), "{}", got.text());
}

#[test]
fn each_exchange_counts_where_it_belongs() {
    let upstream = upstream("RUNNING");
    let gateway = Gateway::start(upstream.address);
    assert_eq!(gateway.ask(generate("12345")).status(), 200);
    assert_eq!(gateway.ask(generate("busy")).status(), 429);
    assert_eq!(gateway.ask(submit()).status(), 200);
    assert_eq!(gateway.ask(poll("task-1")).status(), 200);
    refused(&gateway.ask(message("GET /wan/v1/tokens", &[&bearer()], "")), "not_allowed");
    refused(&gateway.ask(message("GET /v1/tasks", &[], "")), "no_key");
    refused(&gateway.ask("GET / HTTP/1.1\nHost: a\n\n"), "bad_request");
    let page = Page::of(&gateway);
    for (series, count) in [
        (r#"dashgate_requests_total{mount="/",operation="service",code="200",outcome="answered"}"#, 1.0),
        (r#"dashgate_requests_total{mount="/",operation="service",code="429",outcome="answered"}"#, 1.0),
        (r#"dashgate_requests_total{mount="/",operation="submit",code="200",outcome="answered"}"#, 1.0),
        (r#"dashgate_requests_total{mount="/",operation="task_get",code="200",outcome="answered"}"#, 1.0),
        (r#"dashgate_requests_total{mount="/wan",operation="unlisted",code="403",outcome="rejected"}"#, 1.0),
        (r#"dashgate_requests_total{mount="/",operation="task_list",code="401",outcome="rejected"}"#, 1.0),
        (r#"dashgate_requests_total{mount="/",operation="unlisted",code="400",outcome="rejected"}"#, 1.0),
        (r#"dashgate_tenant_requests_total{tenant="one",operation="service",code="200"}"#, 1.0),
        (r#"dashgate_tenant_requests_total{tenant="none",operation="task_list",code="401"}"#, 1.0),
        (r#"dashgate_rejections_total{reason="not_allowed",tenant="one"}"#, 1.0),
        (r#"dashgate_rejections_total{reason="no_key",tenant="none"}"#, 1.0),
        (r#"dashgate_rejections_total{reason="bad_request",tenant="none"}"#, 1.0),
        (r#"dashgate_request_duration_seconds_count{operation="service"}"#, 2.0),
        (r#"dashgate_overhead_seconds_count{operation="service"}"#, 2.0),
        (r#"dashgate_upstream_requests_total{account="main",operation="service",code="200"}"#, 1.0),
        (r#"dashgate_upstream_requests_total{account="main",operation="service",code="429"}"#, 1.0),
        (r#"dashgate_upstream_requests_total{account="main",operation="submit",code="200"}"#, 1.0),
        (r#"dashgate_upstream_requests_total{account="main",operation="task_get",code="200"}"#, 1.0),
        (r#"dashgate_upstream_duration_seconds_count{account="main",operation="service"}"#, 2.0),
        (r#"dashgate_upstream_throttled_total{account="main",code="Throttling.RateQuota"}"#, 1.0),
        // A 429 for a body that names no model rests nothing.
        (r#"dashgate_account_cooldown{account="main",cause="rate_quota"}"#, 0.0),
        (r#"dashgate_account_cooldown{account="main",cause="unreachable"}"#, 0.0),
    ] {
        assert_eq!(page.value(series), count, "{series}");
    }
    assert_eq!(page.sum("dashgate_requests_total", &[]), 7.0);
    assert_eq!(page.sum("dashgate_tenant_requests_total", &[]), 7.0);
    assert_eq!(page.sum("dashgate_upstream_requests_total", &[]), upstream.requests().len() as f64);
    let sent = "12345".len() + "busy".len() + body_of(&submit()).len();
    assert_eq!(page.value(r#"dashgate_bytes_total{direction="in"}"#), sent as f64);
    assert!(page.value("dashgate_store_commit_seconds_count") >= 1.0);
    assert_eq!(page.sum("dashgate_requests_in_flight", &[]), 0.0);
}

#[test]
fn what_the_upstream_takes_is_not_overhead() {
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let upstream = Upstream::start(move |_, stream| {
        use std::io::Write;
        wait.lock().expect("no panic").recv().expect("a word");
        crate::harness::let_pass(std::time::Duration::from_millis(300));
        stream.write_all(&answer("200 OK", &[], "{}")).is_ok()
    });
    let gateway = Gateway::start(upstream.address);
    let mut client = Client::connect(gateway.address);
    client.send(generate("{}"));
    let in_flight = r#"dashgate_requests_in_flight{operation="service"}"#;
    eventually("it is in flight", || Page::of(&gateway).value(in_flight) == 1.0);
    assert_eq!(Page::of(&gateway).value("dashgate_connections"), 1.0);
    go.send(()).expect("heard");
    assert_eq!(client.answer().status(), 200);
    let page = Page::of(&gateway);
    let total = page.value(r#"dashgate_request_duration_seconds_sum{operation="service"}"#);
    let upstream =
        page.value(r#"dashgate_upstream_duration_seconds_sum{account="main",operation="service"}"#);
    let overhead = page.value(r#"dashgate_overhead_seconds_sum{operation="service"}"#);
    assert!(upstream >= 0.3 && total >= upstream, "{total} {upstream}");
    assert!(overhead < total - 0.3 + 0.001, "{overhead} of {total}");
    assert_eq!(page.value(in_flight), 0.0);
}

#[test]
fn a_reload_keeps_counts_and_drops_those_of_what_is_gone() {
    let upstream = upstream("RUNNING");
    let server = "listen = \"127.0.0.1:0\"\nworkers = 1";
    let text = configuration(server, &[("main", upstream.address, &[UPSTREAM_KEY], "")], "");
    let gateway = Gateway::from_file(&text);
    let other = message(
        "POST /api/v1/services/aigc/text-generation/generation",
        &[&format!("x-api-key: {OTHER_KEY}")],
        "{}",
    );
    assert_eq!(gateway.ask(generate("{}")).status(), 200);
    assert_eq!(gateway.ask(&other).status(), 200);
    let (one, two) = (
        r#"dashgate_tenant_requests_total{tenant="one",operation="service",code="200"}"#,
        r#"dashgate_tenant_requests_total{tenant="two",operation="service",code="200"}"#,
    );
    let page = Page::of(&gateway);
    assert_eq!((page.value(one), page.value(two)), (1.0, 1.0));
    let without = text.split("[[tenants]]\nname = \"two\"").next().expect("text");
    assert_eq!(gateway.reload(without).status(), 200);
    assert_eq!(gateway.reload("nonsense").status(), 422);
    assert_eq!(gateway.ask(generate("{}")).status(), 200);
    assert_eq!(gateway.ask(&other).status(), 401);
    let page = Page::of(&gateway);
    assert_eq!((page.value(one), page.0.get(two)), (2.0, None));
    // The gateway looks at its file by itself, too, and may have taken the same one before.
    for result in ["ok", "rejected"] {
        let series = format!("dashgate_config_reloads_total{{result=\"{result}\"}}");
        assert!(page.value(&series) >= 1.0, "{result}");
    }
    assert_eq!(page.value(r#"dashgate_rejections_total{reason="unknown_key",tenant="none"}"#), 1.0);
}

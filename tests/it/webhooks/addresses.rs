//! Addresses that submits name for the ends of their tasks.

use std::path::Path;

use dashgate::config::Config;

use super::{SECRETS, configured, endpoint, hook, key, learn_end, listed, upstream};
use crate::egress::ScriptedProxy;
use crate::harness::calls::check_refusal;
use crate::harness::{Gateway, eventually, message};

const SUBMIT: &str = "POST /wan/v1/services/aigc/video-generation/video-synthesis";

pub(super) fn submit(id: &str, fields: &[&str]) -> String {
    let body = format!(r#"{{"model":"wan2.7-t2v","id":{id:?},"parameters":{{"duration":5}}}}"#);
    let key = key();
    message(SUBMIT, &[&[&*key, "X-DashScope-Async: enable"], fields].concat(), &body)
}

/// The host is known to the proxy alone, so this shows where the gateway goes; TLS ends there, as nobody has its
/// certificate.
#[test]
fn an_address_of_a_submit_is_told_of_its_task_alone() {
    let (upstream, inside) = (upstream(), endpoint("200 OK", &[]));
    let proxy = ScriptedProxy::joining(inside.address);
    let hooks = [hook(inside.address, ", events = [\"key.expiring\"]")];
    let text = configured(&upstream, &hooks, "webhook_hosts = [\"*.acme.example\"]");
    let url = format!("http://{}", proxy.address());
    let environment = |name: &str| (name == "HTTPS_PROXY").then(|| url.clone());
    let loaded = Config::parse(&text, Path::new("."), &environment);
    let config = loaded.unwrap_or_else(|faults| panic!("{faults:#?}")).config;
    let gateway = Gateway::of(tempfile::tempdir().expect("a directory"), config);
    for (id, fields) in
        [("t-1", &["X-Dashgate-Webhook: https://hooks.acme.example/jobs/1?key=k"][..]), ("t-2", &[])]
    {
        let made = gateway.ask(submit(id, fields));
        assert_eq!(made.status(), 200, "{}", made.text());
        learn_end(gateway.address, id);
    }
    assert!(upstream.requests().iter().all(|seen| seen.field("x-dashgate-webhook").is_none()));
    eventually("the address is tried", || !proxy.heads().is_empty());
    let head = &proxy.heads()[0];
    assert!(head.starts_with("CONNECT hooks.acme.example:443 HTTP/1.1\r\n"), "{head}");
    let [told] = &listed(&gateway, "")[..] else { panic!("one delivery") };
    assert_eq!(
        [&told["own"], &told["event"]],
        [&serde_json::json!(true), &serde_json::json!("task.succeeded")]
    );
    assert_eq!(told["url"], "https://hooks.acme.example/jobs/1");
    // The tunnel carries TLS: the inner side gets no delivery in clear.
    assert!(inside.requests().iter().all(|seen| seen.field("webhook-id").is_none()));
}

#[test]
fn an_address_that_is_not_allowed_is_refused_before_anything_is_sent() {
    let (upstream, endpoint) = (upstream(), endpoint("200 OK", &[]));
    let hooks = [hook(endpoint.address, "")];
    let allowed = configured(&upstream, &hooks, "webhook_hosts = [\"*.acme.example\"]");
    let gateway = Gateway::configured(&allowed);
    for address in [
        "http://hooks.acme.example/",
        "https://hooks.acme.example:8443/",
        "https://evil.example/",
        "https://acme.example.evil.example/",
        "https://evil.example/.acme.example",
        "https://evil.example#.acme.example",
        "https://me@hooks.acme.example/",
        "https://127.0.0.1/",
        "https://[::1]/",
        "https://169.254.169.254/",
        "hooks.acme.example",
        "",
    ] {
        let refused = gateway.ask(submit("t-1", &[&format!("x-dashgate-webhook: {address}")]));
        check_refusal(&refused, 400, "bad_request");
        assert!(refused.text().contains("x-dashgate-webhook"), "{}", refused.text());
    }
    let twice =
        ["x-dashgate-webhook: https://a.acme.example/", "x-dashgate-webhook: https://b.acme.example/"];
    check_refusal(&gateway.ask(submit("t-1", &twice)), 400, "bad_request");
    let without = Gateway::configured(&configured(&upstream, &hooks, ""));
    let refused = without.ask(submit("t-1", &["x-dashgate-webhook: https://hooks.acme.example/"]));
    check_refusal(&refused, 400, "bad_request");
    assert!(refused.text().contains("webhook_hosts"), "{}", refused.text());
    assert_eq!(upstream.requests().len(), 0);
    // Calls that make no task have no end, and need no address.
    let list = message("GET /wan/v1/tasks", &[&key(), "x-dashgate-webhook: https://evil.example/"], "");
    assert_eq!(without.ask(list).status(), 200);
}

#[test]
fn hosts_need_an_endpoint_whose_secrets_sign() {
    let upstream = upstream();
    let text = configured(&upstream, &[], "webhook_hosts = [\"*.acme.example\"]");
    let faults = Config::parse(&text, Path::new("."), &|_| None).map(|_| ()).expect_err("a fault");
    assert!(format!("{faults:?}").contains("has no secret to sign with"), "{faults:?}");
    assert!(!format!("{faults:?}").contains(SECRETS[0]));
}

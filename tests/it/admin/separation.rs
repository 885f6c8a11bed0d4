//! Separation: no path of the admin listener is on the data listener, nor the other way round, in any spelling.

use crate::harness::calls::{GENERATION, SYNTHESIS, bearer};
use crate::harness::{ADMIN_TOKEN, Gateway, Upstream, answer, client, message, openapi};

/// Ways to write a path that another program could take for it.
fn spellings(path: &str) -> Vec<String> {
    let bare = &path[1..];
    let first = path.as_bytes()[1];
    let upper = path.to_uppercase();
    let mut all = vec![
        path.to_owned(),
        format!("{path}/"),
        format!("/{path}"),
        format!("/./{bare}"),
        format!("/x/../{bare}"),
        format!("/x/%2e%2e/{bare}"),
        format!("/%{first:02x}{}", &bare[1..]),
        format!("{path}?x=/api/v1/tasks"),
        format!("{path};x"),
        format!("{path}%00"),
        format!("{path}%2f"),
        format!("{path}#x"),
        upper,
        format!("http://gateway{path}"),
        format!("http://127.0.0.1:8081{path}"),
    ];
    for mount in ["/wan", "/alibabacloudapi", "/api/v1", "/wan/api/v1", "/compatible-mode/v1"] {
        all.push(format!("{mount}{path}"));
        all.push(format!("{mount}/..{path}"));
    }
    all
}

#[test]
fn no_admin_path_is_on_the_listener_of_the_clients() {
    let upstream = Upstream::answering(answer("200 OK", &[], "{}"));
    let gateway = Gateway::start(upstream.address);
    let token = format!("Authorization: Bearer {ADMIN_TOKEN}");
    let paths = openapi::document()["paths"].as_object().expect("paths");
    let mut asked = 0;
    for (path, item) in paths {
        for method in item.as_object().expect("operations").keys() {
            for target in spellings(&path.replace("{id}", "one-key")) {
                let line = format!("{} {target}", method.to_uppercase());
                for fields in [&[&*token][..], &[&*bearer()], &[]] {
                    let got = gateway.ask(message(&line, fields, ""));
                    let shown = format!("{line} {fields:?}\n{}{}", got.head, got.text());
                    assert!(matches!(got.status(), 400 | 401 | 403 | 404 | 429), "{shown}");
                    assert!(got.field("x-dashgate-reason").is_some(), "{shown}");
                    asked += 1;
                }
            }
        }
    }
    assert!(asked >= 900, "only {asked} were asked");
    assert!(upstream.requests().is_empty(), "{:#?}", upstream.requests());
}

#[test]
fn no_call_of_a_client_is_on_the_admin_listener() {
    let upstream = Upstream::answering(answer("200 OK", &[], "{}"));
    let gateway = Gateway::start(upstream.address);
    let token = format!("Authorization: Bearer {ADMIN_TOKEN}");
    let calls = [
        ("POST", GENERATION),
        ("POST", SYNTHESIS),
        ("GET", "/api/v1/tasks/t-1"),
        ("GET", "/api/v1/tasks"),
        ("POST", "/api/v1/tasks/t-1/cancel"),
        ("GET", "/api/v1/uploads?action=getPolicy&model=wan2.7-i2v"),
        ("POST", "/compatible-mode/v1/chat/completions"),
        ("GET", "/api-ws/v1/inference"),
        ("POST", "/apps/anthropic/v1/messages"),
        ("GET", "/v1/videos/t-1"),
        ("CONNECT", "dashscope.aliyuncs.com:443"),
    ];
    for (method, path) in calls {
        let targets = if method == "CONNECT" { vec![path.to_owned()] } else { spellings(path) };
        for target in targets {
            let line = format!("{method} {target}");
            for (fields, expected) in [(&*token, "not_found"), (&*bearer(), "unauthorized")] {
                let got = client::once(gateway.admin, message(&line, &[fields], ""));
                let shown = format!("{line}\n{}{}", got.head, got.text());
                // Some spellings are no request to the HTTP parser, which answers without a body.
                if got.status() != 400 || !got.body.is_empty() {
                    assert_eq!(got.json()["code"], expected, "{shown}");
                }
            }
        }
    }
    assert!(upstream.requests().is_empty(), "{:#?}", upstream.requests());
}

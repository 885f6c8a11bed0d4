//! Sidecar: every program of the host may call without a key, but no web page in a browser on the host.

use hyper::Request;

use crate::harness::calls::{GENERATION, SYNTHESIS};
use crate::harness::{Envelope, Gateway, Message, Upstream, answer, assert_refused, client, http2};

const CALLS: [&str; 4] = [
    "POST /api/v1/services/aigc/text-generation/generation",
    "POST /api/v1/services/aigc/video-generation/video-synthesis",
    "GET /wan/api/v1/tasks",
    "GET /api/v1/uploads?action=getPolicy&model=wan2.7-i2v",
];
const HANDSHAKE: [&str; 4] = [
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
];

fn upstream() -> Upstream {
    Upstream::answering(answer("200 OK", &[], r#"{"output":{}}"#))
}

/// Sends a request with exactly these fields.
fn ask(gateway: &Gateway, line: &str, fields: &[&str]) -> Message {
    let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
    let async_field = "X-DashScope-Async: enable\r\n";
    client::once(
        gateway.address,
        format!("{line} HTTP/1.1\r\n{fields}{async_field}Content-Length: 2\r\n\r\n{{}}"),
    )
}

#[test]
fn a_page_of_another_site_is_refused_and_nothing_is_sent() {
    let upstream = upstream();
    let gateway = Gateway::sidecar(upstream.address);
    for fields in [
        // A simple request, which a browser sends without asking first.
        &["Host: 127.0.0.1:8080", "Origin: http://evil.example", "Content-Type: text/plain"][..],
        &["Host: localhost:8080", "Origin: null"],
        &["Host: localhost", "Origin: http://localhost.evil.example"],
        &["Host: localhost", "Origin: http://localhost:3000", "Origin: http://evil.example"],
        &["Host: localhost", "Sec-Fetch-Site: cross-site"],
        &["Host: gateway", "Origin: http://gateway"],
        // DNS rebinding: for the browser the gateway is the page's own site.
        &["Host: evil.example:8080"],
        &["Host: evil.example:8080", "Origin: http://evil.example:8080", "Authorization: Bearer sk-any"],
    ] {
        for line in CALLS {
            let told = assert_refused(
                &ask(&gateway, line, fields),
                403,
                "foreign_origin",
                "AccessDenied",
                Envelope::Flat,
            );
            assert!(told.contains("http://localhost"), "{told}");
        }
        let handshake: Vec<&str> = fields.iter().chain(&HANDSHAKE).copied().collect();
        let got = ask(&gateway, "GET /api-ws/v1/inference", &handshake);
        assert_refused(&got, 403, "foreign_origin", "AccessDenied", Envelope::Flat);
        let got = ask(&gateway, "POST /compatible-mode/v1/chat/completions", fields);
        assert_refused(&got, 403, "foreign_origin", "access_denied", Envelope::OpenAi);
    }
    assert_eq!(upstream.connections(), 0);
}

#[test]
fn a_page_of_another_site_is_refused_over_http_2() {
    let upstream = upstream();
    let gateway = Gateway::sidecar(upstream.address);
    for (authority, origin, status) in [
        ("evil.example", None, 403),
        ("localhost", Some("https://evil.example"), 403),
        ("localhost:8080", None, 200),
    ] {
        let mut request = Request::post(format!("http://{authority}{GENERATION}"));
        if let Some(origin) = origin {
            request = request.header("origin", origin);
        }
        let (got, _) = http2::ask(gateway.address, request.body("{}").expect("a request"));
        let reason = got.headers().get("x-dashgate-reason").map(|reason| reason.as_bytes());
        assert_eq!(
            (got.status().as_u16(), reason),
            (status, (status == 403).then_some(&b"foreign_origin"[..]))
        );
    }
    assert_eq!(upstream.requests().len(), 1);
}

#[test]
fn programs_and_pages_of_this_host_are_served_without_a_key() {
    let upstream = upstream();
    let gateway = Gateway::sidecar(upstream.address);
    for fields in [
        &["Host: 127.0.0.1:8080"][..],
        &["Host: LOCALHOST"],
        &["Host: app.localhost:8080"],
        // No public domain: a name of `/etc/hosts`, or of a container.
        &["Host: gateway:8080"],
        &["Host: [::1]:8080", "Authorization: Bearer any-key"],
        &["Host: localhost:8080", "Origin: http://localhost:3000", "Sec-Fetch-Site: same-site"],
        &["Host: 127.0.0.1", "Origin: http://127.0.0.1", "Sec-Fetch-Site: same-origin"],
        &["Host: 127.0.0.1", "Sec-Fetch-Site: none"],
    ] {
        let got = ask(&gateway, &format!("POST {SYNTHESIS}"), fields);
        assert_eq!(got.status(), 200, "{fields:?} {}", got.text());
    }
    let old =
        client::once(gateway.address, format!("POST {GENERATION} HTTP/1.0\r\nContent-Length: 2\r\n\r\n{{}}"));
    assert_eq!(old.status(), 200, "{}", old.text());
}

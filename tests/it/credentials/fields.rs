//! Header and trailer fields: each field of a request and of an answer crosses the gateway or is dropped by its rule.

use hyper::Request;

use super::{CALL, call, fill};
use crate::harness::{Gateway, TENANT_KEY, UPSTREAM_KEY, Upstream, answer, chunked, http2};

/// Lines of a request's head, and whether the upstream sees them.
const UP: [(&str, bool); 57] = [
    ("Accept: application/json; charset=utf-8", true),
    ("Accept-Encoding: gzip, deflate, br", true),
    ("Cache-Control: no-cache", true),
    ("Content-Type: application/json; charset=utf-8", true),
    ("Content-Encoding: gzip", true),
    ("Content-Language:", true),
    ("User-Agent: dashscope/2.0.2; python/3.11.7", true),
    ("Referer: https://example.com/", false),
    ("Traceparent: 00-1-2-01", true),
    ("X-Request-Id: r-1", true),
    ("X-Accel-Buffering: no", true),
    ("X-DashScope-SSE: enable", true),
    ("X-DashScope-Async: disable", true),
    ("X-DashScope-OssResourceResolve: enable", true),
    ("X-DashScope-EncryptionKey: {\"iv\":\"x\"}", true),
    ("X-DashScope-Plugin: {}", true),
    ("X-DashScope-Wait-Timeout: 30", true),
    ("X-DashScope-SDK-Client: python-sdk/2.0.2/x", true),
    ("X-DashScope-SDK-Session-Id: 0a1b", true),
    ("X-DashScope-Of-The-Future: 1", true),
    ("X-Stainless-Lang: python", true),
    ("Anthropic-Version: 2023-06-01", true),
    ("X-DashScope-WorkSpace: ws-1", false),
    ("X-DashScope-Workspace: ws-1", false),
    ("X-DashScope-DataInspection: {\"input\":\"disable\"}", false),
    ("X-DashScope-EUID: {}", false),
    ("X-DashScope-ApiKeyId: 1", false),
    ("X-DashScope-UID: 1", false),
    ("X-DashScope-BWID: 1", false),
    ("X-DashScope-ApiKeyLoc: 1", false),
    ("X-DashScope-Inner-Flow-Control: 1", false),
    ("X-DashScope-Inner-User-Meta: 1", false),
    ("X-DS-Request-Priority: 1", false),
    ("Cookie: acw_tc=1", false),
    ("Forwarded: for=1.2.3.4", false),
    ("X-Forwarded-For: 1.2.3.4", false),
    ("X-Forwarded-Anything: x", false),
    ("X-Real-IP: 1.2.3.4", false),
    ("True-Client-IP: 1.2.3.4", false),
    ("CF-Connecting-IP: 1.2.3.4", false),
    ("CloudFront-Viewer-Country: DE", false),
    ("Ali-CDN-Real-IP: 1.2.3.4", false),
    ("X-Envoy-External-Address: 1.2.3.4", false),
    ("Via: 1.1 edge", false),
    ("CDN-Loop: edge", false),
    ("Origin: https://shop.example", false),
    ("X_DashScope_Async: enable", false),
    ("X.Api.Key: x", false),
    ("HTTP2-Settings: AAMAAABkAAQ", false),
    ("X-DashGate-Webhook: https://hook.example", false),
    ("Keep-Alive: timeout=5", false),
    ("Proxy-Connection: keep-alive", false),
    ("Proxy-Authorization: Basic eA==", false),
    ("TE: gzip", false),
    ("Upgrade: h2c", false),
    ("Connection: keep-alive, X-Mine", false),
    ("X-Mine: 1", true),
];

/// Lines of an answer's head, and whether the client sees them.
const DOWN: [(&str, bool); 26] = [
    ("Content-Type: text/event-stream;charset=UTF-8", true),
    ("X-Accel-Buffering: no", true),
    ("Content-Encoding: gzip", true),
    ("Date: Mon, 29 Sep 2025 06:18:52 GMT", true),
    ("Server: istio-envoy", true),
    ("Vary: Origin,Access-Control-Request-Method", true),
    ("X-Request-Id: r-1", true),
    ("X-DashScope-Call-Gateway: true", true),
    ("X-DashScope-Finished: true", true),
    ("X-DashScope-Timeout: 298", true),
    ("X-DashScope-OutputEncrypted: true", true),
    ("Req-Cost-Time: 52", true),
    ("X-Envoy-Upstream-Service-Time: 50", true),
    ("EagleEye-TraceId: 0a", true),
    ("Retry-After: 1849295", true),
    ("X-Should-Retry: false", true),
    ("Location: /elsewhere", true),
    ("X-Empty:", true),
    ("Set-Cookie: acw_tc=1;path=/;HttpOnly;Max-Age=1800", false),
    ("Access-Control-Allow-Origin: *", false),
    ("X-DashGate-Reason: forged", false),
    ("Keep-Alive: timeout=15", false),
    ("Proxy-Authenticate: Basic", false),
    ("Proxy-Connection: keep-alive", false),
    ("Connection: keep-alive, X-Theirs", false),
    ("X-Theirs: 1", true),
];

fn split(line: &str) -> (String, String) {
    let (name, value) = line.split_once(':').expect("a field");
    (name.to_ascii_lowercase(), value.trim().to_owned())
}

#[test]
fn each_field_of_a_request_by_its_rule() {
    let upstream = Upstream::answering(answer("200 OK", &[], "{}"));
    let gateway = Gateway::start(upstream.address);
    for (line, passes) in UP {
        assert_eq!(gateway.ask(call(CALL, &["Authorization: Bearer {K}", line])).status(), 200, "{line}");
        let seen = upstream.take();
        let (name, value) = split(line);
        assert_eq!(seen[0].field(&name), passes.then_some(value), "{line}");
    }
    // All fields at once; here `Connection` names X-Mine.
    let mut lines = vec!["Authorization: Bearer {K}"];
    lines.extend(UP.iter().map(|(line, _)| *line).filter(|line| !line.starts_with("X-DashScope-Workspace")));
    assert_eq!(gateway.ask(call(CALL, &lines)).status(), 200);
    let seen = upstream.take();
    let mut names: Vec<String> = seen[0].fields().into_iter().map(|(name, _)| name).collect();
    let mut expected: Vec<String> =
        UP.iter().filter(|(_, passes)| *passes).map(|(line, _)| split(line).0).collect();
    expected.retain(|name| name != "x-mine");
    expected.extend(["authorization", "content-length", "host"].map(str::to_owned));
    names.sort_unstable();
    expected.sort_unstable();
    assert_eq!(names, expected);
}

#[test]
fn each_field_of_an_answer_by_its_rule() {
    for (line, passes) in DOWN {
        let upstream = Upstream::answering(answer("200 OK", &[line], "{}"));
        let gateway = Gateway::start(upstream.address);
        let got = gateway.ask(call(CALL, &["Authorization: Bearer {K}"]));
        let (name, value) = split(line);
        assert_eq!(got.field(&name), passes.then_some(value), "{line}");
    }
    let lines: Vec<&str> = DOWN.iter().map(|(line, _)| *line).collect();
    let upstream = Upstream::answering(answer("200 OK", &lines, "{}"));
    let got = Gateway::start(upstream.address).ask(call(CALL, &["Authorization: Bearer {K}"]));
    let mut names: Vec<String> = got.fields().into_iter().map(|(name, _)| name).collect();
    let mut expected: Vec<String> =
        DOWN.iter().filter(|(_, passes)| *passes).map(|(line, _)| split(line).0).collect();
    expected.retain(|name| name != "x-theirs");
    expected.push("content-length".to_owned());
    names.sort_unstable();
    expected.sort_unstable();
    assert_eq!(names, expected);
}

/// A request whose trailer section holds these lines, each announced.
fn with_trailers(lines: &[String]) -> String {
    let names: Vec<&str> = lines.iter().filter_map(|line| Some(line.split_once(':')?.0)).collect();
    format!(
        "POST {CALL} HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {TENANT_KEY}\r\n\
         Transfer-Encoding: chunked\r\nTrailer: {}\r\n\r\n2\r\n{{}}\r\n0\r\n{}\r\n\r\n",
        names.join(", "),
        lines.join("\r\n")
    )
}

/// A trailer section could smuggle what no head may bear: some servers merge the two (RFC 9110, 6.5.1).
#[test]
fn a_requests_trailers_bear_no_more_than_its_head_might() {
    let upstream = Upstream::answering(answer("200 OK", &[], "{}"));
    let gateway = Gateway::start(upstream.address);
    let mut lines: Vec<String> = UP
        .iter()
        .filter(|(line, passes)| !passes && !line.starts_with("Connection"))
        .map(|(line, _)| (*line).to_owned())
        .collect();
    lines.extend(["Authorization: Bearer {O}", "X-Api-Key: {O}", "Api-Key: {O}", "X-Leak: {K}"].map(fill));
    lines.extend(["X-Checksum: 1", "X-Empty:"].map(str::to_owned));
    assert_eq!(gateway.ask(with_trailers(&lines)).status(), 200);
    let mut seen = upstream.only();
    seen.trailers.sort_unstable();
    assert_eq!(seen.trailers, ["x-checksum: 1", "x-empty: "]);
    assert!(seen.complete && seen.text() == "{}");
}

#[test]
fn an_answers_trailers_bear_no_more_than_its_head_might() {
    let lines = ["Set-Cookie: a=b", &fill("X-Leak: {U}"), "Proxy-Authenticate: Basic", "X-Checksum: 1"];
    let announced = "Trailer: Set-Cookie, X-Leak, Proxy-Authenticate, X-Checksum";
    let upstream = Upstream::answering(chunked("200 OK", &[announced], &["{}"], &lines));
    let gateway = Gateway::start(upstream.address);
    let got = gateway.ask(call(CALL, &["Authorization: Bearer {K}", "TE: trailers"]));
    assert_eq!((got.trailers, got.complete), (vec!["x-checksum: 1".to_owned()], true));
    // HTTP/2 has no need to announce trailers, so nothing but our own rule holds them back.
    let request = Request::post(format!("http://{}{CALL}", gateway.address))
        .header("authorization", format!("Bearer {TENANT_KEY}"));
    let (answer, trailers) = http2::ask(gateway.address, request.body("{}").expect("a request"));
    assert_eq!(answer.body(), "{}");
    let names: Vec<&str> = trailers.keys().map(hyper::header::HeaderName::as_str).collect();
    assert_eq!(names, ["x-checksum"]);
    assert!(
        upstream
            .requests()
            .iter()
            .all(|seen| seen.field("authorization") == Some(format!("Bearer {UPSTREAM_KEY}")))
    );
}

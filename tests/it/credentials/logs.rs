//! No secret in anything that the gateway writes: not in a refusal, not in a log at any level.

use std::net::{Ipv4Addr, SocketAddr};

use hyper::Request;
use socket2::{Domain, Socket, Type};

use super::{CALL, EXPIRED, UNKNOWN_KEY, call, fill};
use crate::harness::{
    Client, Gateway, Message, OTHER_KEY, TENANT_KEY, UPSTREAM_KEY, Upstream, answer, http2, logs,
};

const SUBMIT: &str = "/wan/v1/services/aigc/video-generation/video-synthesis";
const KEY: &str = "Authorization: Bearer {K}";
const OTHERS: &str = "Authorization: Bearer {O}";

/// A gateway without a `/` mount, with small bodies, this timeout of the upstream, an admin token and an expired key.
fn gateway(upstream: SocketAddr, patience: &str) -> Gateway {
    Gateway::configured(&format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nworkers = 1\nmax_body_bytes = 100\n\
         timeouts = {{ upstream = \"{patience}\" }}\n\
         [admin]\ntoken = \"{ADMIN_TOKEN}\"\n\
         [[accounts]]\nname = \"main\"\nbase_url = \"http://{upstream}\"\nkeys = [\"{UPSTREAM_KEY}\"]\n\
         [[mounts]]\nprefix = \"/wan\"\n\
         [[tenants]]\nname = \"one\"\nkeys = [{{ id = \"one-key\", key = \"{TENANT_KEY}\" }}]\n\
         [[tenants]]\nname = \"two\"\nallow = [\"tasks\"]\nkeys = [{{ id = \"two-key\", key = \"{OTHER_KEY}\" }}, \
         {{ id = \"old\", key = \"{EXPIRED}\", expires = \"2020-01-01T00:00:00Z\" }}]\n"
    ))
}

const ADMIN_TOKEN: &str = "admin-token-40f3c2d7a96b815e";

/// Requests that are refused before anything is sent, by the reason that each gets.
fn refused_at_once() -> Vec<(&'static str, String)> {
    let wan = |path: &str| format!("/wan{path}");
    let long = "x".repeat(101);
    vec![
        ("no_key", call(&wan(CALL), &[])),
        ("no_key", call(&wan(CALL), &["Cookie: key={K}"])),
        ("unknown_key", call(&wan(CALL), &["x-api-key: {S}"])),
        ("unknown_key", call(&wan(CALL), &["Authorization: Bearer {U}"])),
        ("expired_key", call(&wan(CALL), &[&format!("api-key: {EXPIRED}")])),
        ("no_mount", call("/api/v1/tokens", &[KEY])),
        ("not_allowed", call("/wan/v1/tokens", &[KEY, "X-Debug: {K}"])),
        ("not_allowed", call(&wan(CALL), &[OTHERS])),
        ("async_required", call(SUBMIT, &[KEY])),
        ("bad_path", call("/wan/v1/x/../tokens", &[KEY])),
        ("bad_request", call(&wan(CALL), &[KEY, "x-api-key: {O}"])),
        ("bad_request", call(&format!("/wan{CALL}?key={{K}}"), &[KEY])),
        ("bad_request", call(&wan(CALL), &[KEY, "Host: elsewhere"])),
        ("bad_request", call(&wan(CALL), &[KEY, "Broken {K}"])),
        ("bad_request", call(&wan(CALL), &[KEY, "Content-Length: {K}"])),
        ("bad_request", format!("GET /wan/v1/tasks\0{TENANT_KEY} HTTP/1.1\r\n\r\n")),
        ("bad_request", fill("TRACE /wan HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {K}\r\n\r\n")),
        (
            "bad_request",
            fill("GET http://{K}@x/wan HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {K}\r\n\r\n"),
        ),
        (
            "bad_request",
            fill(&format!("GET /wan/v1/tasks HTTP/1.1\r\nHost: x\r\nx: {}\r\n\r\n", "{K}".repeat(3000))),
        ),
        ("bad_request", fill("GET /wan/api-ws/v1/realtime HTTP/1.1\r\nHost: x\r\nx-api-key: {K}\r\n\r\n")),
        (
            "body_too_large",
            fill(&format!(
                "POST /wan{CALL} HTTP/1.1\r\nHost: x\r\n{KEY}\r\nContent-Length: 101\r\n\r\n{long}"
            )),
        ),
        (
            "body_too_large",
            fill(&format!(
                "POST /wan{CALL} HTTP/1.1\r\nHost: x\r\n{KEY}\r\nTransfer-Encoding: chunked\r\n\r\n65\r\n{long}\r\n0\r\n\r\n"
            )),
        ),
    ]
}

fn reason(got: &Message) -> String {
    got.field("x-dashgate-reason").unwrap_or_else(|| panic!("no refusal: {}{}", got.head, got.text()))
}

#[test]
fn no_secret_is_ever_written() {
    logs::capture();
    let mut written = String::new();
    let mut note =
        |got: Message| written.push_str(&format!("{}{}{:?}\n", got.head, got.text(), got.trailers));

    let upstream = Upstream::answering(answer("200 OK", &[&fill("X-Debug: {U}")], r#"{"output":{}}"#));
    let serving = gateway(upstream.address, "300s");
    for (expected, request) in refused_at_once() {
        let got = serving.ask(&request);
        assert_eq!(reason(&got), expected, "{request:?}");
        note(got);
    }
    // Calls that pass, and a submit whose answer names no task, which is logged as a warning.
    note(serving.ask(call(&format!("/wan{CALL}"), &[KEY, "X-Debug: {K}"])));
    note(serving.ask(call(SUBMIT, &[KEY, "X-DashScope-Async: enable"])));
    note(serving.ask(call("/wan/v1/tasks/x/cancel", &[KEY])));
    note(serving.ask(fill("GET /wan/v1/tasks?task_id={O} HTTP/1.1\r\nHost: x\r\nx-api-key: {K}\r\n\r\n")));
    let request = Request::post(format!("http://{}/wan{CALL}?key={UNKNOWN_KEY}", serving.address))
        .header("authorization", format!("Bearer {TENANT_KEY}"))
        .header("x-debug", TENANT_KEY);
    let (answer, _) = http2::ask(serving.address, request.body("{}").expect("a request"));
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers().get("x-debug"), None);

    // Upstreams: one that is not there, one that hangs up, one that is silent, one that talks nonsense.
    // The socket is bound and does not listen, so that no other program can take its port.
    let nobody = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    nobody.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("a port");
    let nowhere = nobody.local_addr().expect("an address").as_socket().expect("of IP");
    let hanging_up = Upstream::start(|_, _| false);
    let silent = Upstream::start(|_, _| true);
    let nonsense = Upstream::answering(fill("HTTP/9 {U}\r\n{K}\r\n\r\n"));
    for (address, expected, patience) in [
        (nowhere, "upstream_unreachable", "300s"),
        (hanging_up.address, "upstream_lost", "300s"),
        (silent.address, "upstream_timeout", "20ms"),
        (nonsense.address, "upstream_lost", "300s"),
    ] {
        let got = gateway(address, patience).ask(call(SUBMIT, &[KEY, "X-DashScope-Async: enable"]));
        assert_eq!(reason(&got), expected);
        note(got);
    }
    // An upstream whose answer breaks off.
    let cut = Upstream::answering(fill("HTTP/1.1 200 OK\r\nContent-Length: 99\r\nX: {U}\r\n\r\n{U}"));
    let gateway = gateway(cut.address, "300s");
    let mut leaving = Client::connect(gateway.address);
    leaving.send(call(&format!("/wan{CALL}"), &[KEY]));
    let head = leaving.head();
    assert_eq!(head.field("x"), None);
    leaving.leave();
    let lines = serving.lines().len();
    assert!(lines >= refused_at_once().len() + 5, "{lines} lines in the access log");
    let logs = [serving, gateway].map(Gateway::stop);
    let logs = logs.map(|folder| std::fs::read_to_string(folder.path().join("access.log")).expect("a log"));

    let logged = logs::captured() + &logs.concat();
    assert!(logged.contains("\"key_id\":\"one-key\""), "nothing was captured");
    assert!(logged.contains("names no task") && logged.contains("no answer from the upstream"));
    for secret in [TENANT_KEY, OTHER_KEY, UPSTREAM_KEY, UNKNOWN_KEY, EXPIRED, ADMIN_TOKEN] {
        assert!(!written.contains(secret), "{secret} was told to a client");
        let line = logged.lines().find(|line| line.contains(secret));
        assert_eq!(line, None, "{secret} was logged");
    }
}

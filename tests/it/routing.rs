//! Routing: listed operations pass under every mount; nothing else reaches the upstream, in any spelling of its path.

pub(crate) mod endpoints;
pub(crate) mod spellings;

use std::io::Write;
use std::net::{SocketAddr, TcpStream};

use crate::harness::{
    Client, Envelope, Gateway, Message, OTHER_KEY, TENANT_KEY, UPSTREAM_KEY, Upstream, answer,
    assert_refused, message,
};
use endpoints::{Endpoint, Treatment};
use spellings::{Expected, PlaceholderIds, Spelling};

const SUBMIT: &str = "/api/v1/services/aigc/video-generation/video-synthesis";
const UNKNOWN_TASK: &str = "00000000-0000-4000-8000-000000000000";

/// Answers a submit with its task, and all else with `"passed":1`; a query, with the state of its task too.
fn dashscope(request: &Message, stream: &mut TcpStream) -> bool {
    let is_submit = request.field("x-dashscope-async").is_some();
    let body = match request.field("x-task") {
        Some(id) if is_submit => format!(r#"{{"output":{{"task_id":"{id}","task_status":"PENDING"}}}}"#),
        _ => match request
            .start_line()
            .strip_prefix("GET /api/v1/tasks/")
            .and_then(|rest| rest.split(' ').next())
        {
            Some(id) => format!(r#"{{"output":{{"task_id":"{id}","task_status":"RUNNING"}},"passed":1}}"#),
            None => r#"{"passed":1}"#.to_owned(),
        },
    };
    stream.write_all(&answer("200 OK", &["Content-Type: application/json"], &body)).is_ok()
}

fn authorization(key: &str) -> String {
    format!("Authorization: Bearer {key}")
}

/// Has the key's tenant submit a task of this id.
fn submit(gateway: &Gateway, key: &str, id: &str) {
    let fields = [authorization(key), format!("X-Task: {id}"), "X-DashScope-Async: enable".into()];
    let answer =
        gateway.ask(message(&format!("POST {SUBMIT}"), &fields.each_ref().map(String::as_str), "{}"));
    assert_eq!(answer.json()["output"]["task_id"], id);
}

/// The fields that an endpoint's call needs beside a key.
fn fields(endpoint: &Endpoint) -> &'static [&'static str] {
    match endpoint.fate {
        Treatment::Submits => &["X-DashScope-Async: enable"],
        Treatment::Shakes => &[
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        ],
        Treatment::Passes | Treatment::Local(_) | Treatment::Refused(..) | Treatment::Denied => &[],
    }
}

fn call(method: &str, target: &str, endpoint: &Endpoint, key: Option<&str>) -> String {
    let key = key.map(authorization);
    let fields: Vec<&str> = key.as_deref().into_iter().chain(fields(endpoint).iter().copied()).collect();
    let body = match method {
        "POST" if endpoint.path.ends_with("/responses") => r#"{"store":false}"#,
        "POST" if endpoint.fate != Treatment::Shakes => "{}",
        _ => "",
    };
    message(&format!("{method} {target}"), &fields, body)
}

#[test]
fn every_endpoint_in_every_spelling() {
    let upstream = Upstream::start(dashscope);
    let gateway = Gateway::with(upstream.address, "[poll]\nmax_age = \"0s\"", "");
    let (own, foreign) = ("1de0a1b2-0000-4000-8000-0000000000aa", "2de0a1b2-0000-4000-8000-0000000000bb");
    submit(&gateway, TENANT_KEY, own);
    submit(&gateway, OTHER_KEY, foreign);
    let names = PlaceholderIds { own, foreign, none: UNKNOWN_TASK };
    upstream.take();
    println!(
        "\nP passed as it should   L answered here   D 403 not_allowed   B 400 bad_path   - no such spelling"
    );
    let (mut calls, mut least) = (0, usize::MAX);
    for (number, endpoint) in endpoints::all().iter().enumerate() {
        let spellings = spellings::of(endpoint, &names);
        if number == 0 {
            let header: Vec<_> = spellings.iter().map(|spelling| spelling.name).collect();
            println!("in order: {}\n", header.join(" | "));
        }
        let row: String =
            spellings.iter().map(|spelling| try_out(&gateway, &upstream, endpoint, spelling)).collect();
        let query = if endpoint.query.is_empty() { "" } else { "?" };
        println!("{row}  {:6} {}{query}{}", endpoint.method, endpoint.path, endpoint.query);
        let tried = row.chars().filter(|letter| *letter != '-').count();
        (calls, least) = (calls + tried, least.min(tried));
    }
    println!("\n{calls} calls, at least {least} spellings of each endpoint");
    assert!(least >= 6);
    let unseen = upstream.take();
    assert!(
        unseen.iter().all(|request| request.start_line().starts_with("GET /api/v1/tasks/1de0a1b2")),
        "something came when nobody looked: {unseen:?}"
    );
}

/// Makes the call, checks its result on both sides, and returns its letter.
fn try_out(gateway: &Gateway, upstream: &Upstream, endpoint: &Endpoint, spelling: &Spelling) -> char {
    let Some(target) = &spelling.target else { return '-' };
    let request = call(spelling.method, target, endpoint, Some(TENANT_KEY));
    let what = request.lines().next().unwrap_or_default().to_owned();
    let got = gateway.ask(request);
    let mut seen = upstream.take();
    if endpoint.path != "/api/v1/tasks/{own}" {
        // After a cancel the gateway queries the task by itself, at any time.
        seen.retain(|request| !request.start_line().starts_with("GET /api/v1/tasks/"));
    }
    match &spelling.expected {
        Expected::Passes(path) => {
            // The gateway's own query has one form, whatever the client's form is.
            let asks = spelling.method == "GET" && path.contains("/tasks/");
            let path = if asks { path.trim_end_matches('/') } else { path };
            assert_eq!(seen.len(), 1, "{what}: {}{}", got.head, got.text());
            assert_eq!(seen[0].start_line(), format!("{} {path} HTTP/1.1", spelling.method), "{what}");
            assert_eq!(seen[0].field("authorization"), Some(format!("Bearer {UPSTREAM_KEY}")), "{what}");
            assert!(!seen[0].holds(TENANT_KEY), "{what}");
            assert_eq!((got.status(), got.json()["passed"].as_u64()), (200, Some(1)), "{what}");
            assert_eq!(got.field("x-dashgate-reason"), None, "{what}");
            'P'
        }
        Expected::Local(status) => {
            assert_eq!((got.status(), seen.len()), (*status, 0), "{what}");
            assert_eq!(got.field("x-dashgate-reason"), None, "{what}");
            assert_eq!(got.json()["request_id"].as_str(), got.field("x-request-id").as_deref(), "{what}");
            'L'
        }
        Expected::Refused(status, reason) => {
            assert_eq!((got.status(), seen.len()), (*status, 0), "{what}");
            assert_eq!(got.field("x-dashgate-reason").as_deref(), Some(*reason), "{what}");
            'D'
        }
        Expected::Denied => {
            assert!(seen.is_empty(), "{what} reached the upstream as {}", seen[0].start_line());
            let envelope = if spelling.guesses { shape(&got) } else { endpoint.envelope() };
            let refusal = assert_refused(&got, 403, "not_allowed", code("AccessDenied", envelope), envelope);
            assert!(refusal.contains(spelling.method), "{refusal}");
            'D'
        }
        Expected::BadPath => {
            assert!(seen.is_empty(), "{what} reached the upstream as {}", seen[0].start_line());
            let envelope = if spelling.guesses { shape(&got) } else { endpoint.envelope() };
            assert_refused(&got, 400, "bad_path", code("InvalidParameter", envelope), envelope);
            'B'
        }
    }
}

/// The envelope of the answer itself, for a path that does not show which envelope it must have.
fn shape(got: &Message) -> Envelope {
    match got.json() {
        body if body["type"] == "error" => Envelope::Anthropic,
        body if body.get("error").is_some() => Envelope::OpenAi,
        _ => Envelope::Flat,
    }
}

/// A code as the envelope spells it.
fn code(native: &'static str, envelope: Envelope) -> &'static str {
    match (native, envelope) {
        (native, Envelope::Flat) => native,
        ("AccessDenied", Envelope::OpenAi) => "access_denied",
        ("InvalidApiKey", Envelope::OpenAi) => "invalid_api_key",
        ("InvalidParameter", Envelope::OpenAi) => "invalid_parameter",
        ("AccessDenied", Envelope::Anthropic) => "permission_error",
        ("InvalidApiKey", Envelope::Anthropic) => "authentication_error",
        ("InvalidParameter", Envelope::Anthropic) => "invalid_request_error",
        (other, Envelope::OpenAi | Envelope::Anthropic) => panic!("no code for {other}"),
    }
}

#[test]
fn no_endpoint_says_more_to_a_stranger_than_that_he_is_one() {
    let upstream = Upstream::start(dashscope);
    let gateway = Gateway::with(upstream.address, "auth_failures_per_second = 0", "");
    for endpoint in endpoints::all() {
        let target = endpoint.path.replace(['{', '}'], "");
        let unknown_key = "sk-nobody-00000000000000000000";
        for (key, reason, refusal) in [
            (None, "no_key", "No API-key provided."),
            (Some(unknown_key), "unknown_key", "Invalid API-key provided."),
            (Some(UPSTREAM_KEY), "unknown_key", "Invalid API-key provided."),
        ] {
            let got = gateway.ask(call(endpoint.method, &target, &endpoint, key));
            let envelope = endpoint.envelope();
            assert_eq!(assert_refused(&got, 401, reason, code("InvalidApiKey", envelope), envelope), refusal);
        }
    }
    assert_eq!(upstream.connections(), 0);
}

/// A gateway with these mounts, in this order; those that end in `=unified` speak that dialect.
fn mounted(upstream: SocketAddr, base_path: &str, mounts: &[&str]) -> Gateway {
    let mount = |text: &&str| match text.strip_suffix("=unified") {
        Some(prefix) => format!("[[mounts]]\nprefix = \"{prefix}\"\ndialect = \"unified\"\n"),
        None => format!("[[mounts]]\nprefix = \"{text}\"\n"),
    };
    let mounts: String = mounts.iter().map(mount).collect();
    Gateway::configured(&format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nworkers = 1\n\
         [[accounts]]\nname = \"main\"\nbase_url = \"http://{upstream}{base_path}\"\nkeys = [\"{UPSTREAM_KEY}\"]\n\
         {mounts}\
         [[tenants]]\nname = \"one\"\nkeys = [{{ id = \"one-key\", key = \"{TENANT_KEY}\" }}]\n"
    ))
}

fn post(gateway: &Gateway, target: &str) -> Message {
    gateway.ask(message(&format!("POST {target}"), &[&authorization(TENANT_KEY)], "{}"))
}

#[test]
fn a_path_without_a_mount_is_told_which_there_are() {
    let upstream = Upstream::start(dashscope);
    let gateway = mounted(upstream.address, "", &["/wan", "/alibabacloudapi"]);
    for path in ["/api/v1/tokenizer", "/", "/wanx/api/v1/tokenizer", "/WAN/api/v1/tokenizer", "/wa"] {
        let refusal = assert_refused(&post(&gateway, path), 404, "no_mount", "InvalidURL", Envelope::Flat);
        assert_eq!(refusal, format!("No mount takes the path {path}; there are: /alibabacloudapi, /wan."));
    }
    assert_eq!(upstream.connections(), 0);
    assert_eq!(post(&gateway, "/wan/api/v1/tokenizer").status(), 200);
}

#[test]
fn the_longest_prefix_wins_whatever_the_order() {
    let upstream = Upstream::start(dashscope);
    let mut mounts = ["/", "/wan", "/wan/v1=unified"];
    for _ in 0..2 {
        let gateway = mounted(upstream.address, "", &mounts);
        // Below /wan, where `/v1` is another mount's.
        assert_eq!(post(&gateway, "/wan/api/v1/tokenizer").status(), 200);
        assert_eq!(upstream.take()[0].start_line(), "POST /api/v1/tokenizer HTTP/1.1");
        let got = post(&gateway, "/wan/v1/tokenizer");
        assert_refused(&got, 403, "not_allowed", "access_denied", Envelope::OpenAi);
        // A prefix ends where a segment does: these paths belong to the root mount.
        for path in ["/wanx/api/v1/tokenizer", "/wan%78/api/v1/tokenizer", "/wan.d/v1/tokenizer"] {
            assert_refused(&post(&gateway, path), 403, "not_allowed", "AccessDenied", Envelope::Flat);
        }
        assert_refused(&post(&gateway, "/wan"), 403, "not_allowed", "AccessDenied", Envelope::Flat);
        // An escaped letter in the prefix names the same mount.
        assert_eq!(post(&gateway, "/w%61n/api/v1/tokenizer").status(), 200);
        assert_eq!(upstream.take().len(), 1);
        mounts.reverse();
    }
}

#[test]
fn a_unified_mount_says_in_its_own_words_what_it_does_not_pass_on() {
    let upstream = Upstream::start(dashscope);
    let gateway = mounted(upstream.address, "", &["/", "/v1=unified"]);
    for (method, path) in
        [("POST", "/v1/videos/x/remix"), ("GET", "/v1/tasks"), ("GET", "/v1"), ("POST", "/v1/tokens")]
    {
        let got = gateway.ask(message(&format!("{method} {path}"), &[&authorization(TENANT_KEY)], ""));
        let refusal = assert_refused(&got, 403, "not_allowed", "access_denied", Envelope::OpenAi);
        assert_eq!(refusal, format!("Access denied. This gateway does not pass on {method} {path}."));
        let got = gateway.ask(message(&format!("{method} {path}"), &[], ""));
        assert_refused(&got, 401, "no_key", "invalid_api_key", Envelope::OpenAi);
        let got = gateway.ask(message(&format!("{method} {path}/%2e%2e/x"), &[], ""));
        assert_refused(&got, 400, "bad_path", "invalid_parameter", Envelope::OpenAi);
    }
    assert_eq!(upstream.connections(), 0);
}

#[test]
fn a_refused_path_is_told_the_one_that_would_have_worked() {
    let upstream = Upstream::start(dashscope);
    let gateway = mounted(upstream.address, "", &["/", "/wan", "/videos=unified"]);
    for (line, expected) in [
        ("POST /v1/chat/completions", "POST /compatible-mode/v1/chat/completions"),
        ("POST /wan/v1/chat/completions", "POST /wan/compatible-mode/v1/chat/completions"),
        ("POST /wan/compatible-mode/chat/completions", "POST /wan/compatible-mode/v1/chat/completions"),
        ("POST /videos/chat/completion", "POST /compatible-mode/v1/chat/completions"),
        ("GET /wan/api/v1/api/v1/tasks/x", "GET /wan/api/v1/tasks/x"),
        ("POST /wan/v1/rerank", "POST /wan/compatible-api/v1/reranks"),
        ("GET /compatible-mode/v1/embeddings", "POST /compatible-mode/v1/embeddings"),
    ] {
        let got = gateway.ask(message(line, &[&authorization(TENANT_KEY)], ""));
        assert_eq!(
            (got.status(), got.field("x-dashgate-reason").as_deref()),
            (403, Some("not_allowed")),
            "{line}"
        );
        let told = format!("Access denied. This gateway does not pass on {line}. It takes {expected}.");
        assert!(got.text().contains(&told), "{}", got.text());
    }
    // Calls of the whole account have no other way.
    for line in ["GET /api/v1/tokens", "GET /wan/api/v1/files", "POST /api/v1/threads/t/messages"] {
        let got = gateway.ask(message(line, &[&authorization(TENANT_KEY)], ""));
        assert!(got.text().contains(&format!("does not pass on {line}.\"")), "{}", got.text());
    }
    let got = gateway.ask(message("POST /api/v1/tokens", &[&authorization(TENANT_KEY)], ""));
    assert!(got.text().contains("its tenant has no `tokens`"), "{}", got.text());
    assert_eq!(upstream.connections(), 0);
}

#[test]
fn a_call_that_the_tenant_may_not_make_is_told_the_setting() {
    let upstream = Upstream::start(dashscope);
    let gateway = Gateway::with(upstream.address, "", r#"allow = ["tasks"]"#);
    let got = post(&gateway, "/api/v1/tokenizer");
    let told = assert_refused(&got, 403, "not_allowed", "AccessDenied", Envelope::Flat);
    let what = "POST /api/v1/tokenizer for this key: `allow` of its tenant lacks generate";
    assert_eq!(told, format!("Access denied. This gateway does not pass on {what}."));
}

#[test]
fn the_path_of_a_base_url_stands_before_what_the_client_asked() {
    let upstream = Upstream::start(dashscope);
    let gateway = mounted(upstream.address, "/behind/it", &["/wan"]);
    for (path, seen) in [
        ("/wan/v1/tokenizer?a=%2e%2e/b", "/behind/it/api/v1/tokenizer?a=%2e%2e/b"),
        ("/wan/compatible-mode/v1/embeddings/", "/behind/it/compatible-mode/v1/embeddings/"),
    ] {
        assert_eq!(post(&gateway, path).status(), 200);
        assert_eq!(upstream.take()[0].start_line(), format!("POST {seen} HTTP/1.1"));
    }
}

/// The gateway does not check heads behind a WebSocket handshake below hyper, so a failed handshake must end its
/// connection.
#[test]
fn a_failed_handshake_ends_its_connection() {
    let upstream = Upstream::answering(answer("200 OK", &[], "{}"));
    let gateway = Gateway::start(upstream.address);
    let key = format!("Authorization: Bearer {TENANT_KEY}");
    let upgrade = ["Connection: upgrade", "Upgrade: websocket", &key];
    let mut client = Client::connect(gateway.address);
    let first = message("GET /api/v1/public-keys/latest", &upgrade, "");
    let second = message("GET /api/v1/public-keys/latest", &[&key], "");
    let got = client.ask(first + &second);
    assert_eq!((got.status(), got.field("connection").as_deref()), (200, Some("close")));
    assert_eq!(client.rest(), b"");
    assert_eq!(upstream.requests().len(), 1);
}

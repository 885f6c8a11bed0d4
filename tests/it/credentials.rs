//! The tenant's key never reaches the upstream, the upstream's never the client, and neither is written
//! anywhere; header fields cross the gateway by the rules.

mod fields;
mod logs;

use crate::harness::{
    Envelope, Gateway, Message, OTHER_KEY, TENANT_KEY, UPSTREAM_KEY, Upstream, answer, assert_refused,
    eventually, message,
};

const CALL: &str = "/api/v1/services/aigc/text-generation/generation";
const UNKNOWN_KEY: &str = "sk-nobody-c0ffee00c0ffee00c0ffee";
const EXPIRED: &str = "sk-expired-71d3c5a8e94b206f1d2e";

/// `{K}` stands for the key of tenant one, `{O}` for that of two, `{S}` for nobody's, `{U}` for the upstream's.
fn fill(text: &str) -> String {
    let filled = text.replace("{K}", TENANT_KEY).replace("{O}", OTHER_KEY);
    filled.replace("{S}", UNKNOWN_KEY).replace("{U}", UPSTREAM_KEY)
}

/// A call with these lines in its head and no other.
fn call(target: &str, lines: &[&str]) -> String {
    let lines: Vec<String> = lines.iter().map(|line| fill(line)).collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    message(&fill(&format!("POST {target}")), &lines, "{}")
}

fn world() -> (Upstream, Gateway) {
    let upstream = Upstream::answering(answer("200 OK", &[], "{}"));
    let gateway = Gateway::with(
        upstream.address,
        "",
        &format!(
            "[[tenants]]\nname = \"three\"\nkeys = [{{ id = \"old\", key = \"{EXPIRED}\", expires = \"2020-01-01T00:00:00Z\" }}]"
        ),
    );
    (upstream, gateway)
}

/// Checks that the upstream got the account's key once, and nothing else that could be a key.
fn assert_swapped(seen: &Message) {
    let keys: Vec<_> = seen
        .fields()
        .into_iter()
        .filter(|(name, _)| name.contains("key") || name == "authorization")
        .collect();
    assert_eq!(keys, [("authorization".to_owned(), format!("Bearer {UPSTREAM_KEY}"))], "{}", seen.head);
    for secret in [TENANT_KEY, OTHER_KEY, UNKNOWN_KEY] {
        assert!(!seen.holds(secret), "{}", seen.head);
    }
}

#[test]
fn a_key_is_swapped_wherever_a_client_puts_it() {
    let (upstream, gateway) = world();
    let places: [&[&str]; 15] = [
        &["Authorization: Bearer {K}"],
        &["authorization: bearer {K}"],
        &["AUTHORIZATION: BEARER {K}"],
        &["Authorization: bEaReR   {K}  "],
        &["X-API-Key: {K}"],
        &["x-api-key:{K}"],
        &["api-key: {K}"],
        &["API-KEY:\t{K}\t"],
        &["Authorization: Bearer {K}", "x-api-key: {K}"],
        &["Authorization: Bearer {K}", "Authorization: bearer {K}"],
        &["x-api-key: {K}", "api-key: {K}", "Authorization: Bearer {K}"],
        &["Authorization: Bearer {K}", "x-api-key:"],
        // The value is no virtual key, so it does not authenticate; the upstream must not get it either.
        &["Authorization: Basic c2VjcmV0OnNlY3JldA==", "x-api-key: {K}"],
        &["Authorization: Bearer {K}", "Proxy-Authorization: Bearer {O}"],
        &["Authorization: Bearer", "api-key: {K}"],
    ];
    for lines in places {
        assert_eq!(gateway.ask(call(CALL, lines)).status(), 200, "{lines:?}");
        let seen = upstream.take();
        assert_eq!(seen.len(), 1, "{lines:?}");
        assert_swapped(&seen[0]);
        assert!(!seen[0].holds("c2VjcmV0"), "{}", seen[0].head);
    }
}

#[test]
fn two_different_keys_are_refused() {
    let (upstream, gateway) = world();
    let pairs: [&[&str]; 6] = [
        &["Authorization: Bearer {K}", "x-api-key: {O}"],
        &["Authorization: Bearer {K}", "Authorization: Bearer {O}"],
        &["x-api-key: {K}", "api-key: {O}"],
        &["x-api-key: {K}", "x-api-key: {S}"],
        &["Authorization: Bearer {S}", "api-key: {K}"],
        &["Authorization: Bearer {K}", "x-api-key: {K}", "api-key: {O}"],
    ];
    for lines in pairs {
        let got = gateway.ask(call(CALL, lines));
        let told = assert_refused(&got, 400, "bad_request", "InvalidParameter", Envelope::Flat);
        assert_eq!(told, "The request is refused: it bears two different keys.");
    }
    assert_eq!(upstream.connections(), 0);
}

#[test]
fn who_has_no_valid_key_is_told_so_and_no_more() {
    let (upstream, gateway) = world();
    let nearly = format!("Authorization: Bearer {}", &TENANT_KEY[..TENANT_KEY.len() - 1]);
    let longer = format!("Authorization: Bearer {TENANT_KEY}0");
    let upper = format!("Authorization: Bearer {}", TENANT_KEY.to_ascii_uppercase());
    let expired = format!("api-key: {EXPIRED}");
    let (none, invalid) = ("No API-key provided.", "Invalid API-key provided.");
    let bearer = "No API-key provided. The field Authorization must be `Bearer`, a space, and the key.";
    let cases: [(&[&str], &str, &str); 14] = [
        (&[], "no_key", none),
        (&["Authorization:"], "no_key", none),
        (&["Authorization: Bearer"], "no_key", bearer),
        (&["Authorization: {K}"], "no_key", bearer),
        (&["Authorization: Bearer{K}"], "no_key", bearer),
        (&["Authorization: Basic {K}"], "no_key", bearer),
        (&["Cookie: authorization={K}"], "no_key", none),
        (&["Authorization: Bearer {S}"], "unknown_key", invalid),
        (&["x-api-key: {U}"], "unknown_key", invalid),
        (&["Authorization: Bearer {K}, Bearer {K}"], "unknown_key", invalid),
        (&[&nearly], "unknown_key", invalid),
        (&[&longer], "unknown_key", invalid),
        (&[&upper], "unknown_key", invalid),
        (&[&expired], "expired_key", invalid),
    ];
    for (lines, reason, message) in cases {
        let got = gateway.ask(call(CALL, lines));
        let told = assert_refused(&got, 401, reason, "InvalidApiKey", Envelope::Flat);
        assert_eq!(told, message, "{lines:?}");
    }
    assert_eq!(upstream.connections(), 0);
}

/// A client that mixes up two variables names its key as the model. The body passes as it came, but nothing of the
/// gateway's own keeps the name.
#[test]
fn a_secret_in_the_place_of_the_model_is_kept_nowhere() {
    let body = r#"{"output":{"task_id":"t-1","task_status":"PENDING"},"data":{"upload_dir":"dashscope-instant/x/y"}}"#;
    let upstream = Upstream::answering(answer("200 OK", &[], body));
    let gateway = Gateway::start(upstream.address);
    let secret = "sk-elsewhere-0123456789abcdef";
    let key = format!("Authorization: Bearer {TENANT_KEY}");
    let fields = [&*key, "X-DashScope-Async: enable"];
    let submit = "POST /api/v1/services/aigc/video-generation/video-synthesis";
    let named = format!(r#"{{"model":"{secret}"}}"#);
    for request in [
        message(submit, &fields, &named),
        message("POST /compatible-mode/v1/chat/completions", &[&key], &named),
        message(&format!("GET /api/v1/uploads?action=getPolicy&model={secret}"), &[&key], ""),
    ] {
        let got = gateway.ask(request);
        assert_eq!(got.status(), 200, "{}", got.text());
    }
    assert_eq!(upstream.take()[0].text(), named);
    let own_list = gateway.ask(message("GET /api/v1/tasks", &[&key], "")).text();
    assert!(own_list.contains("t-1"), "{own_list}");
    let of_admin = ["GET /admin/tasks?tenant=one", "GET /admin/accounts", "GET /metrics"];
    let shown = of_admin.map(|line| gateway.administer(line, "").text()).concat() + &own_list;
    assert!(!shown.contains(secret), "{shown}");
    eventually("it is logged", || gateway.lines().len() == 4);
    for entry in std::fs::read_dir(gateway.stop().path()).expect("a directory") {
        let path = entry.expect("an entry").path();
        let bytes = std::fs::read(&path).expect("a file");
        assert!(memchr::memmem::find(&bytes, secret.as_bytes()).is_none(), "{} has it", path.display());
    }
}

#[test]
fn a_key_in_the_target_goes_nowhere() {
    let (upstream, gateway) = world();
    let escaped = TENANT_KEY.replace("sk-", "%73k%2D");
    let (spelled, whole) =
        (format!("{CALL}?api_key={escaped}"), TENANT_KEY.bytes().map(|byte| format!("%{byte:02X}")));
    let whole = format!("{CALL}?x={}", whole.collect::<String>());
    for target in [
        &*format!("{CALL}?api_key={{K}}"),
        &format!("{CALL}?a=b&{{K}}"),
        &spelled,
        &whole,
        // A refusal would name these.
        "/api/v1/tokens/{K}",
        "/api/v1/tasks/{K}/cancel",
        "/api/v1/tasks/%73{K}",
    ] {
        let got = gateway.ask(call(target, &["Authorization: Bearer {K}"]));
        let told = assert_refused(&got, 400, "bad_request", "InvalidParameter", Envelope::Flat);
        assert!(told.contains("its target holds the API key"), "{told}");
        assert!(!got.holds(TENANT_KEY));
    }
    assert_eq!(upstream.connections(), 0);
}

#[test]
fn a_key_in_another_field_goes_nowhere() {
    let (upstream, gateway) = world();
    let others: [&[&str]; 6] = [
        &["X-Debug: curl -H 'Authorization: Bearer {K}'"],
        &["Referer: http://example.com/?key={K}#x"],
        &["User-Agent: {K}"],
        &["X-Twice: harmless", "X-Twice: {K}"],
        &["X-DashScope-Plugin: {\"key\":\"{K}\"}"],
        &["Sec-WebSocket-Protocol: openai-insecure-api-key.{K}"],
    ];
    for lines in others {
        let mut all = vec!["Authorization: Bearer {K}", "X-Kept: yes"];
        all.extend(lines);
        assert_eq!(gateway.ask(call(CALL, &all)).status(), 200);
        let seen = upstream.take();
        assert_swapped(&seen[0]);
        assert_eq!(seen[0].field("x-kept").as_deref(), Some("yes"));
    }
}

#[test]
fn what_a_client_calls_its_connection_does_not_take_our_key_off() {
    let (upstream, gateway) = world();
    for connection in [
        "Connection: authorization",
        "Connection: close, Authorization, x-api-key, host",
        "Connection: keep-alive\r\nConnection: AUTHORIZATION",
        "Connection: content-length, authorization",
    ] {
        let got = gateway.ask(call(CALL, &["Authorization: Bearer {K}", connection]));
        assert_eq!(got.status(), 200, "{connection}");
        let seen = upstream.take();
        assert_swapped(&seen[0]);
        assert_eq!(seen[0].field("host"), Some(upstream.address.to_string()));
        assert_eq!((seen[0].text().as_str(), seen[0].field("content-length").as_deref()), ("{}", Some("2")));
    }
}

#[test]
fn what_an_upstream_reflects_never_reaches_the_client() {
    let reflecting = [
        answer("200 OK", &[&fill("X-Debug: key={U}"), "X-Kept: yes"], "{}"),
        answer("200 OK", &[&fill("Set-Cookie: acw_tc={U};path=/;HttpOnly"), "X-Kept: yes"], "{}"),
        answer("200 OK", &["X-Twice: harmless", &fill("X-Twice: {U}"), "X-Kept: yes"], "{}"),
        answer("302 Found", &[&fill("Location: https://elsewhere.example/?api_key={U}"), "X-Kept: yes"], ""),
        answer("401 Unauthorized", &[&fill("WWW-Authenticate: Bearer realm=\"{U}\""), "X-Kept: yes"], "{}"),
        answer(&fill("200 OK {U}"), &["X-Kept: yes"], "{}"),
    ];
    for bytes in reflecting {
        let upstream = Upstream::answering(bytes);
        let gateway = Gateway::start(upstream.address);
        let got = gateway.ask(call(CALL, &["Authorization: Bearer {K}"]));
        assert!(!got.holds(UPSTREAM_KEY), "{}", got.head);
        assert_eq!(got.field("x-kept").as_deref(), Some("yes"), "{}", got.head);
        assert_eq!(got.field("set-cookie"), None);
    }
}

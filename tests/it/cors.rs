//! CORS: pages of a mount's origins may call it from a browser and read answers and refusals; no other page may.

use crate::harness::calls::{bearer, check_refusal, generate};
use crate::harness::{
    Client, Envelope, Gateway, Message, UPSTREAM_KEY, Upstream, answer, assert_refused, configuration,
    message,
};

const PAGE: &str = "Origin: https://app.example.com";
const OTHER_PAGE: &str = "Origin: https://evil.example";

/// A gateway whose mounts but `/wan` may be called by a page, and whose addresses may fail to authenticate hardly ever.
fn gateway(upstream: &Upstream) -> Gateway {
    let server = "listen = \"127.0.0.1:0\"\nworkers = 1\nauth_failures_per_second = 1";
    let text = configuration(server, &[("main", upstream.address, &[UPSTREAM_KEY], "")], "");
    let cors = "cors = { origins = [\"https://app.example.com\", \"app://obsidian.md\"] }";
    let mounts =
        format!("prefix = \"/\"\n{cors}\n[[mounts]]\nprefix = \"/v1\"\ndialect = \"unified\"\n{cors}");
    Gateway::configured(&text.replace("prefix = \"/\"\n", &format!("{mounts}\n")))
}

fn upstream() -> Upstream {
    // DashScope's own leave for pages must not pass.
    let fields =
        ["Access-Control-Allow-Origin: *", "Access-Control-Allow-Credentials: true", "X-Request-Id: up-1"];
    Upstream::answering(answer("200 OK", &fields, "{}"))
}

fn preflight(path: &str, origin: &str) -> String {
    let asked = "Access-Control-Request-Headers: authorization,content-type,x-stainless-os";
    message(&format!("OPTIONS {path}"), &[origin, "Access-Control-Request-Method: POST", asked], "")
}

/// The fields of the answer that speak to browsers.
fn leave(answer: &Message) -> Vec<String> {
    let fields = answer.fields().into_iter();
    let of_cors = fields.filter(|(name, _)| name.starts_with("access-control-") || name == "vary");
    of_cors.map(|(name, _)| name).collect()
}

fn check_shared(answer: &Message, origin: &str) {
    let shown = &answer.head;
    assert_eq!(answer.field("access-control-allow-origin").as_deref(), Some(origin), "{shown:?}");
    assert_eq!(answer.field("vary").as_deref(), Some("origin"), "{shown:?}");
    assert_eq!(answer.field("access-control-allow-credentials"), None, "{shown:?}");
    let exposed = answer.field("access-control-expose-headers").expect("names");
    let exposed: Vec<&str> = exposed.split(", ").collect();
    for name in [
        "x-request-id",
        "retry-after",
        "x-dashgate-reason",
        "x-dashgate-cost",
        "age",
        "idempotency-replayed",
        "x-should-retry",
    ] {
        assert!(exposed.contains(&name), "{name}: {exposed:?}");
    }
}

#[test]
fn a_preflight_is_answered_without_a_key_and_counts_as_no_failure() {
    let upstream = upstream();
    let gateway = gateway(&upstream);
    let mut client = Client::connect(gateway.address);
    for _ in 0..20 {
        for path in [
            "/compatible-mode/v1/chat/completions",
            "/api/v1/services/aigc/video-generation/video-synthesis",
            "/v1/videos",
            "/apps/anthropic/v1/messages",
        ] {
            let got = client.ask(preflight(path, PAGE));
            assert_eq!((got.status(), got.text().as_str()), (204, ""), "{path}");
            check_shared(&got, "https://app.example.com");
            let allowed = |name: &str| got.field(&format!("access-control-{name}")).unwrap_or_default();
            assert_eq!(allowed("allow-headers"), "authorization,content-type,x-stainless-os");
            assert_eq!(allowed("max-age"), "7200");
            for method in ["GET", "POST", "DELETE"] {
                assert!(allowed("allow-methods").split(", ").any(|one| one == method), "{method}");
            }
            let refused = client.ask(preflight(path, OTHER_PAGE));
            assert_eq!((refused.status(), leave(&refused)), (403, vec!["vary".to_owned()]), "{path}");
        }
    }
    let typo = message("GET /api/v1/tasks/x", &["Authorization: Bearer sk-a-typo-0123456789"], "");
    check_refusal(&client.ask(typo), 401, "unknown_key");
    assert_eq!(upstream.connections(), 0);
}

#[test]
fn a_preflight_of_a_foreign_page_is_refused() {
    let upstream = upstream();
    let gateway = gateway(&upstream);
    let path = "/api/v1/tasks/x";
    for origin in [
        OTHER_PAGE,
        "Origin: null",
        "Origin: http://app.example.com",
        "Origin: https://app.example.com:8443",
        "Origin: https://app.example.com.evil.example",
        "Origin: https://app.example.com\r\nOrigin: https://app.example.com",
    ] {
        let got = gateway.ask(preflight(path, origin));
        assert_refused(&got, 403, "foreign_origin", "AccessDenied", Envelope::Flat);
        assert_eq!(leave(&got), ["vary"], "{origin}");
    }
    let got = gateway.ask(preflight("/wan/v1/tasks/x", PAGE));
    assert_refused(&got, 403, "foreign_origin", "AccessDenied", Envelope::Flat);
    assert!(leave(&got).is_empty(), "the mount has no `cors`");
    let got = gateway.ask(preflight("/v1/videos", OTHER_PAGE));
    assert_refused(&got, 403, "foreign_origin", "access_denied", Envelope::OpenAi);
    // Without both fields of a preflight it is a call like others.
    check_refusal(&gateway.ask(message(&format!("OPTIONS {path}"), &[PAGE], "")), 401, "no_key");
}

#[test]
fn answers_and_refusals_can_be_read_by_the_mounts_pages_alone() {
    let upstream = upstream();
    let gateway = gateway(&upstream);
    let call = |path: &str, origin: &str| {
        message(
            &format!("POST {path}/v1/services/aigc/text-generation/generation"),
            &[&bearer(), origin],
            "{}",
        )
    };
    let got = gateway.ask(call("/api", PAGE));
    assert_eq!((got.status(), got.field("x-request-id").as_deref()), (200, Some("up-1")));
    check_shared(&got, "https://app.example.com");
    check_shared(&gateway.ask(call("/api", "Origin: app://obsidian.md")), "app://obsidian.md");
    let refused = gateway.ask(message("GET /api/v1/files", &[&bearer(), PAGE], ""));
    check_refusal(&refused, 403, "not_allowed");
    check_shared(&refused, "https://app.example.com");
    let refused = gateway.ask(message("GET /api/v1//tasks", &[&bearer(), PAGE], ""));
    check_refusal(&refused, 400, "bad_path");
    check_shared(&refused, "https://app.example.com");
    check_shared(&gateway.ask(message("GET /api/v1/tasks", &[PAGE], "")), "https://app.example.com");
    for foreign in [gateway.ask(call("/api", OTHER_PAGE)), gateway.ask(generate("{}"))] {
        assert_eq!((foreign.status(), leave(&foreign)), (200, vec!["vary".to_owned()]));
    }
    assert!(leave(&gateway.ask(call("/wan", PAGE))).is_empty(), "the mount has no `cors`");
    assert!(upstream.requests().iter().all(|request| request.field("origin").is_none()));
}

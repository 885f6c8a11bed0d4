//! Listed operations pass under every mount; nothing else reaches the upstream.

use crate::harness::{Gateway, TENANT_KEY, UPSTREAM_KEY, Upstream, answer, message};

#[test]
fn a_listed_call_passes_with_the_key_swapped() {
    let upstream = Upstream::answering(answer("200 OK", &["x-request-id: r-1"], r#"{"output":{}}"#));
    let gateway = Gateway::start(upstream.address);
    let request = message(
        "POST /wan/v1/services/aigc/text-generation/generation?a=b",
        &[&format!("Authorization: Bearer {TENANT_KEY}"), "X-Other: kept"],
        r#"{"model":"qwen-plus"}"#,
    );
    let got = gateway.ask(request);
    assert_eq!((got.status(), got.text().as_str()), (200, r#"{"output":{}}"#));
    assert_eq!(got.field("x-request-id").as_deref(), Some("r-1"));
    let seen = upstream.only();
    assert_eq!(seen.start_line(), "POST /api/v1/services/aigc/text-generation/generation?a=b HTTP/1.1");
    assert_eq!(seen.field("authorization"), Some(format!("Bearer {UPSTREAM_KEY}")));
    assert_eq!(seen.field("host"), Some(upstream.address.to_string()));
    assert_eq!(seen.field("x-other").as_deref(), Some("kept"));
    assert_eq!(seen.text(), r#"{"model":"qwen-plus"}"#);
    assert!(!seen.holds(TENANT_KEY));
}

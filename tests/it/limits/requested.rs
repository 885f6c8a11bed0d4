//! Limits on a call's models, and on the duration and size of videos: a call beyond them is refused and not sent.

use super::{gateway, with_tasks};
use crate::harness::calls::{GENERATION, SYNTHESIS, bearer, check_refusal, generate};
use crate::harness::{
    Client, Envelope, Message, OTHER_KEY, TENANT_KEY, Upstream, answer, assert_refused, eventually, message,
};

fn synthesis(body: &str) -> String {
    message(&format!("POST {SYNTHESIS}"), &[&bearer(), "X-DashScope-Async: enable"], body)
}

fn with_parameters(model: &str, parameters: &str) -> String {
    synthesis(&format!(r#"{{"model":"{model}","input":{{}},"parameters":{{{parameters}}}}}"#))
}

#[track_caller]
fn check_model_refused(answer: &Message, shown: &str) {
    let message = assert_refused(answer, 403, "model_not_allowed", "Model.AccessDenied", Envelope::Flat);
    assert!(message.contains(shown), "{message}");
}

#[test]
fn a_model_must_be_in_each_list() {
    for (rules, passes) in [
        (r#"models = ["wan2.7-*", "qwen-plus"]"#, true),
        (r#"limits = { models = ["wan2.7-t*"] }"#, true),
        ("models = [\"wan2.7-*\"]\nlimits = { models = [\"*-t2v\"] }", true),
        ("models = [\"wan2.7-*\"]\nlimits = { models = [\"qwen*\"] }", false),
        (r#"models = ["wan2.6-*"]"#, false),
    ] {
        let upstream = with_tasks("RUNNING");
        let gateway = gateway(&upstream, rules);
        let got = gateway.ask(synthesis(r#"{"input":{"model":"wan2.6-x"},"model":"wan2.7-t2v"}"#));
        if passes {
            assert_eq!(got.status(), 200, "{rules}");
            assert_eq!(upstream.only().text(), r#"{"input":{"model":"wan2.6-x"},"model":"wan2.7-t2v"}"#);
        } else {
            check_model_refused(&got, "wan2.7-t2v");
            assert_eq!(upstream.requests().len(), 0, "{rules}");
        }
    }
}

#[test]
fn the_model_is_looked_for_where_each_operation_names_it() {
    let upstream = Upstream::answering(answer("200 OK", &[], "{}"));
    let gateway = gateway(&upstream, r#"models = ["qwen-plus", "wan2.7-*"]"#);
    let ask = |line: &str, body: &str| gateway.ask(message(line, &[&bearer()], body));
    for path in [GENERATION, "/api/v1/tokenizer", "/api/v1/services/embeddings/text-embedding/text-embedding"]
    {
        check_model_refused(&ask(&format!("POST {path}"), r#"{"model":"qwen-max"}"#), "qwen-max");
        assert_eq!(ask(&format!("POST {path}"), r#"{"model":"qwen-plus"}"#).status(), 200);
    }
    for path in [
        "/compatible-mode/v1/chat/completions",
        "/compatible-mode/v1/completions",
        "/compatible-mode/v1/embeddings",
        "/compatible-mode/v1/responses",
        "/compatible-api/v1/reranks",
        "/apps/anthropic/v1/messages",
        "/apps/anthropic/v1/messages/count_tokens",
    ] {
        let refused = ask(&format!("POST {path}"), r#"{"model":"qwen-max"}"#);
        let (code, envelope) = if path.starts_with("/apps") {
            ("permission_error", Envelope::Anthropic)
        } else {
            ("model_access_denied", Envelope::OpenAi)
        };
        assert_refused(&refused, 403, "model_not_allowed", code, envelope);
        let allowed = ask(&format!("POST {path}"), r#"{"model":"qwen-plus","store":false}"#);
        assert_eq!(allowed.status(), 200);
    }
    let policy = "GET /api/v1/uploads?action=getPolicy";
    check_model_refused(&ask(&format!("{policy}&model=qwen-max"), ""), "qwen-max");
    check_model_refused(&ask(policy, ""), "names no model");
    check_refusal(&ask(&format!("{policy}&model=qwen-plus&model=qwen-max"), ""), 400, "bad_request");
    check_refusal(&ask(&format!("{policy}&mod%65l=qwen-max&model=qwen-plus"), ""), 403, "not_allowed");
    assert_eq!(ask(&format!("{policy}&model=wan2.7%2Dt2v"), "").status(), 200);
    // A call without a model needs no permission for one.
    assert_eq!(ask("GET /api/v1/public-keys/latest", "").status(), 200);
    assert_eq!(upstream.requests().len(), 12);
}

#[test]
fn a_websocket_for_a_model_that_is_not_listed_is_not_opened() {
    let upstream = Upstream::answering(answer("400 Bad Request", &[], "{}"));
    let gateway = gateway(&upstream, r#"models = ["qwen-omni*"]"#);
    let fields = [&*bearer(), "Connection: Upgrade", "Upgrade: websocket"];
    let open = |target: &str| gateway.ask(message(&format!("GET {target}"), &fields, ""));
    check_model_refused(&open("/api-ws/v1/realtime?model=qwen-max"), "qwen-max");
    check_model_refused(&open("/api-ws/v1/realtime"), "names no model");
    check_refusal(&open("/api-ws/v1/realtime?mod%65l=qwen-max&model=qwen-omni"), 400, "bad_request");
    assert_eq!(upstream.requests().len(), 0);
    assert_eq!(open("/api-ws/v1/realtime?model=qwen-omni-turbo").status(), 400, "the upstream's own");
    assert_eq!(upstream.requests().len(), 1);
}

#[test]
fn a_body_that_could_be_read_in_two_ways_is_refused() {
    let upstream = with_tasks("RUNNING");
    let gateway = gateway(&upstream, r#"models = ["wan2.7-*"]"#);
    for body in [
        r#"{"model":"wan2.7-t2v","model":"wan3.0-video"}"#,
        r#"{"model":"wan2.7-t2v","Model":"wan3.0-video"}"#,
        r#"{"model":["wan2.7-t2v"]}"#,
        r#"{"model":"wan2.7-t2v"}{"model":"wan3.0-video"}"#,
        "model=wan2.7-t2v",
    ] {
        check_refusal(&gateway.ask(synthesis(body)), 400, "bad_request");
    }
    check_model_refused(&gateway.ask(synthesis("{}")), "names no model");
    assert_eq!(upstream.requests().len(), 0);
}

#[test]
fn a_submit_may_not_ask_for_more_than_its_caps() {
    let upstream = with_tasks("RUNNING");
    let caps = "limits = { max_duration_seconds = 10, max_resolution = \"1080P\" }\n\
                tenant_limits = { max_duration_seconds = 30, max_resolution = \"720P\" }";
    let gateway = gateway(&upstream, caps);
    for (model, parameters) in [
        ("wan2.7-t2v", r#""resolution":"720P","duration":10"#),
        ("wan2.7-i2v", r#""resolution":"720P""#),
        ("wan2.2-kf2v-flash", ""),
        ("wan2.6-t2v", r#""size":"960*960","duration":5"#),
        ("wan3.0-video", r#""resolution":"480P","duration":2"#),
    ] {
        assert_eq!(gateway.ask(with_parameters(model, parameters)).status(), 200, "{model} {parameters}");
        assert_eq!(upstream.take().len(), 1);
    }
    for (model, parameters, expected) in [
        (
            "wan2.7-t2v",
            r#""resolution":"720P","duration":11"#,
            "is 11 seconds, and max_duration_seconds = 10",
        ),
        ("wan2.7-t2v", r#""resolution":"1080P""#, "is 1080P, and max_resolution = 720P"),
        ("wan2.7-t2v", "", "the model's default, as it names none, is 1080P"),
        ("wan2.7-t2v", r#""size":"832*480""#, "is 1080P"),
        ("wan2.6-t2v", r#""size":"1920*1080""#, "is 1080P"),
        ("wan3.0-video", r#""resolution":"480P","duration":-1"#, "is 30 seconds"),
        ("wan3.0-video", r#""resolution":"480P""#, "name parameters.duration"),
        ("kling-v3", r#""duration":5"#, "name parameters.resolution"),
    ] {
        let got = gateway.ask(with_parameters(model, parameters));
        let message = assert_refused(&got, 400, "over_cap", "InvalidParameter", Envelope::Flat);
        assert!(message.contains(expected), "{message}");
    }
    for parameters in [
        r#""resolution":"720P","duration":"5""#,
        r#""resolution":"720P","duration":5,"duration":15"#,
        r#""resolution":"720P","duration":5.5"#,
        r#""resolution":"HD","duration":5"#,
    ] {
        check_refusal(&gateway.ask(with_parameters("wan2.7-t2v", parameters)), 400, "bad_request");
    }
    assert_eq!(upstream.requests().len(), 0);
    // Caps on videos do not apply to calls that make no video.
    assert_eq!(gateway.ask(generate("no JSON")).status(), 200);
}

#[test]
fn what_is_refused_for_what_it_asks_takes_nothing() {
    let upstream = with_tasks("RUNNING");
    let slow = super::SLOW;
    let rules = format!(
        "limits = {{ {slow}, burst = 1, tasks_in_flight = 1, max_duration_seconds = 5, models = [\"wan2.7-*\"] }}"
    );
    let gateway = gateway(&upstream, &rules);
    for _ in 0..3 {
        let over = gateway.ask(with_parameters("wan2.7-t2v", r#""duration":6"#));
        check_refusal(&over, 400, "over_cap");
        let other = gateway.ask(with_parameters("wan2.6-t2v", r#""duration":5"#));
        check_refusal(&other, 403, "model_not_allowed");
        for refused in [over, other] {
            assert_eq!(refused.field("ratelimit-remaining").as_deref(), Some("1"));
        }
    }
    assert_eq!(gateway.ask(with_parameters("wan2.7-t2v", r#""duration":5"#)).status(), 200);
    assert_eq!(upstream.requests().len(), 1);
}

#[test]
fn nothing_goes_up_before_a_large_body_was_judged() {
    let upstream = with_tasks("RUNNING");
    let gateway = gateway(&upstream, "limits = { max_duration_seconds = 10 }");
    let media = "A".repeat(3 << 20);
    for (seconds, status) in [(10, 200), (11, 400)] {
        let body = format!(
            r#"{{"model":"wan2.7-i2v","input":{{"media":[{{"url":"data:image/png;base64,{media}"}}]}},"parameters":{{"duration":{seconds}}}}}"#
        );
        let request = synthesis(&body);
        let (most, last) = request.split_at(request.len() - 3);
        let mut client = Client::connect(gateway.address);
        client.send(most);
        let before = upstream.connections();
        client.send(last);
        assert_eq!(client.answer().status(), status, "{seconds} seconds");
        if status == 200 {
            assert_eq!(before, 0, "something was sent early");
            assert!(upstream.take().pop().expect("a submit").text() == body);
        }
    }
    assert_eq!(upstream.requests().len(), 0);
}

#[test]
fn a_stream_that_only_its_body_asks_for_is_limited_as_one() {
    let upstream = Upstream::answering(answer("200 OK", &[], "{}"));
    let slow = super::SLOW;
    let gateway =
        gateway(&upstream, &format!("limits = {{ {slow}, burst = 2, streams = {{ {slow}, burst = 3 }} }}"));
    let chat = |body: &str| message("POST /compatible-mode/v1/chat/completions", &[&bearer()], body);
    let (stream, plain) = (chat(r#"{"model":"qwen-plus","stream":true}"#), chat(r#"{"model":"qwen-plus"}"#));
    // The admission as a call of unknown model is given back: the common rate is whole afterwards.
    assert_eq!(super::statuses(&gateway, &stream, 3), [200; 3]);
    let refused = gateway.ask(&stream);
    let message = assert_refused(&refused, 429, "rate", "limit_requests", Envelope::OpenAi);
    assert!(message.contains("limits.streams.requests_per_second"), "{message}");
    let counted = gateway.ask(&plain);
    assert_eq!((counted.status(), counted.field("ratelimit-remaining").as_deref()), (200, Some("1")));
    assert_eq!(super::statuses(&gateway, &plain, 2), [200, 429]);
    assert_eq!(upstream.requests().len(), 5);
}

#[test]
fn bodies_that_are_held_share_a_bounded_room() {
    let upstream = with_tasks("RUNNING");
    let server = "max_body_bytes = 268435456";
    let gateway =
        crate::harness::Gateway::with(upstream.address, server, "limits = { max_duration_seconds = 10 }");
    // A request without an end holds 100 of the tenant's 128 MiB.
    let head = message(
        &format!("POST {SYNTHESIS}"),
        &[&bearer(), "X-DashScope-Async: enable", "Content-Length: 268435000"],
        "",
    );
    let mut greedy = Client::connect(gateway.address);
    greedy.send(head);
    let piece = vec![b' '; 1 << 20];
    for _ in 0..100 {
        greedy.send(&piece);
    }
    let media = "A".repeat(60 << 20);
    let large =
        synthesis(&format!(r#"{{"model":"wan2.7-i2v","input":"{media}","parameters":{{"duration":5}}}}"#));
    let mut second = Client::connect(gateway.address);
    second.push(&large);
    let refused = second.answer();
    assert_refused(&refused, 503, "no_room", "ServiceUnavailable", Envelope::Flat);
    assert_eq!(refused.field("retry-after").as_deref(), Some("1"));
    assert_eq!(upstream.connections(), 0);
    // Bodies whose files are resolved have the same bound, and the other tenant keeps its part.
    let resolved = |key: &str| {
        let bearer = format!("Authorization: Bearer {key}");
        let fields = [&*bearer, "X-DashScope-OssResourceResolve: enable"];
        message(&format!("POST {GENERATION}"), &fields, &format!(r#"{{"a":"{}"}}"#, "x".repeat(1_000_000)))
    };
    let ask = |request: &str| {
        let mut client = Client::connect(gateway.address);
        client.push(request);
        client.answer()
    };
    let mut unfinished = Vec::new();
    eventually("the tenant's part is taken", || {
        let mut client = Client::connect(gateway.address);
        client.push(resolved(TENANT_KEY).trim_end_matches('}'));
        unfinished.push(client);
        ask(&resolved(TENANT_KEY)).status() == 503
    });
    assert_eq!(ask(&resolved(OTHER_KEY)).status(), 200);
    // A body that need not be known goes up as it comes, and a small one always fits.
    assert_eq!(ask(&generate(&"x".repeat(1 << 20))).status(), 200);
    assert_eq!(gateway.ask(with_parameters("wan2.7-i2v", "")).status(), 200);
    drop(unfinished);
    greedy.leave();
    eventually("there is room again", || ask(&large).status() == 200);
}

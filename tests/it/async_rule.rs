//! Async rule: a call of a service that runs only as a task is refused without `X-DashScope-Async: enable`, as
//! DashScope refuses it, or gets the field added for a tenant with `async_header = "add"`; other calls pass unchanged.

use crate::harness::{
    Envelope, Gateway, Message, TENANT_KEY, Upstream, answer, assert_refused, configuration, message,
};

const ASYNC_ONLY: [&str; 3] =
    ["aigc/video-generation/video-synthesis", "aigc/image2video/video-synthesis", "audio/asr/transcription"];

/// Services that answer at once or with a task, as the caller asks.
const EITHER: [&str; 4] = [
    "aigc/text2image/image-synthesis",
    "aigc/multimodal-generation/generation",
    "embeddings/text-embedding/text-embedding",
    "aigc/image2video/face-detect",
];

const ADDS: &str = r#"async_header = "add""#;

/// Heads that do not ask for a task.
const NOT_ASKING: [&[&str]; 6] = [
    &[],
    &["X-DashScope-Async: disable"],
    &["X-DashScope-Async:"],
    &["X-DashScope-Async: enabled"],
    &["X-DashScope-Async: true"],
    &["X-DashScope-SSE: enable"],
];

/// Heads that ask for a task.
const ASKING: [&[&str]; 3] =
    [&["X-DashScope-Async: enable"], &["x-dashscope-async:  ENABLE "], &["X-DASHSCOPE-ASYNC: Enable"]];

fn post(gateway: &Gateway, target: &str, fields: &[&str]) -> Message {
    let key = format!("Authorization: Bearer {TENANT_KEY}");
    let fields: Vec<&str> = [&*key].into_iter().chain(fields.iter().copied()).collect();
    gateway.ask(message(&format!("POST {target}"), &fields, r#"{"model":"wan2.7-i2v"}"#))
}

fn upstream() -> Upstream {
    Upstream::answering(answer("200 OK", &[], r#"{"output":{"task_id":"t-1","task_status":"PENDING"}}"#))
}

fn asked(seen: &Message) -> Vec<String> {
    let fields = seen.fields().into_iter().filter(|(name, _)| name == "x-dashscope-async");
    fields.map(|(_, value)| value).collect()
}

#[test]
fn an_async_only_call_that_does_not_ask_for_a_task_is_refused_and_not_sent() {
    let upstream = upstream();
    let gateway = Gateway::start(upstream.address);
    for service in ASYNC_ONLY {
        for fields in NOT_ASKING {
            for target in [
                format!("/wan/v1/services/{service}"),
                format!("/api/v1/services/{service}/"),
                format!("/alibabacloudapi/api/v1/services/{}", service.to_ascii_uppercase()),
                format!("/api/v1/services/{}", service.replace('s', "%73")),
            ] {
                let got = post(&gateway, &target, fields);
                let told = assert_refused(&got, 403, "async_required", "AccessDenied", Envelope::Flat);
                let dashscopes = "current user api does not support synchronous calls.";
                assert_eq!(told, format!("{dashscopes} Send the field X-DashScope-Async: enable."));
            }
        }
    }
    assert_eq!(upstream.connections(), 0);
}

#[test]
fn a_call_that_asks_for_a_task_passes_as_it_came() {
    let upstream = upstream();
    for tenant in ["", ADDS] {
        let gateway = Gateway::with(upstream.address, "", tenant);
        for service in ASYNC_ONLY.iter().chain(&EITHER) {
            for fields in ASKING {
                assert_eq!(post(&gateway, &format!("/wan/v1/services/{service}"), fields).status(), 200);
                let value = fields[0].split_once(':').expect("a field").1.trim();
                assert_eq!(asked(&upstream.take()[0]), [value]);
            }
        }
    }
}

#[test]
fn the_field_is_put_on_for_tenants_that_cannot() {
    let upstream = upstream();
    let gateway = Gateway::with(upstream.address, "", ADDS);
    for service in ASYNC_ONLY {
        for fields in NOT_ASKING {
            assert_eq!(post(&gateway, &format!("/wan/v1/services/{service}"), fields).status(), 200);
            let seen = upstream.take();
            assert_eq!(asked(&seen[0]), ["enable"], "{fields:?}");
            assert_eq!(seen[0].text(), r#"{"model":"wan2.7-i2v"}"#);
        }
    }
    // The task of the submit has an owner.
    let key = format!("x-api-key: {TENANT_KEY}");
    assert!(!gateway.ask(message("GET /wan/v1/tasks/t-1", &[&key], "")).text().contains("UNKNOWN"));
    assert_eq!(upstream.take().len(), 1);
}

#[test]
fn a_call_that_may_be_either_passes_as_it_came() {
    let upstream = upstream();
    for tenant in ["", ADDS] {
        let gateway = Gateway::with(upstream.address, "", tenant);
        for service in EITHER {
            for fields in NOT_ASKING {
                assert_eq!(post(&gateway, &format!("/wan/v1/services/{service}"), fields).status(), 200);
                let sent = fields.iter().filter_map(|field| field.strip_prefix("X-DashScope-Async:"));
                let sent: Vec<&str> = sent.map(str::trim).collect();
                assert_eq!(asked(&upstream.take()[0]), sent);
            }
        }
    }
}

const IMAGES: &str = "aigc/text2image/image-synthesis";
const EMBEDDINGS: &str = "embeddings/text-embedding/text-embedding";

/// Calls of other services, and whether DashScope runs the model there only as a task.
const BY_MODEL: [(&str, &str, bool); 13] = [
    ("aigc/image2image/image-synthesis", "wan2.5-i2i-preview", true),
    ("aigc/image2image/out-painting", "image-out-painting", true),
    ("aigc/image-generation/generation", "wan2.7-image", true),
    ("aigc/video-generation/3d-generation", "tripo", true),
    ("aigc/virtualmodel/generation", "virtualmodel", true),
    (IMAGES, "wanx2.1-t2i-turbo", true),
    (IMAGES, "wan2.5-t2i-preview", true),
    (IMAGES, "qwen-image", true),
    // The SDK's `sync_call` takes this one.
    (IMAGES, "wan2.2-t2i-flash", false),
    (IMAGES, "wan9-t2i", false),
    (EMBEDDINGS, "text-embedding-async-v2", true),
    (EMBEDDINGS, "text-embedding-v4", false),
    ("aigc/multimodal-generation/generation", "qwen-image", false),
];

fn post_model(gateway: &Gateway, service: &str, model: &str) -> Message {
    let key = format!("Authorization: Bearer {TENANT_KEY}");
    let body = format!(r#"{{"input":{{"prompt":"a lighthouse"}},"model":"{model}"}}"#);
    gateway.ask(message(&format!("POST /wan/v1/services/{service}"), &[&key], &body))
}

/// Clients that can't send the field got 403 for pictures, though the field was added for their videos.
#[test]
fn the_field_is_put_on_where_the_model_runs_only_as_a_task() {
    let upstream = upstream();
    for (tenant, adds) in [("", false), (ADDS, true)] {
        let gateway = Gateway::with(upstream.address, "", tenant);
        for (service, model, is_task) in BY_MODEL {
            assert_eq!(post_model(&gateway, service, model).status(), 200, "{model}");
            let seen = upstream.take();
            assert_eq!(asked(&seen[0]), if adds && is_task { &["enable"][..] } else { &[] }, "{model}");
            assert!(seen[0].text().ends_with(&format!("\"model\":\"{model}\"}}")), "{}", seen[0].text());
        }
    }
}

/// Such a call is a submit in all respects: its task has an owner, and it counts as one in flight.
#[test]
fn a_call_that_became_a_task_is_owned_and_counted() {
    let upstream = upstream();
    let limits = "limits = { tasks_in_flight = 1 }";
    let gateway = Gateway::with(upstream.address, "", &format!("{ADDS}\n{limits}"));
    assert_eq!(post_model(&gateway, IMAGES, "wanx2.1-t2i-turbo").status(), 200);
    let refused = post_model(&gateway, IMAGES, "wanx2.1-t2i-turbo");
    assert_refused(&refused, 429, "tasks_in_flight", "Throttling.Concurrency", Envelope::Flat);
    assert_eq!(post_model(&gateway, IMAGES, "wan2.2-t2i-flash").status(), 200);
    let key = format!("x-api-key: {TENANT_KEY}");
    let list = gateway.ask(message("GET /wan/v1/tasks", &[&key], "")).json();
    assert_eq!(list["data"][0]["model_name"], "wanx2.1-t2i-turbo", "{list}");
}

/// The body of a call that became a task was kept in part only, so that a refused attempt was the last.
#[test]
fn a_large_call_that_became_a_task_goes_to_another_account() {
    let json = ["Content-Type: application/json"];
    let busy = answer("429 Too Many Requests", &json, r#"{"code":"Throttling.RateQuota","message":"m"}"#);
    let (busy, free) = (Upstream::answering(busy), upstream());
    let accounts = [("busy", busy.address, &["sk-busy"][..], ""), ("free", free.address, &["sk-free"], "")];
    let server = "listen = \"127.0.0.1:0\"\nworkers = 1";
    let gateway = Gateway::configured(&configuration(server, &accounts, ADDS));
    let key = format!("Authorization: Bearer {TENANT_KEY}");
    let picture = "a".repeat(300_000);
    let body = format!(r#"{{"model":"wan2.5-i2i-preview","input":{{"images":["{picture}"]}}}}"#);
    for _ in 0..2 {
        let call = message("POST /api/v1/services/aigc/image2image/image-synthesis", &[&key], &body);
        assert_eq!(gateway.ask(call).status(), 200);
    }
    assert_eq!((busy.take().len(), free.take().len()), (1, 2));
}

#[test]
fn a_query_that_bears_the_field_by_mistake_is_a_query() {
    let upstream = upstream();
    let gateway = Gateway::start(upstream.address);
    assert_eq!(post(&gateway, "/wan/v1/services/audio/asr/transcription", ASKING[0]).status(), 200);
    upstream.take();
    let key = format!("x-api-key: {TENANT_KEY}");
    let got = gateway.ask(message("GET /wan/v1/tasks/t-1", &[&key, "X-DashScope-Async: enable"], ""));
    assert_eq!((got.status(), asked(&upstream.take()[0]).len()), (200, 0));
}

/// A head that the gateway reads as "no task" must not reach an upstream that reads it as "task": two fields of which
/// the second asks, or a field that the connection takes away after it was read.
#[test]
fn a_field_that_could_be_read_in_two_ways_is_read_in_one() {
    let upstream = upstream();
    let gateway = Gateway::start(upstream.address);
    for fields in [
        &["X-DashScope-Async: disable", "X-DashScope-Async: enable"][..],
        &["X-DashScope-Async: enable", "X-DashScope-Async: disable"],
        &["Connection: x-dashscope-async", "X-DashScope-Async: enable"],
    ] {
        for service in ASYNC_ONLY.iter().chain(&EITHER) {
            let got = post(&gateway, &format!("/wan/v1/services/{service}"), fields);
            let told = assert_refused(&got, 400, "bad_request", "InvalidParameter", Envelope::Flat);
            assert!(told.contains("X-DashScope-Async"), "{told}");
        }
    }
    assert_eq!(upstream.connections(), 0);
}

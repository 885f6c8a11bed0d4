//! Mapping: the upstream gets the native body of the model's family with the account's key, as for a native submit.

use serde_json::json;

use super::{call_as, create, gateway, gateway_at, lighthouse, ok, origin, refused, simulator, submits};
use crate::harness::{OTHER_KEY, TENANT_KEY, UPSTREAM_KEY, Upstream, answer};

/// The client's body, the path below `services/aigc`, and the body that arrives. The whole table is beside the
/// mapping itself; these are a model of each family that the simulator checks.
#[test]
fn the_simulator_receives_the_native_body() {
    let simulator = simulator();
    let gateway = gateway(&simulator);
    let (synthesis, image2video) = ("video-generation", "image2video");
    let frame = |url: &str| json!({"content": [{"type": "image_url", "role": "first_frame", "image_url": {"url": url}}]});
    let i = "https://x/i.png";
    for (sent, service, received) in [
        (
            json!({"model": "wan2.7-i2v", "prompt": "p", "size": "1280x720", "seconds": "5", "generate_audio": false,
                "input_reference": frame(i)}),
            synthesis,
            json!({"model": "wan2.7-i2v", "input": {"prompt": "p", "media": [{"type": "first_frame", "url": i}]},
                "parameters": {"resolution": "720P", "duration": 5, "audio": false}}),
        ),
        (
            json!({"model": "wan2.7-t2v", "prompt": "p", "size": "1080x1920", "seconds": 8, "seed": 7,
                "negative_prompt": "n", "prompt_extend": false}),
            synthesis,
            json!({"model": "wan2.7-t2v", "input": {"prompt": "p", "negative_prompt": "n"},
                "parameters": {"resolution": "1080P", "ratio": "9:16", "duration": 8, "seed": 7, "prompt_extend": false}}),
        ),
        (
            json!({"model": "wan2.7-r2v", "prompt": "Image 1", "ratio": "1:1",
                "media": [{"type": "reference_image", "url": i, "reference_voice": "https://x/v.wav"}]}),
            synthesis,
            json!({"model": "wan2.7-r2v", "parameters": {"ratio": "1:1"}, "input": {"prompt": "Image 1",
                "media": [{"type": "reference_image", "url": i, "reference_voice": "https://x/v.wav"}]}}),
        ),
        (
            json!({"model": "wan2.7-videoedit", "prompt": "p", "audio_setting": "origin", "duration": 0,
                "input_reference": "https://x/v.mp4"}),
            synthesis,
            json!({"model": "wan2.7-videoedit", "parameters": {"audio_setting": "origin", "duration": 0},
                "input": {"prompt": "p", "media": [{"type": "video", "url": "https://x/v.mp4"}]}}),
        ),
        (
            json!({"model": "wan3.0-video", "prompt": "p", "seconds": "-1", "size": "832x480"}),
            synthesis,
            json!({"model": "wan3.0-video", "input": {"prompt": "p"},
                "parameters": {"duration": -1, "resolution": "480P", "ratio": "16:9"}}),
        ),
        (
            json!({"model": "wan2.2-kf2v-flash", "prompt": "p", "size": "832x480", "input_reference": frame(i),
                "last_frame_url": "https://x/l.png", "negative_prompt": "n", "template": "t"}),
            image2video,
            json!({"model": "wan2.2-kf2v-flash", "parameters": {"resolution": "480P"}, "input": {"prompt": "p",
                "first_frame_url": i, "last_frame_url": "https://x/l.png", "negative_prompt": "n", "template": "t"}}),
        ),
        (
            json!({"model": "wan2.6-t2v", "prompt": "p", "size": "1280x720", "seconds": "10", "negative_prompt": "n",
                "parameters": {"shot_type": "multi", "prompt_extend": true}}),
            synthesis,
            json!({"model": "wan2.6-t2v", "input": {"prompt": "p"}, "parameters": {"size": "1280*720", "duration": 10,
                "negative_prompt": "n", "shot_type": "multi", "prompt_extend": true}}),
        ),
        (
            json!({"model": "wan2.5-i2v-preview", "prompt": "p", "size": "832x480", "generate_audio": true,
                "input_reference": {"image_url": i}, "input": {"extend_prompt": true}}),
            synthesis,
            json!({"model": "wan2.5-i2v-preview", "parameters": {"resolution": "480P", "audio": true},
                "input": {"prompt": "p", "img_url": i, "extend_prompt": true}}),
        ),
        (
            json!({"model": "wanx2.1-t2v-turbo", "prompt": "p", "size": "832*480", "seconds": 5}),
            synthesis,
            json!({"model": "wanx2.1-t2v-turbo", "input": {"prompt": "p"},
                "parameters": {"size": "832*480", "duration": 5}}),
        ),
        (
            json!({"model": "kling-v3", "input": {"prompt": "p"}, "parameters": {"cfg": 0.5}}),
            synthesis,
            json!({"model": "kling-v3", "input": {"prompt": "p"}, "parameters": {"cfg": 0.5}}),
        ),
    ] {
        simulator.clear();
        create(&gateway, &sent);
        let seen = submits(&simulator).pop().expect("a submit");
        assert_eq!(seen.target, format!("/api/v1/services/aigc/{service}/video-synthesis"), "{sent}");
        assert_eq!(seen.json(), received, "{sent}");
        assert_eq!(seen.header("authorization"), Some(&*format!("Bearer {UPSTREAM_KEY}")));
        assert_eq!(seen.header("x-dashscope-async"), Some("enable"));
        assert_eq!(seen.header("content-type"), Some("application/json"));
        assert_eq!(seen.header("x-dashscope-ossresourceresolve"), None);
        assert!(!seen.head.windows(TENANT_KEY.len()).any(|window| window == TENANT_KEY.as_bytes()));
    }
}

#[test]
fn what_has_no_native_place_is_refused_and_named() {
    let simulator = simulator();
    let gateway = gateway(&simulator);
    for (body, param, says) in [
        (
            json!({"model": "wan2.7-i2v", "prompt": "p", "content": [{"type": "text"}]}),
            "content",
            "input_reference.content",
        ),
        (json!({"prompt": "p"}), "model", "name a model"),
        (json!({"model": "wan2.7-t2v", "quality": "hd"}), "quality", "parameters"),
        (json!({"model": "wan2.7-t2v", "size": "1792x1024"}), "size", "1920x1080"),
        (json!({"model": "wan2.7-t2v", "seconds": "4s"}), "seconds", "whole number"),
        (json!({"model": "wan2.7-t2v", "input_reference": {"file_id": "f"}}), "input_reference", "file_id"),
    ] {
        let got = call_as(&gateway, TENANT_KEY, "POST /v1/videos", &[], Some(&body));
        let error = refused(&got, 400, "invalid_parameter");
        assert_eq!(
            (&error["type"], &error["param"]),
            (&json!("invalid_request_error"), &json!(param)),
            "{body}"
        );
        assert!(error["message"].as_str().is_some_and(|text| text.contains(says)), "{error}");
    }
    for (fields, body) in
        [(&["Content-Type: text/plain"][..], "{}"), (&["Content-Type: application/json"], "[1]"), (&[], "{")]
    {
        let authorization = format!("Authorization: Bearer {TENANT_KEY}");
        let fields = [&[authorization.as_str()], fields].concat();
        let got = gateway.ask(crate::harness::message("POST /v1/videos", &fields, body));
        refused(&got, 400, "invalid_parameter");
    }
    assert!(submits(&simulator).is_empty());
}

/// Caps, lists of models and the number of tasks hold here as they do natively.
#[test]
fn limits_hold_for_what_is_asked_for_in_any_dialect() {
    let simulator = simulator();
    let limits = "limits = { max_duration_seconds = 8, max_resolution = \"720P\", tasks_in_flight = 1 }\n\
                  models = [\"wan2.7-*\"]";
    let gateway = gateway_at(simulator.address(), &[origin(simulator.oss_address())], limits);
    let with = |name: &str, value: serde_json::Value| {
        let mut body = lighthouse();
        body[name] = value;
        call_as(&gateway, TENANT_KEY, "POST /v1/videos", &[], Some(&body))
    };
    refused(&with("seconds", json!("9")), 400, "invalid_parameter");
    refused(&with("size", json!("1920x1080")), 400, "invalid_parameter");
    refused(&with("model", json!("wan2.6-t2v")), 403, "model_access_denied");
    ok(&with("prompt", json!("p")));
    let got = with("prompt", json!("p"));
    refused(&got, 429, "limit_concurrency");
    assert!(got.field("retry-after").is_some());
    // The limits hold natively too, for the tasks are the same; another tenant has its own.
    let native = "POST /api/v1/services/aigc/video-generation/video-synthesis";
    let body = json!({"model": "wan2.7-t2v", "input": {"prompt": "p"}, "parameters": {"duration": 5, "resolution": "720P"}});
    let got = call_as(&gateway, TENANT_KEY, native, &["X-DashScope-Async: enable"], Some(&body));
    assert_eq!((got.status(), got.field("x-dashgate-reason").as_deref()), (429, Some("tasks_in_flight")));
    ok(&call_as(&gateway, OTHER_KEY, "POST /v1/videos", &[], Some(&lighthouse())));
    assert_eq!(submits(&simulator).len(), 2);
}

#[test]
fn refusals_of_the_upstream_come_in_openais_words() {
    for (status, code, kind, alias) in [
        ("400 Bad Request", "InvalidParameter", "invalid_request_error", "invalid_parameter"),
        ("400 Bad Request", "DataInspectionFailed", "invalid_request_error", "data_inspection_failed"),
        ("500 Internal Server Error", "InternalError.Algo", "server_error", "internal_error_algo"),
    ] {
        let body = json!({"code": code, "message": "why", "request_id": "r-1"}).to_string();
        let upstream = Upstream::answering(answer(
            status,
            &["Content-Type: application/json", "X-Request-Id: r-1"],
            &body,
        ));
        let gateway = gateway_at(upstream.address, &[], "");
        let got = call_as(&gateway, TENANT_KEY, "POST /v1/videos", &[], Some(&lighthouse()));
        let error = refused(&got, status[..3].parse().expect("a status"), alias);
        assert_eq!((&error["type"], &error["message"]), (&json!(kind), &json!("why")));
        assert_eq!(got.field("x-request-id").as_deref(), Some("r-1"));
        // The message is the upstream's, not the gateway's.
        assert_eq!(got.field("x-dashgate-reason"), None);
    }
    // A submit whose answer was lost may have been accepted: the SDK must not send it again.
    let upstream = Upstream::start(|_, _| false);
    let gateway = gateway_at(upstream.address, &[], "");
    let got = call_as(&gateway, TENANT_KEY, "POST /v1/videos", &[], Some(&lighthouse()));
    refused(&got, 502, "service_unavailable");
    assert_eq!(got.field("x-should-retry").as_deref(), Some("false"));
}

//! A file in a create goes into the body where the model takes that, else into the storage of the account that
//! gets the task.

use dashgate::sim::{ScriptedFault, Simulator, SimulatorOptions};
use serde_json::json;

use super::{configured, gateway, gateway_at, ok, origin, refused, simulator, submits};
use crate::harness::{Gateway, Message, TENANT_KEY, message};

/// A form as the OpenAI SDK makes it.
fn form(gateway: &Gateway, fields: &[(&str, &str)], file: Option<(&str, &str, &[u8])>) -> Message {
    let mut body = Vec::new();
    for (name, value) in fields {
        body.extend(
            format!("--BB\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
                .into_bytes(),
        );
    }
    if let Some((name, kind, content)) = file {
        let head = "--BB\r\nContent-Disposition: form-data; name=\"input_reference\"";
        body.extend(format!("{head}; filename=\"{name}\"\r\nContent-Type: {kind}\r\n\r\n").into_bytes());
        body.extend(content);
        body.extend(b"\r\n");
    }
    body.extend(b"--BB--\r\n");
    let authorization = format!("Authorization: Bearer {TENANT_KEY}");
    let length = format!("Content-Length: {}", body.len());
    let fields = [authorization.as_str(), "Content-Type: multipart/form-data; boundary=BB", &length];
    gateway.ask([message("POST /v1/videos", &fields, "").into_bytes(), body].concat())
}

/// Bytes that begin like a picture.
fn picture(length: usize) -> Vec<u8> {
    [b"\x89PNG\r\n\x1a\n", &vec![b'p'; length][..]].concat()
}

#[test]
fn a_small_picture_goes_in_the_body_where_the_model_takes_it() {
    let simulator = simulator();
    let gateway = gateway(&simulator);
    let fields = [("model", "wan2.7-i2v"), ("prompt", "p"), ("seconds", "4"), ("size", "720x1280")];
    let video = ok(&form(&gateway, &fields, Some(("a b.png", "image/png", &picture(9)))));
    assert_eq!((&video["seconds"], &video["size"]), (&json!("4"), &json!("720x1280")));
    let body = submits(&simulator)[0].json();
    let url = "data:image/png;base64,iVBORw0KGgpwcHBwcHBwcHA=";
    let expected = json!({"model": "wan2.7-i2v", "input": {"prompt": "p", "media": [{"type": "first_frame", "url": url}]},
        "parameters": {"duration": 4, "resolution": "720P"}});
    assert_eq!(body, expected);
    assert!(simulator.uploads().is_empty());
}

/// The refusal comes from the request for an upload policy, which a create needs before its body is inspected.
#[test]
fn a_file_for_a_model_that_is_not_allowed_takes_nothing_of_the_limits() {
    let simulator = simulator();
    let rules =
        "models = [\"wan2.6-*\"]\nlimits = { requests_per_second = 0.001, burst = 1, tasks_in_flight = 1 }";
    let gateway = gateway_at(simulator.address(), &[origin(simulator.oss_address())], rules);
    let fields = [("model", "wan2.7-i2v"), ("prompt", "p")];
    for _ in 0..2 {
        let got = form(&gateway, &fields, Some(("a.png", "image/png", &picture(2_000_000))));
        assert_eq!(got.status(), 403, "{}", got.text());
        let told = ["x-dashgate-reason", "ratelimit-remaining"].map(|name| got.field(name));
        assert_eq!(told, [Some("model_not_allowed".to_owned()), Some("1".to_owned())]);
    }
}

#[test]
fn what_is_larger_or_of_another_kind_goes_into_storage() {
    let simulator = simulator();
    let gateway = gateway(&simulator);
    let clip = [b"\0\0\0\x20ftypisom", &[0; 64][..]].concat();
    for (model, name, kind, content, place) in [
        ("wan2.7-i2v", "\u{732b} 1.png", "image/png", picture(2_000_000), "/input/media/0/url"),
        ("wan2.7-r2v", "a.mp4", "video/mp4", clip.clone(), "/input/media/0/url"),
        (
            "wan2.6-i2v",
            "a.jpg",
            "application/octet-stream",
            [b"\xff\xd8\xff", &[1; 9][..]].concat(),
            "/input/img_url",
        ),
        ("wan2.2-kf2v-flash", "a.png", "image/png", picture(9), "/input/first_frame_url"),
        ("wan2.6-r2v", "a.mp4", "video/mp4", clip, "/input/reference_urls/0"),
    ] {
        simulator.clear();
        let before = simulator.uploads().len();
        ok(&form(&gateway, &[("model", model), ("prompt", "p")], Some((name, kind, &content))));
        let uploads = simulator.uploads();
        let upload = &uploads.last().expect("an upload");
        assert_eq!(uploads.len(), before + 1);
        assert_eq!((upload.length, upload.model.as_str()), (content.len() as u64, model));
        let submit = submits(&simulator).pop().expect("a submit");
        assert_eq!(submit.json().pointer(place), Some(&json!(format!("oss://{}", upload.key))), "{model}");
        assert_eq!(submit.header("x-dashscope-ossresourceresolve"), Some("enable"));
        // OSS gets the policy's signature and no key; the name is one that DashScope can fetch.
        assert!(upload.key.is_ascii() && !upload.key.contains(' '), "{}", upload.key);
        let posted = simulator.requests().into_iter().find(|seen| seen.path() == "/").expect("a form");
        assert_eq!(posted.header("authorization"), None);
    }
}

/// Only the account that has the file can read it, so the task goes there, however many accounts there are.
#[test]
fn the_task_goes_to_the_account_that_stores_the_file() {
    let keys = ["sk-east", "sk-west", "sk-north"];
    let simulators = keys.map(|key| {
        let keys = vec![key.parse().expect("a key")];
        Simulator::start(SimulatorOptions { keys, submit_rps: Some(u32::MAX), ..SimulatorOptions::default() })
            .expect("a simulator")
    });
    let names = ["east", "west", "north"];
    let key_lists = keys.each_ref().map(std::slice::from_ref);
    let accounts: Vec<_> =
        (0..3).map(|index| (names[index], simulators[index].address(), key_lists[index], "")).collect();
    let storage: Vec<String> = simulators.iter().map(|simulator| origin(simulator.oss_address())).collect();
    let gateway = Gateway::configured(&configured(&accounts, &storage, ""));
    let models = [
        "wan2.6-i2v",
        "wan2.5-i2v-preview",
        "wan2.2-i2v-plus",
        "wan2.2-kf2v-flash",
        "wanx2.1-i2v-turbo",
        "wanx2.1-i2v-plus",
    ];
    for model in models {
        for _ in 0..3 {
            ok(&form(
                &gateway,
                &[("model", model), ("prompt", "p")],
                Some(("a.png", "image/png", &picture(9))),
            ));
        }
    }
    let counts = simulators.each_ref().map(|simulator| (simulator.uploads().len(), submits(simulator).len()));
    assert_eq!(counts.iter().map(|(uploads, _)| uploads).sum::<usize>(), 18, "{counts:?}");
    assert!(counts.iter().all(|(uploads, submits)| uploads == submits), "{counts:?}");
    assert!(counts.iter().filter(|(uploads, _)| *uploads > 0).count() > 1, "{counts:?}");
}

#[test]
fn a_form_without_a_file_is_as_good_as_json() {
    let simulator = simulator();
    let gateway = gateway(&simulator);
    let fields = [
        ("model", "wan2.7-i2v"),
        ("prompt", "p"),
        ("seed", "7"),
        ("generate_audio", "false"),
        ("parameters[watermark]", "true"),
        ("input_reference[content][][type]", "image_url"),
        ("input_reference[content][][role]", "first_frame"),
        ("input_reference[content][][image_url][url]", "https://x/i.png"),
    ];
    ok(&form(&gateway, &fields, None));
    let expected = json!({"model": "wan2.7-i2v",
        "input": {"prompt": "p", "media": [{"type": "first_frame", "url": "https://x/i.png"}]},
        "parameters": {"seed": 7, "audio": false, "watermark": true}});
    assert_eq!(submits(&simulator)[0].json(), expected);
}

#[test]
fn a_file_that_cannot_be_used_is_refused_before_it_is_stored() {
    let simulator = simulator();
    let gateway = gateway(&simulator);
    let model = |model| [("model", model), ("prompt", "p")];
    let big = picture(600_000);
    for (fields, file) in [
        (&model("wan2.7-t2v"), ("a.png", "image/png", &big[..])),
        (&model("kling-v3"), ("a.png", "image/png", &big)),
        (&model("wan2.7-i2v"), ("a.txt", "text/plain", b"hello")),
    ] {
        let error = refused(&form(&gateway, fields, Some(file)), 400, "invalid_parameter");
        assert_eq!(error["param"], "input_reference");
    }
    assert!(simulator.requests().is_empty(), "nothing was asked for, nothing stored");
    // A tenant that may not upload, or not use the model, gets no policy either.
    for tenant in ["allow = [\"generate\", \"tasks\"]", "models = [\"wan2.6-*\"]"] {
        let gateway = gateway_at(simulator.address(), &[origin(simulator.oss_address())], tenant);
        let got = form(&gateway, &model("wan2.7-i2v"), Some(("a.png", "image/png", &big)));
        assert_eq!(got.status(), 403, "{}", got.text());
    }
    // Storage on no list gets no connection.
    let unlisted = gateway_at(simulator.address(), &[], "");
    let got = form(&unlisted, &model("wan2.7-i2v"), Some(("a.png", "image/png", &big)));
    refused(&got, 502, "service_unavailable");
    assert!(simulator.uploads().is_empty() && submits(&simulator).is_empty());
    simulator.fault("POST / status=500".parse::<ScriptedFault>().expect("a fault"));
    let got = form(&gateway, &model("wan2.7-i2v"), Some(("a.png", "image/png", &big)));
    refused(&got, 502, "service_unavailable");
    // Nothing was submitted, so the SDK may send it again.
    assert_eq!(got.field("x-should-retry"), None);
    assert!(submits(&simulator).is_empty());
}

/// SDKs draw a new boundary for each try, and send the same file again.
#[test]
fn a_form_that_is_sent_again_with_its_key_makes_no_second_video() {
    let simulator = simulator();
    let gateway = gateway(&simulator);
    let send = |boundary: &str, prompt: &str| {
        let text = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nwan2.7-i2v\r\n\
             --{boundary}\r\nContent-Disposition: form-data; name=\"prompt\"\r\n\r\n{prompt}\r\n\
             --{boundary}\r\nContent-Disposition: form-data; name=\"input_reference\"; filename=\"a.png\"\r\n\
             Content-Type: image/png\r\n\r\n"
        );
        let body =
            [text.as_bytes(), &picture(2_000_000), format!("\r\n--{boundary}--\r\n").as_bytes()].concat();
        let authorization = format!("Authorization: Bearer {TENANT_KEY}");
        let form = format!("Content-Type: multipart/form-data; boundary={boundary}");
        let length = format!("Content-Length: {}", body.len());
        let fields = [authorization.as_str(), &form, &length, "Idempotency-Key: k"];
        gateway.ask([message("POST /v1/videos", &fields, "").into_bytes(), body].concat())
    };
    let first = send("one", "a cat");
    let again = send("another", "a cat");
    assert_eq!(ok(&again), ok(&first));
    assert_eq!(again.field("idempotency-replayed").as_deref(), Some("true"));
    let other = send("one", "a dog");
    assert_eq!((other.status(), other.json()["error"]["code"].as_str()), (422, Some("invalid_parameter")));
    assert_eq!((submits(&simulator).len(), simulator.uploads().len()), (1, 1));
}

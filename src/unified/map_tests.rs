//! Tests of the mapping, for each family and each field: the client's create, and the native body made from it.

use serde_json::json;

use super::*;

fn mapped(fields: Value) -> Result<(&'static str, Value), UnifiedFault> {
    let fields = fields.as_object().expect("an object");
    map(fields, None).map(|native| (native.path, serde_json::from_slice(&native.body).expect("JSON")))
}

fn requested(fields: Value) -> [Option<String>; 3] {
    let native = map(fields.as_object().expect("an object"), None).expect("a native body");
    let RequestedVideo { prompt, seconds, size } = native.requested;
    [prompt, seconds, size].map(|text| text.map(String::from))
}

#[track_caller]
fn check(fields: Value, path: &str, expected: Value) {
    let (to, body) = mapped(fields.clone()).unwrap_or_else(|fault| panic!("{fields}: {fault:?}"));
    assert!(to.ends_with(path), "{fields} goes to {to}");
    assert_eq!(body, expected, "{fields}");
}

const SYNTHESIS: &str = "video-generation/video-synthesis";
const IMAGE_TO_VIDEO: &str = "image2video/video-synthesis";

fn frame(url: &str) -> Value {
    json!({"content": [{"type": "image_url", "role": "first_frame", "image_url": {"url": url}}]})
}

#[test]
fn seed_001() {
    check(
        json!({"model": "wan2.7-i2v", "prompt": "p", "size": "1280x720", "seconds": "5", "generate_audio": false,
            "input_reference": frame("https://example.com/first-frame.png")}),
        SYNTHESIS,
        json!({"model": "wan2.7-i2v",
            "input": {"prompt": "p", "media": [{"type": "first_frame", "url": "https://example.com/first-frame.png"}]},
            "parameters": {"resolution": "720P", "duration": 5, "audio": false}}),
    );
}

#[test]
fn each_family_takes_its_own_fields() {
    let size = "720x1280";
    for (model, path, input, parameters) in [
        ("wan2.7-t2v", SYNTHESIS, json!({}), json!({"resolution": "720P", "ratio": "9:16"})),
        ("wan2.7-t2v-2026-06-12", SYNTHESIS, json!({}), json!({"resolution": "720P", "ratio": "9:16"})),
        ("wan2.7-i2v", SYNTHESIS, json!({}), json!({"resolution": "720P"})),
        ("wan2.7-r2v", SYNTHESIS, json!({}), json!({"resolution": "720P", "ratio": "9:16"})),
        ("wan2.7-videoedit", SYNTHESIS, json!({}), json!({"resolution": "720P", "ratio": "9:16"})),
        ("wan3.0-video", SYNTHESIS, json!({}), json!({"resolution": "720P", "ratio": "9:16"})),
        ("wan2.2-kf2v-flash", IMAGE_TO_VIDEO, json!({}), json!({"resolution": "720P"})),
        ("wanx2.1-kf2v-plus", IMAGE_TO_VIDEO, json!({}), json!({"resolution": "720P"})),
        ("wan2.5-t2v-preview", SYNTHESIS, json!({}), json!({"size": "720*1280"})),
        ("wan2.5-i2v-preview", SYNTHESIS, json!({}), json!({"resolution": "720P"})),
        ("wan2.2-t2v-plus", SYNTHESIS, json!({}), json!({"size": "720*1280"})),
        ("wan2.2-i2v-plus", SYNTHESIS, json!({}), json!({"resolution": "720P"})),
        ("wanx2.1-t2v-turbo", SYNTHESIS, json!({}), json!({"size": "720*1280"})),
        ("wanx2.1-i2v-turbo", SYNTHESIS, json!({}), json!({"resolution": "720P"})),
        ("wan2.1-vace-plus", SYNTHESIS, json!({}), json!({"size": "720*1280"})),
        ("wan2.2-s2v", IMAGE_TO_VIDEO, json!({}), json!({"resolution": "720P"})),
    ] {
        let (mut input, mut parameters) = (input, parameters);
        for (field, value) in [("prompt", json!("p")), ("negative_prompt", json!("n"))] {
            input[field] = value;
        }
        for (field, value) in [("duration", json!(8)), ("seed", json!(7)), ("audio", json!(true))] {
            parameters[field] = value;
        }
        check(
            json!({"model": model, "prompt": "p", "negative_prompt": "n", "size": size, "seconds": 8, "seed": 7,
                "generate_audio": true}),
            path,
            json!({"model": model, "input": input, "parameters": parameters}),
        );
    }
}

#[test]
fn in_2_6_a_negative_prompt_is_a_parameter() {
    for (model, shape) in [
        ("wan2.6-t2v", json!({"size": "1280*720"})),
        ("wan2.6-r2v", json!({"size": "1280*720"})),
        ("wan2.6-i2v", json!({"resolution": "720P"})),
        ("wan2.6-i2v-flash", json!({"resolution": "720P"})),
    ] {
        let mut parameters = shape;
        parameters["negative_prompt"] = json!("n");
        parameters["shot_type"] = json!("multi");
        check(
            json!({"model": model, "prompt": "p", "negative_prompt": "n", "size": "1280*720", "shot_type": "multi"}),
            SYNTHESIS,
            json!({"model": model, "input": {"prompt": "p"}, "parameters": parameters}),
        );
    }
}

#[test]
fn an_input_goes_where_its_model_looks_for_it() {
    let image = |role: Option<&str>| {
        let mut item = json!({"type": "image_url", "image_url": {"url": "https://x/i"}});
        if let Some(role) = role {
            item["role"] = json!(role);
        }
        item
    };
    let video = json!({"type": "video_url", "video_url": {"url": "https://x/v"}});
    let audio = json!({"type": "audio_url", "audio_url": {"url": "https://x/a"}});
    let media = |items: &[(&str, &str)]| {
        let items: Vec<Value> = items.iter().map(|(role, url)| json!({"type": role, "url": url})).collect();
        json!({"media": items})
    };
    let (i, v, a) = ("https://x/i", "https://x/v", "https://x/a");
    for (model, content, path, input) in [
        ("wan2.7-t2v", vec![audio.clone()], SYNTHESIS, json!({"audio_url": a})),
        ("wan2.7-i2v", vec![image(None)], SYNTHESIS, media(&[("first_frame", i)])),
        (
            "wan2.7-i2v",
            vec![image(Some("first_frame")), image(Some("last_frame")), audio.clone()],
            SYNTHESIS,
            media(&[("first_frame", i), ("last_frame", i), ("driving_audio", a)]),
        ),
        ("wan2.7-i2v", vec![video.clone()], SYNTHESIS, media(&[("first_clip", v)])),
        (
            "wan2.7-r2v",
            vec![image(None), video.clone(), image(Some("first_frame"))],
            SYNTHESIS,
            media(&[("reference_image", i), ("reference_video", v), ("first_frame", i)]),
        ),
        (
            "wan2.7-videoedit",
            vec![video.clone(), image(None)],
            SYNTHESIS,
            media(&[("video", v), ("reference_image", i)]),
        ),
        ("wan3.0-video", vec![image(None)], SYNTHESIS, media(&[("first_frame", i)])),
        (
            "wan2.2-kf2v-flash",
            vec![image(None), image(Some("last_frame"))],
            IMAGE_TO_VIDEO,
            json!({"first_frame_url": i, "last_frame_url": i}),
        ),
        ("wan2.6-i2v", vec![image(Some("first_frame"))], SYNTHESIS, json!({"img_url": i})),
        ("wan2.6-r2v", vec![image(None), video.clone()], SYNTHESIS, json!({"reference_urls": [i, v]})),
        (
            "wan2.5-i2v-preview",
            vec![image(None), audio.clone()],
            SYNTHESIS,
            json!({"img_url": i, "audio_url": a}),
        ),
        ("wanx2.1-i2v-plus", vec![image(None)], SYNTHESIS, json!({"img_url": i})),
        (
            "wan2.2-animate-move",
            vec![image(None), video],
            IMAGE_TO_VIDEO,
            json!({"image_url": i, "video_url": v}),
        ),
        ("wan2.2-s2v", vec![image(None), audio], IMAGE_TO_VIDEO, json!({"image_url": i, "audio_url": a})),
    ] {
        check(
            json!({"model": model, "input_reference": {"content": content}}),
            path,
            json!({"model": model, "input": input, "parameters": {}}),
        );
    }
}

#[test]
fn what_is_native_already_passes_into_its_place() {
    check(
        json!({"model": "wan2.7-r2v", "prompt": "p", "negative_prompt": "n", "resolution": "1080P", "ratio": "3:4",
            "duration": 10, "prompt_extend": false, "watermark": true, "audio_setting": "origin",
            "media": [{"type": "reference_image", "url": "u", "reference_voice": "w"}],
            "input": {"template": "flying", "anything": [1, {"b": null}]},
            "parameters": {"new": 10.04, "n": 1}}),
        SYNTHESIS,
        json!({"model": "wan2.7-r2v",
            "input": {"prompt": "p", "negative_prompt": "n", "template": "flying", "anything": [1, {"b": null}],
                "media": [{"type": "reference_image", "url": "u", "reference_voice": "w"}]},
            "parameters": {"resolution": "1080P", "ratio": "3:4", "duration": 10, "prompt_extend": false,
                "watermark": true, "audio_setting": "origin", "new": 10.04, "n": 1}}),
    );
    check(
        json!({"model": "kling-v3", "prompt": "p", "seconds": "5", "parameters": {"aspect": "1:1"}, "size": null}),
        SYNTHESIS,
        json!({"model": "kling-v3", "input": {"prompt": "p"}, "parameters": {"duration": 5, "aspect": "1:1"}}),
    );
    // The reference is appended to the list that the client wrote.
    check(
        json!({"model": "wan2.7-i2v", "media": [{"type": "driving_audio", "url": "a"}],
            "input_reference": "https://x/i.png"}),
        SYNTHESIS,
        json!({"model": "wan2.7-i2v", "parameters": {}, "input": {"media": [
            {"type": "driving_audio", "url": "a"}, {"type": "first_frame", "url": "https://x/i.png"}]}}),
    );
    // A field written twice with one value is no contradiction.
    check(
        json!({"model": "wan2.7-t2v", "seconds": "5", "duration": 5, "size": "1280x720", "resolution": "720P"}),
        SYNTHESIS,
        json!({"model": "wan2.7-t2v", "input": {},
            "parameters": {"duration": 5, "resolution": "720P", "ratio": "16:9"}}),
    );
}

#[test]
fn what_cannot_be_expressed_is_refused_by_name() {
    for (fields, field) in [
        (json!({}), "model"),
        (json!({"model": ""}), "model"),
        (json!({"model": 5}), "model"),
        (json!({"model": "wan2.7-i2v", "content": []}), "content"),
        (json!({"model": "wan2.7-t2v", "user": "u"}), "user"),
        (json!({"model": "wan2.7-t2v", "seconds": "4.5"}), "seconds"),
        (json!({"model": "wan2.7-t2v", "seconds": true}), "seconds"),
        (json!({"model": "wan2.7-t2v", "size": "1792x1024"}), "size"),
        (json!({"model": "wan2.7-t2v", "size": "832x480"}), "size"),
        (json!({"model": "wan2.7-i2v", "size": "big"}), "size"),
        (json!({"model": "kling-v3", "size": "1280x720"}), "size"),
        (json!({"model": "wan2.7-t2v", "input": []}), "input"),
        (json!({"model": "wan2.7-t2v", "parameters": "{}"}), "parameters"),
        (json!({"model": "wan2.7-t2v", "seconds": 5, "duration": 6}), "seconds"),
        (json!({"model": "wan2.7-t2v", "prompt": "a", "input": {"prompt": "b"}}), "prompt"),
        (json!({"model": "wan2.7-t2v", "size": "1280x720", "ratio": "1:1"}), "size"),
        (json!({"model": "wan2.7-t2v", "input_reference": frame("https://x/a")}), "input_reference"),
        (json!({"model": "wan2.7-videoedit", "input_reference": "https://x/a.mp3"}), "input_reference"),
        (json!({"model": "kling-v3", "input_reference": "https://x/a.png"}), "input_reference"),
        (json!({"model": "wan2.7-i2v", "media": "x", "input_reference": "https://x/a.png"}), "media"),
        (
            json!({"model": "wan2.6-i2v", "input_reference": [{"image_url": "https://x/a", "role": "last_frame"}]}),
            "input_reference",
        ),
    ] {
        let fault = mapped(fields.clone()).expect_err("refused");
        assert_eq!(fault.field.as_deref(), Some(field), "{fields}");
        assert!(!fault.problem.is_empty());
    }
    let fault = mapped(json!({"model": "m", "content": []})).expect_err("refused");
    assert!(fault.problem.contains("input_reference.content"), "{fault:?}");
}

#[test]
fn files_in_storage_are_noticed() {
    let names_files =
        |fields: Value| map(fields.as_object().expect("an object"), None).map(|native| native.names_files);
    assert_eq!(names_files(json!({"model": "wan2.7-i2v", "input_reference": "oss://d/a.png"})), Ok(true));
    assert_eq!(
        names_files(json!({"model": "wan2.7-i2v", "input": {"x": [{"y": "oss://d/a.png"}]}})),
        Ok(true)
    );
    assert_eq!(names_files(json!({"model": "wan2.7-i2v", "prompt": "a boss"})), Ok(false));
}

#[test]
fn what_was_asked_for_is_kept_in_the_clients_words() {
    let text = |text: &str| Some(text.to_owned());
    for (fields, expected) in [
        (
            json!({"model": "wan2.7-i2v", "prompt": "p", "seconds": "8", "size": "1280x720"}),
            [text("p"), text("8"), text("1280x720")],
        ),
        (json!({"model": "wan2.7-t2v"}), [None, text("5"), text("1920x1080")]),
        (
            json!({"model": "wan2.7-t2v", "ratio": "9:16", "resolution": "720P"}),
            [None, text("5"), text("720x1280")],
        ),
        (json!({"model": "wan2.7-i2v", "resolution": "720P"}), [None, text("5"), text("720P")]),
        (
            json!({"model": "wan2.6-t2v", "parameters": {"size": "1280*720"}}),
            [None, text("5"), text("1280x720")],
        ),
        (json!({"model": "wan2.7-videoedit", "duration": 0}), [None, None, None]),
        (json!({"model": "kling-v3"}), [None, None, None]),
    ] {
        assert_eq!(requested(fields.clone()), expected, "{fields}");
    }
}

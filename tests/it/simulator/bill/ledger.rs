//! The ledger of a gateway, held against the bill of the simulator behind it.

use std::collections::BTreeMap;
use std::time::Duration;

use dashgate::sim::{Simulator, SimulatorOptions};
use futures_util::SinkExt;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use super::super::websocket::{Socket, frame, next_event, open_at};
use super::{bill, listed};
use crate::harness::calls::bearer;
use crate::harness::{Gateway, TENANT_KEY, eventually, message};

fn both() -> (Simulator, Gateway) {
    let simulator = super::start(SimulatorOptions {
        run: Duration::from_millis(10),
        pending: Some(Duration::ZERO),
        submit_rps: Some(1000),
        query_qps: 1000,
        ..SimulatorOptions::default()
    });
    let gateway = Gateway::with(simulator.address(), "", "");
    (simulator, gateway)
}

fn entries(gateway: &Gateway) -> Vec<Value> {
    let page = gateway.administer("GET /admin/usage/entries?limit=1000", "").json();
    page["entries"].as_array().expect("entries").clone()
}

/// The parts of a line or an entry that must agree, by its id.
fn charges(lines: &[Value], id: impl Fn(&Value) -> String) -> BTreeMap<String, Value> {
    let charge = |line: &Value| {
        let [model, account, units, class] = ["model", "account", "units", "class"].map(|part| &line[part]);
        let parts = json!({"model": model, "account": account, "units": units, "class": class,
            "usage": joined(&line["usage"])});
        (id(line), parts)
    };
    lines.iter().map(charge).collect()
}

/// A `usage` as one object. The ledger keeps the two of an Anthropic stream as a list, of which the later one counts.
fn joined(usage: &Value) -> Value {
    let Some(parts) = usage.as_array() else { return usage.clone() };
    let fields = parts.iter().flat_map(|part| part.as_object().expect("an object"));
    fields.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// Compares entry by entry. Both sides are written a moment after a client has its answer.
fn assert_same(simulator: &Simulator, gateway: &Gateway, lines: usize) {
    let billed = || {
        let bill = bill(simulator);
        let mut billed =
            charges(listed(&bill, "tasks"), |line| format!("task:main/{}", text(&line["task_id"])));
        billed.extend(charges(listed(&bill, "calls"), |line| format!("call:{}", text(&line["request_id"]))));
        billed
    };
    eventually("all is entered and billed", || entries(gateway).len() >= lines && billed().len() >= lines);
    let entered = charges(&entries(gateway), |entry| text(&entry["source"]).to_owned());
    assert_eq!(entered.len(), lines);
    assert_eq!(entered, billed());
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}

/// Service, model, input and parameters of a task.
pub(crate) type Submit = (&'static str, &'static str, Value, Value);

pub(crate) fn submits() -> Vec<Submit> {
    const VIDEO: &str = "aigc/video-generation/video-synthesis";
    const IMAGE_TO_VIDEO: &str = "aigc/image2video/video-synthesis";
    const TEXT_TO_IMAGE: &str = "aigc/text2image/image-synthesis";
    const TRANSCRIPTION: &str = "audio/asr/transcription";
    let prompt = json!({"prompt": "a cat"});
    let media =
        |kind: &str| json!({"prompt": "a cat", "media": [{"type": kind, "url": "https://example.com/a"}]});
    let frame = json!({"first_frame_url": "https://example.com/a.png"});
    let sung = json!({"image_url": "https://example.com/a.png", "audio_url": "https://example.com/a.wav"});
    let moved = json!({"image_url": "https://example.com/a.png", "video_url": "https://example.com/a.mp4"});
    let files = json!({"file_urls": ["https://example.com/a.wav", "https://example.com/missing.wav"]});
    let none = Value::Null;
    vec![
        (VIDEO, "wan2.7-t2v", prompt.clone(), json!({"duration": 10, "resolution": "720P"})),
        (VIDEO, "wan2.7-i2v", media("first_frame"), none.clone()),
        (VIDEO, "wan2.7-r2v", media("reference_video"), json!({"duration": 7})),
        (VIDEO, "wan2.7-videoedit", media("video"), none.clone()),
        (VIDEO, "wan3.0-video", prompt.clone(), json!({"resolution": "480P"})),
        (VIDEO, "wan2.6-t2v", prompt.clone(), json!({"size": "832*480"})),
        (VIDEO, "wan2.5-t2v-preview", prompt.clone(), json!({"size": "960*960"})),
        (VIDEO, "wan2.2-t2v-plus", prompt.clone(), json!({"size": "1080*1920"})),
        (VIDEO, "wanx2.1-t2v-turbo", prompt.clone(), none.clone()),
        (IMAGE_TO_VIDEO, "wanx2.1-kf2v-plus", frame.clone(), none.clone()),
        (IMAGE_TO_VIDEO, "wan2.2-kf2v-flash", frame, json!({"resolution": "480P"})),
        (IMAGE_TO_VIDEO, "wan2.2-s2v", sung, none.clone()),
        (IMAGE_TO_VIDEO, "wan2.2-animate-mix", moved, json!({"mode": "wan-pro"})),
        (TEXT_TO_IMAGE, "wan2.2-t2i-flash", json!({"prompt": "fail:0"}), json!({"n": 3})),
        (TEXT_TO_IMAGE, "wan2.2-t2i-flash", json!({"prompt": "fail:0"}), json!({"n": 1})),
        (TEXT_TO_IMAGE, "qwen-image", prompt.clone(), none.clone()),
        ("aigc/image-generation/generation", "wan2.7-image", prompt, json!({"n": 2, "size": "4K"})),
        (TRANSCRIPTION, "paraformer-v2", files, none.clone()),
        (
            TRANSCRIPTION,
            "qwen3-asr-flash-filetrans",
            json!({"file_url": "https://example.com/a.wav"}),
            none.clone(),
        ),
        (
            "embeddings/text-embedding/text-embedding",
            "text-embedding-async-v2",
            json!({"url": "https://example.com/a.txt"}),
            none,
        ),
    ]
}

#[test]
fn tasks_of_all_families_are_entered_as_they_are_billed() {
    let (simulator, gateway) = both();
    let submits = submits();
    let count = submits.len();
    for (service, model, input, parameters) in submits {
        let mut body = json!({"model": model, "input": input});
        if parameters.is_object() {
            body["parameters"] = parameters;
        }
        let fields = [&*bearer(), "X-DashScope-Async: enable"];
        let got =
            gateway.ask(message(&format!("POST /api/v1/services/{service}"), &fields, &body.to_string()));
        assert_eq!(got.status(), 200, "{model}: {}", got.text());
        let answer = got.json();
        let id = text(&answer["output"]["task_id"]);
        simulator.advance(Duration::from_secs(1));
        eventually("the task ends", || {
            let got = gateway.ask(message(&format!("GET /api/v1/tasks/{id}"), &[&bearer()], "")).json();
            ["SUCCEEDED", "FAILED"].contains(&text(&got["output"]["task_status"]))
        });
    }
    assert_same(&simulator, &gateway, count);
    let bill = bill(&simulator);
    let failed: Vec<&Value> =
        listed(&bill, "tasks").iter().filter(|line| line["status"] == "FAILED").collect();
    assert_eq!(failed.len(), 1, "{failed:?}");
}

/// A path, further header fields, and the body of a call.
type Call = (&'static str, &'static [&'static str], Value);

fn calls() -> Vec<Call> {
    const TEXT: &str = "/api/v1/services/aigc/text-generation/generation";
    const MULTIMODAL: &str = "/api/v1/services/aigc/multimodal-generation/generation";
    const CHAT: &str = "/compatible-mode/v1/chat/completions";
    const MESSAGES: &str = "/apps/anthropic/v1/messages";
    const RESPONSES: &str = "/compatible-mode/v1/responses";
    const EVENTS: &[&str] = &["X-DashScope-SSE: enable"];
    let kinds =
        json!({"cached_tokens": 64, "cache_write_tokens": 32, "image_tokens": 16, "thinking_tokens": 8});
    let asked = json!([{"role": "user", "content": "hello there"}]);
    let native = |parameters: Value| json!({"model": "qwen-plus", "input": {"messages": asked}, "parameters": parameters});
    let chat = |stream: bool, sim: &Value| {
        json!({"model": "qwen-plus", "messages": asked, "stream": stream, "sim": sim, "max_tokens": 100,
            "stream_options": {"include_usage": true}})
    };
    let response = |stream: bool| json!({"model": "qwen-plus", "input": asked, "stream": stream, "store": false, "sim": kinds});
    let pictured = |model: &str, parameters: Value| {
        let message = json!({"role": "user", "content": [{"text": "a cat"}]});
        json!({"model": model, "input": {"messages": [message]}, "parameters": parameters})
    };
    let none = json!({});
    vec![
        (TEXT, &[], native(none.clone())),
        (TEXT, &[], native(json!({"sim": kinds}))),
        (TEXT, EVENTS, native(json!({"sim": kinds, "incremental_output": true}))),
        (CHAT, &[], chat(false, &none)),
        (CHAT, &[], chat(false, &kinds)),
        (CHAT, &[], chat(true, &kinds)),
        (MESSAGES, &[], chat(false, &kinds)),
        (MESSAGES, &[], chat(true, &kinds)),
        (RESPONSES, &[], response(false)),
        (RESPONSES, &[], response(true)),
        ("/compatible-mode/v1/completions", &[], json!({"model": "qwen-plus", "prompt": "hello"})),
        ("/compatible-mode/v1/embeddings", &[], json!({"model": "text-embedding-v4", "input": ["a", "b"]})),
        (
            "/compatible-api/v1/reranks",
            &[],
            json!({"model": "gte-rerank-v2", "query": "q", "documents": ["a"]}),
        ),
        (
            "/api/v1/services/embeddings/text-embedding/text-embedding",
            &[],
            json!({"model": "text-embedding-v4", "input": {"texts": ["a", "b"]}}),
        ),
        (
            "/api/v1/services/embeddings/multimodal-embedding/multimodal-embedding",
            &[],
            json!({"model": "multimodal-embedding-v1", "input": {"contents": [{"text": "a"}]}}),
        ),
        (
            "/api/v1/services/rerank/text-rerank/text-rerank",
            &[],
            json!({"model": "gte-rerank-v2", "input": {"query": "q", "documents": ["a", "b"]}}),
        ),
        (
            "/api/v1/services/aigc/image2video/face-detect",
            &[],
            json!({"model": "wan2.2-s2v-detect", "input": {"image_url": "https://example.com/a.png"}}),
        ),
        (MULTIMODAL, &[], pictured("wan2.7-image", json!({"n": 2, "size": "1024*1024"}))),
        (MULTIMODAL, &[], pictured("qwen-image", none.clone())),
        (MULTIMODAL, &[], pictured("qwen3-vl-plus", json!({"sim": kinds}))),
        (MULTIMODAL, &[], pictured("qwen3-asr-flash", none)),
        (MULTIMODAL, &[], json!({"model": "qwen3-tts-flash", "input": {"text": "hello"}})),
        (MULTIMODAL, EVENTS, json!({"model": "qwen3-tts-flash", "input": {"text": "hello"}})),
    ]
}

#[test]
fn calls_and_streams_of_all_dialects_are_entered_as_they_are_billed() {
    let (simulator, gateway) = both();
    let calls = calls();
    let count = calls.len();
    for (path, fields, body) in calls {
        let bearer = bearer();
        let fields = [&[&*bearer][..], fields].concat();
        let got = gateway.ask(message(&format!("POST {path}"), &fields, &body.to_string()));
        assert_eq!(got.status(), 200, "{path} {body}: {}", got.text());
    }
    assert_same(&simulator, &gateway, count);
    let unread = entries(&gateway).into_iter().filter(|entry| entry["flags"] != json!([]));
    assert_eq!(unread.collect::<Vec<_>>(), [Value::Null; 0]);
}

/// A stream that tells no use is estimated by the gateway. The bill says by how much that is wrong.
#[test]
fn a_stream_that_tells_no_use_is_billed() {
    let (simulator, gateway) = both();
    let body = json!({"model": "qwen-plus", "messages": [{"role": "user", "content": "hi"}], "stream": true});
    let path = "POST /compatible-mode/v1/chat/completions";
    assert_eq!(gateway.ask(message(path, &[&bearer()], &body.to_string())).status(), 200);
    eventually("the stream is entered", || entries(&gateway).len() == 1);
    let (entry, bill) = (entries(&gateway).remove(0), bill(&simulator));
    assert_eq!(entry["flags"], json!(["estimated"]));
    let line = &listed(&bill, "calls")[0];
    assert_eq!(entry["source"], format!("call:{}", text(&line["request_id"])));
    assert_eq!(line["usage"], json!({"prompt_tokens": 2, "completion_tokens": 9, "total_tokens": 11}));
}

/// A stream that broke off before it told its output was entered with none. An event of the simulator is about two tokens.
#[test]
fn a_stream_that_is_broken_by_an_error_is_estimated_and_cut() {
    let (simulator, gateway) = both();
    let asked = json!([{"role": "user", "content": "hello there, tell me a story"}]);
    let body = json!({"model": "qwen-plus", "messages": asked, "stream": true, "max_tokens": 100,
        "sim": {"fail_after": 4}, "stream_options": {"include_usage": true}});
    for (count, path) in
        ["/apps/anthropic/v1/messages", "/compatible-mode/v1/chat/completions"].iter().enumerate()
    {
        let got = gateway.ask(message(&format!("POST {path}"), &[&bearer()], &body.to_string()));
        assert!(got.text().contains("told to break"), "{}", got.text());
        eventually("the stream is entered", || entries(&gateway).len() == count + 1);
        let entry =
            entries(&gateway).into_iter().find(|entry| text(&entry["mount"]) == "/").expect("an entry");
        assert_eq!(entry["flags"], json!(["estimated", "cut"]), "{entry}");
    }
    let bill = bill(&simulator);
    let number = |units: &Value, unit: &str| text(&units[unit]).parse::<f64>().expect("a number");
    let lines = listed(&bill, "calls").iter();
    let entries = entries(&gateway);
    for (line, entry) in lines.zip(&entries) {
        for unit in ["input_token", "output_token"] {
            let [billed, entered] = [line, entry].map(|charge| number(&charge["units"], unit));
            assert!((billed / 2.0..=3.0 * billed + 3.0).contains(&entered), "{line} {entry}");
        }
    }
}

/// Reads events until one of this name; `place` gives the name of an event.
async fn until(socket: &mut Socket, name: &str, place: impl Fn(&Value) -> &Value) {
    while place(&next_event(socket).await) != name {}
}

async fn run_tasks(gateway: &Gateway) {
    let mut socket = open_at(gateway.address, "/api-ws/v1/inference", TENANT_KEY).await.expect("a socket");
    for (model, task, sent) in [
        ("cosyvoice-v2", "tts", frame("continue-task", json!({"input": {"text": "hello"}}))),
        ("paraformer-realtime-v2", "asr", Message::binary(vec![0; 80_000])),
        ("qwen-plus", "generation", frame("continue-task", json!({"input": {"text": "hello there"}}))),
    ] {
        let run = frame("run-task", json!({"model": model, "task": task, "input": {}}));
        for message in [run, sent, frame("finish-task", json!({"input": {}}))] {
            socket.send(message).await.expect("sent");
        }
        until(&mut socket, "task-finished", |event| &event["header"]["event"]).await;
    }
    socket.close(None).await.expect("closed");
}

async fn respond(gateway: &Gateway, model: &str, asked: &[Value]) {
    let path = format!("/api-ws/v1/realtime?model={model}");
    let mut socket = open_at(gateway.address, &path, TENANT_KEY).await.expect("a socket");
    for event in asked {
        socket.send(Message::text(event.to_string())).await.expect("sent");
    }
    until(&mut socket, "response.done", |event| &event["type"]).await;
    socket.close(None).await.expect("closed");
}

/// The gateway gives a socket an id of its own, so entries and lines are compared without ids.
#[tokio::test]
async fn tasks_and_responses_of_sockets_are_entered_as_they_are_billed() {
    let (simulator, gateway) = both();
    run_tasks(&gateway).await;
    let sound = json!({"type": "input_audio_buffer.append", "audio": "AAAA".repeat(1000)});
    let commit = json!({"type": "input_audio_buffer.commit"});
    respond(&gateway, "qwen3-omni-flash-realtime", &[sound, commit, json!({"type": "response.create"})])
        .await;
    let said = json!({"type": "input_text_buffer.append", "text": "hello"});
    respond(&gateway, "qwen3-tts-flash-realtime", &[said, json!({"type": "input_text_buffer.commit"})]).await;
    let bill = bill(&simulator);
    let billed = charges(listed(&bill, "calls"), |line| text(&line["model"]).to_owned());
    eventually("all is entered", || entries(&gateway).len() == 5);
    assert_eq!(charges(&entries(&gateway), |entry| text(&entry["model"]).to_owned()), billed);
    assert_eq!(billed.len(), 5);
    assert_eq!(billed["paraformer-realtime-v2"]["units"], json!({"audio_second": "3.000"}));
}

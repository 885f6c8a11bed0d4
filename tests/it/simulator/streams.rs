//! Simulated answers at once and in events, on every surface.

use dashgate::sim::SimulatorOptions;
use serde_json::{Value, json};

use super::{GENERATION, get, post, start};

const SSE: &str = "X-DashScope-SSE: enable\r\n";

#[test]
fn native_events_are_framed_exactly() {
    let simulator = start(SimulatorOptions { stream_events: 2, ..SimulatorOptions::default() });
    let body = json!({"model": "qwen-plus", "input": {"prompt": "hi"},
        "parameters": {"result_format": "message", "incremental_output": true}});
    let answer = post(&simulator, "sk-1", GENERATION, SSE, &body);
    assert!(answer.header("content-type").unwrap().starts_with("text/event-stream"));
    let events: Vec<&str> = answer.text().split_terminator("\n\n").collect();
    assert_eq!(events.len(), 2);
    let data = events[1].strip_prefix("id:2\nevent:result\n:HTTP_STATUS/200\ndata:").unwrap();
    let data: Value = serde_json::from_str(data).unwrap();
    assert_eq!(data["output"]["choices"][0]["message"]["content"], " from");
    assert_eq!(data["output"]["choices"][0]["finish_reason"], "stop");
    assert_eq!(data["request_id"], answer.header("x-request-id").unwrap());
}

#[test]
fn a_stream_may_end_in_an_error() {
    let simulator = start(SimulatorOptions::default());
    let body =
        json!({"model": "qwen-plus", "input": {"prompt": "hi"}, "parameters": {"sim": {"fail_after": 1}}});
    let answer = post(&simulator, "sk-1", GENERATION, SSE, &body);
    assert_eq!(answer.status, 200);
    assert!(answer.text().contains("id:2\nevent:error\n:HTTP_STATUS/500\ndata:{\"code\":"));
}

#[test]
fn an_error_may_be_framed_as_an_event_and_called_json() {
    let simulator = start(SimulatorOptions::default());
    let sim = json!({"framed_error": true});
    let body = json!({"model": "qwen-plus", "input": {"prompt": "hi"}, "parameters": {"sim": sim}});
    let answer = post(&simulator, "sk-1", GENERATION, SSE, &body);
    assert_eq!((answer.status, answer.header("content-type")), (400, Some("application/json")));
    assert!(answer.text().starts_with("id:1\nevent:error\n:HTTP_STATUS/"));
}

#[test]
fn synchronous_services_answer_at_once() {
    let simulator = start(SimulatorOptions::default());
    let output = |path: &str, model: &str, input: Value| {
        let body = json!({"model": model, "input": input});
        let answer = post(&simulator, "sk-1", &format!("/api/v1/services/{path}"), "", &body);
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()["output"].clone()
    };
    let message = json!({"messages": [{"role": "user", "content": [{"text": "hi"}]}]});
    let multimodal = "aigc/multimodal-generation/generation";
    let text = output(multimodal, "qwen3-vl-plus", message.clone());
    assert!(text["choices"][0]["message"]["content"][0]["text"].is_string());
    let image = output(multimodal, "wan2.7-image", message);
    assert!(image["choices"][0]["message"]["content"][0]["image"].is_string());
    assert!(output(multimodal, "qwen3-tts-flash", json!({"text": "hi"}))["audio"]["url"].is_string());
    let vectors =
        output("embeddings/text-embedding/text-embedding", "text-embedding-v4", json!({"texts": ["a", "b"]}));
    assert_eq!(vectors["embeddings"][1]["text_index"], 1);
    let ranks = json!({"query": "q", "documents": ["a", "b"]});
    assert_eq!(output("rerank/text-rerank/text-rerank", "gte-rerank-v2", ranks)["results"][1]["index"], 1);
}

#[test]
fn the_compatible_surfaces_speak_their_own_dialects() {
    let simulator = start(SimulatorOptions::default());
    let ask = |path: &str, body: Value| post(&simulator, "sk-1", path, "", &body);
    let body = json!({"model": "qwen-plus", "messages": [{"role": "user", "content": "hi"}]});
    let chat = "/compatible-mode/v1/chat/completions";
    assert!(ask(chat, body.clone()).json()["choices"][0]["message"]["content"].is_string());
    let mut streamed = body;
    streamed["stream"] = true.into();
    streamed["stream_options"] = json!({"include_usage": true});
    let answer = ask(chat, streamed.clone());
    let events: Vec<&str> = answer.text().split_terminator("\n\n").collect();
    assert_eq!(events.len(), 7);
    assert!(events.iter().all(|event| event.starts_with("data: ")));
    assert_eq!(events.last(), Some(&"data: [DONE]"));
    let messages = ask("/apps/anthropic/v1/messages", streamed);
    assert!(messages.text().starts_with("event: message_start\ndata: "));
    assert!(messages.text().contains("event: message_stop"));
    let counted =
        ask("/apps/anthropic/v1/messages/count_tokens", json!({"model": "qwen-plus", "messages": []}));
    assert!(counted.json()["input_tokens"].is_u64());
    let vectors = ask("/compatible-mode/v1/embeddings", json!({"model": "text-embedding-v4", "input": "hi"}));
    assert_eq!(vectors.json()["data"][0]["object"], "embedding");
    assert_eq!(ask("/compatible-mode/v1/reranks", json!({"model": "gte-rerank-v2"})).status, 404);
    let unknown = ask(chat, json!({"model": "gpt-4", "messages": []}));
    assert_eq!((unknown.status, &unknown.json()["error"]["code"]), (404, &json!("model_not_found")));
    let refused = get(&simulator, "nokey", "/compatible-mode/v1/models");
    assert_eq!(refused.json()["error"]["code"], "invalid_api_key");
}

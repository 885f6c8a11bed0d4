//! The OpenAI- and Anthropic-compatible surfaces.

use serde_json::{Value, json};
use uuid::Uuid;

use super::account::Caller;
use super::call::Call;
use super::errors::{Cause, Refusal};
use super::generation::{listed, rerank, said, tokens, vector};
use super::models;
use super::reply::Reply;
use super::service::admit;
use super::streaming::Score;
use super::world::World;

pub(super) fn chat(world: &World, call: &Call, caller: &Caller) -> Result<Reply, Refusal> {
    let body = admitted(world, call, caller)?;
    if listed(&body["messages"]).iter().any(Value::is_null) {
        return Err(Refusal::parameter("messages must not be empty."));
    }
    let score = Score::of(&world.options, &body["sim"]);
    Ok(talk(call, &body, score, Talk::Chat))
}

pub(super) fn completions(world: &World, call: &Call, caller: &Caller) -> Result<Reply, Refusal> {
    let body = admitted(world, call, caller)?;
    let score = Score::of(&world.options, &body["sim"]);
    Ok(talk(call, &body, score, Talk::Completion))
}

pub(super) fn embeddings(world: &World, call: &Call, caller: &Caller) -> Result<Reply, Refusal> {
    let body = admitted(world, call, caller)?;
    if body["input"].is_null() {
        return Err(Refusal::parameter("input is required."));
    }
    let inputs = listed(&body["input"]);
    let row = |(index, text): (usize, &Value)| json!({"object": "embedding", "index": index, "embedding": vector(&said(text))});
    let data: Vec<Value> = inputs.iter().enumerate().map(row).collect();
    let total: u64 = inputs.iter().map(|text| tokens(&said(text))).sum();
    Ok(Reply::json(
        200,
        &json!({
            "object": "list", "data": data, "model": body["model"], "id": call.request_id,
            "usage": {"prompt_tokens": total, "total_tokens": total},
        }),
    ))
}

pub(super) fn reranks(world: &World, call: &Call, caller: &Caller) -> Result<Reply, Refusal> {
    let body = admitted(world, call, caller)?;
    let (output, usage) = rerank(&body);
    Ok(Reply::json(
        200,
        &json!({
            "object": "list", "results": output["results"], "model": body["model"], "usage": usage,
            "id": call.request_id,
        }),
    ))
}

pub(super) fn messages(world: &World, call: &Call, caller: &Caller) -> Result<Reply, Refusal> {
    let body = admitted(world, call, caller)?;
    let score = Score::of(&world.options, &body["sim"]);
    let id = format!("msg_{}", Uuid::new_v4());
    let input_tokens = tokens(&said(&body["messages"]));
    let message = |content: Value, stop: Value, output_tokens: u64| {
        json!({
            "id": id, "type": "message", "role": "assistant", "model": body["model"], "content": content,
            "stop_reason": stop, "stop_sequence": null,
            "usage": {"input_tokens": input_tokens, "output_tokens": output_tokens},
        })
    };
    if body["stream"] != true {
        let text = score.whole();
        let content = json!([{"type": "text", "text": text}]);
        return Ok(Reply::json(200, &message(content, "end_turn".into(), tokens(&text))));
    }
    let start = named_event(&json!({"type": "message_start", "message": message(json!([]), Value::Null, 0)}));
    let block =
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}});
    let start = start + &named_event(&block);
    let spoken = score.clone();
    let event = move |number: u64| {
        let delta = json!({"type": "text_delta", "text": spoken.piece(number)});
        let delta = named_event(&json!({"type": "content_block_delta", "index": 0, "delta": delta}));
        let first = if number == 0 { start.as_str() } else { "" };
        let end = if number == spoken.last() { message_end(tokens(&spoken.whole())) } else { String::new() };
        format!("{first}{delta}{end}")
    };
    let error = |_| {
        let error = json!({"type": "api_error", "message": "The simulator was told to break this stream."});
        named_event(&json!({"type": "error", "error": error}))
    };
    Ok(Reply::stream(score.steps(event, error)))
}

fn message_end(output_tokens: u64) -> String {
    let stop = json!({"type": "content_block_stop", "index": 0});
    let delta = json!({
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn", "stop_sequence": null},
        "usage": {"output_tokens": output_tokens},
    });
    named_event(&stop) + &named_event(&delta) + &named_event(&json!({"type": "message_stop"}))
}

fn named_event(data: &Value) -> String {
    format!("event: {}\ndata: {data}\n\n", data["type"].as_str().unwrap_or_default())
}

/// The body, once model and account have passed.
fn admitted(world: &World, call: &Call, caller: &Caller) -> Result<Value, Refusal> {
    let body = call.json()?;
    let name = body["model"].as_str().unwrap_or_default();
    if name.is_empty() {
        return Err(Refusal::parameter("you must provide a model parameter"));
    }
    let model = models::find(name).ok_or_else(|| {
        let message = format!("The model `{name}` does not exist or you do not have access to it.");
        Refusal::new(Cause::ModelNotFound, message)
    })?;
    admit(world, call, caller, name, model)?;
    Ok(body)
}

#[derive(Clone, Copy)]
enum Talk {
    Chat,
    Completion,
}

impl Talk {
    fn whole(self, text: &str) -> Value {
        match self {
            Talk::Chat => json!({
                "index": 0, "finish_reason": "stop", "logprobs": null,
                "message": {"role": "assistant", "content": text},
            }),
            Talk::Completion => json!({"index": 0, "finish_reason": "stop", "logprobs": null, "text": text}),
        }
    }

    fn piece(self, text: &str, first: bool, finish_reason: &Value) -> Value {
        match self {
            Talk::Chat => {
                let mut delta = json!({"content": text});
                if first {
                    delta["role"] = "assistant".into();
                }
                json!({"index": 0, "finish_reason": finish_reason, "logprobs": null, "delta": delta})
            }
            Talk::Completion => {
                json!({"index": 0, "finish_reason": finish_reason, "logprobs": null, "text": text})
            }
        }
    }

    fn object(self, streams: bool) -> &'static str {
        match (self, streams) {
            (Talk::Chat, false) => "chat.completion",
            (Talk::Chat, true) => "chat.completion.chunk",
            (Talk::Completion, _) => "text_completion",
        }
    }
}

fn talk(call: &Call, body: &Value, score: Score, talk: Talk) -> Reply {
    let streams = body["stream"] == true;
    let prompt_tokens = tokens(&(said(&body["messages"]) + &said(&body["prompt"])));
    let usage = move |text: &str| {
        let output = tokens(text);
        json!({"prompt_tokens": prompt_tokens, "completion_tokens": output, "total_tokens": prompt_tokens + output})
    };
    let created = call.now.duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let head = json!({
        "id": format!("chatcmpl-{}", call.request_id), "object": talk.object(streams), "created": created,
        "model": body["model"], "system_fingerprint": null,
    });
    let with = move |choices: Value, usage: Value| {
        let mut chunk = head.clone();
        chunk["choices"] = choices;
        chunk["usage"] = usage;
        chunk
    };
    if !streams {
        let text = score.whole();
        return Reply::json(200, &with(json!([talk.whole(&text)]), usage(&text)));
    }
    let include_usage = body["stream_options"]["include_usage"] == true;
    let spoken = score.clone();
    let event = move |number: u64| {
        let last = number == spoken.last();
        let finish_reason = if last { "stop".into() } else { Value::Null };
        let choice = talk.piece(&spoken.piece(number), number == 0, &finish_reason);
        let mut text = format!("data: {}\n\n", with(json!([choice]), Value::Null));
        if last && include_usage {
            text += &format!("data: {}\n\n", with(json!([]), usage(&spoken.whole())));
        }
        if last {
            text += "data: [DONE]\n\n";
        }
        text
    };
    let request_id = call.request_id.clone();
    let error = move |_| {
        let error = json!({
            "message": "The simulator was told to break this stream.", "type": "internal_server_error",
            "param": null, "code": "internal_error",
        });
        format!("data: {}\n\n", json!({"error": error, "request_id": request_id}))
    };
    Reply::stream(score.steps(event, error))
}

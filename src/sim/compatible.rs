//! The OpenAI- and Anthropic-compatible surfaces.

use serde_json::{Value, json};
use uuid::Uuid;

use super::account::SimulatedCaller;
use super::call::SimulatedCall;
use super::call_charge::CallCharge;
use super::consumption::Consumption;
use super::errors::{ErrorAnswer, ErrorCause};
use super::generation::{input_text, listed, rerank, tokens, vector};
use super::models;
use super::reply::SimulatedReply;
use super::service::admit;
use super::state::SimulatorState;
use super::streaming::StreamPlan;
use super::token_consumption::{TokenConsumption, TokenDialect};

pub(super) fn chat(
    state: &SimulatorState,
    call: &SimulatedCall,
    caller: &SimulatedCaller,
) -> Result<SimulatedReply, ErrorAnswer> {
    let (body, charge) = admitted(state, call, caller)?;
    if listed(&body["messages"]).iter().any(Value::is_null) {
        return Err(ErrorAnswer::parameter("messages must not be empty."));
    }
    let plan = StreamPlan::of(&state.options, &body["sim"]);
    Ok(completion(call, charge, &body, plan, CompletionFormat::Chat))
}

pub(super) fn completions(
    state: &SimulatorState,
    call: &SimulatedCall,
    caller: &SimulatedCaller,
) -> Result<SimulatedReply, ErrorAnswer> {
    let (body, charge) = admitted(state, call, caller)?;
    let plan = StreamPlan::of(&state.options, &body["sim"]);
    Ok(completion(call, charge, &body, plan, CompletionFormat::Completion))
}

pub(super) fn embeddings(
    state: &SimulatorState,
    call: &SimulatedCall,
    caller: &SimulatedCaller,
) -> Result<SimulatedReply, ErrorAnswer> {
    let (body, charge) = admitted(state, call, caller)?;
    if body["input"].is_null() {
        return Err(ErrorAnswer::parameter("input is required."));
    }
    let inputs = listed(&body["input"]);
    let row = |(index, text): (usize, &Value)| json!({"object": "embedding", "index": index, "embedding": vector(&input_text(text))});
    let data: Vec<Value> = inputs.iter().enumerate().map(row).collect();
    let total: u64 = inputs.iter().map(|text| tokens(&input_text(text))).sum();
    let used = Consumption::Tokens(TokenConsumption::new(TokenDialect::CompatibleTotal, total, 0));
    charge.settle(&used);
    Ok(SimulatedReply::json(
        200,
        &json!({
            "object": "list", "data": data, "model": body["model"], "id": call.request_id,
            "usage": used.usage(),
        }),
    ))
}

pub(super) fn reranks(
    state: &SimulatorState,
    call: &SimulatedCall,
    caller: &SimulatedCaller,
) -> Result<SimulatedReply, ErrorAnswer> {
    let (body, charge) = admitted(state, call, caller)?;
    let (output, used) = rerank(&body);
    charge.settle(&used);
    Ok(SimulatedReply::json(
        200,
        &json!({
            "object": "list", "results": output["results"], "model": body["model"], "usage": used.usage(),
            "id": call.request_id,
        }),
    ))
}

pub(super) fn messages(
    state: &SimulatorState,
    call: &SimulatedCall,
    caller: &SimulatedCaller,
) -> Result<SimulatedReply, ErrorAnswer> {
    let (body, charge) = admitted(state, call, caller)?;
    let plan = StreamPlan::of(&state.options, &body["sim"]);
    let id = format!("msg_{}", Uuid::new_v4());
    let used = use_after(TokenDialect::Anthropic, &plan, &body);
    let message = |content: Value, stop: Value, used: &Consumption| {
        json!({
            "id": id, "type": "message", "role": "assistant", "model": body["model"], "content": content,
            "stop_reason": stop, "stop_sequence": null,
            "usage": used.usage(),
        })
    };
    if body["stream"] != true {
        let content = json!([{"type": "text", "text": plan.whole()}]);
        let used = used(plan.last() + 1);
        charge.settle(&used);
        return Ok(SimulatedReply::json(200, &message(content, "end_turn".into(), &used)));
    }
    let start =
        named_event(&json!({"type": "message_start", "message": message(json!([]), Value::Null, &used(0))}));
    let block =
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}});
    let start = start + &named_event(&block);
    let spoken = plan.clone();
    let charge = charge.stream(used.clone());
    let event = move |number: u64| {
        let delta = json!({"type": "text_delta", "text": spoken.piece(number)});
        let delta = named_event(&json!({"type": "content_block_delta", "index": 0, "delta": delta}));
        let first = if number == 0 { start.as_str() } else { "" };
        let end = if number == spoken.last() { message_end(&used(number + 1)) } else { String::new() };
        format!("{first}{delta}{end}")
    };
    let error = |_| {
        let error = json!({"type": "api_error", "message": "The simulator was told to break this stream."});
        named_event(&json!({"type": "error", "error": error}))
    };
    Ok(SimulatedReply::stream(plan.steps(event, error, charge)))
}

/// The number of tokens of a message's input. It costs nothing.
pub(super) fn count_tokens(
    state: &SimulatorState,
    call: &SimulatedCall,
    caller: &SimulatedCaller,
) -> Result<SimulatedReply, ErrorAnswer> {
    let (body, _) = admitted(state, call, caller)?;
    let text = input_text(&body["system"]) + &input_text(&body["messages"]);
    Ok(SimulatedReply::json(200, &json!({"input_tokens": tokens(&text)})))
}

fn message_end(used: &Consumption) -> String {
    let stop = json!({"type": "content_block_stop", "index": 0});
    let delta = json!({
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn", "stop_sequence": null},
        "usage": {"output_tokens": used.usage()["output_tokens"]},
    });
    named_event(&stop) + &named_event(&delta) + &named_event(&json!({"type": "message_stop"}))
}

pub(super) fn named_event(data: &Value) -> String {
    format!("event: {}\ndata: {data}\n\n", data["type"].as_str().unwrap_or_default())
}

/// The body of a call whose model and account are admitted, and the charge for it.
pub(super) fn admitted(
    state: &SimulatorState,
    call: &SimulatedCall,
    caller: &SimulatedCaller,
) -> Result<(Value, CallCharge), ErrorAnswer> {
    let body = call.json()?;
    let name = body["model"].as_str().unwrap_or_default();
    if name.is_empty() {
        return Err(ErrorAnswer::parameter("you must provide a model parameter"));
    }
    let model = models::find(name).ok_or_else(|| {
        let message = format!("The model `{name}` does not exist or you do not have access to it.");
        ErrorAnswer::new(ErrorCause::ModelNotFound, message)
    })?;
    admit(state, call, caller, name, model)?;
    let charge = CallCharge::new(state, call, caller, name);
    Ok((body, charge))
}

/// Use of a text after a number of events.
pub(super) fn use_after(
    dialect: TokenDialect,
    plan: &StreamPlan,
    body: &Value,
) -> impl Fn(u64) -> Consumption + Clone + Send + use<> {
    let input =
        tokens(&(input_text(&body["messages"]) + &input_text(&body["prompt"]) + &input_text(&body["input"])));
    let (wishes, plan) = (body["sim"].clone(), plan.clone());
    move |events| {
        let output = tokens(&plan.text_of(events));
        Consumption::Tokens(TokenConsumption::new(dialect, input, output).wished(&wishes))
    }
}

#[derive(Clone, Copy)]
enum CompletionFormat {
    Chat,
    Completion,
}

impl CompletionFormat {
    fn whole(self, text: &str) -> Value {
        match self {
            CompletionFormat::Chat => json!({
                "index": 0, "finish_reason": "stop", "logprobs": null,
                "message": {"role": "assistant", "content": text},
            }),
            CompletionFormat::Completion => {
                json!({"index": 0, "finish_reason": "stop", "logprobs": null, "text": text})
            }
        }
    }

    fn piece(self, text: &str, first: bool, finish_reason: &Value) -> Value {
        match self {
            CompletionFormat::Chat => {
                let mut delta = json!({"content": text});
                if first {
                    delta["role"] = "assistant".into();
                }
                json!({"index": 0, "finish_reason": finish_reason, "logprobs": null, "delta": delta})
            }
            CompletionFormat::Completion => {
                json!({"index": 0, "finish_reason": finish_reason, "logprobs": null, "text": text})
            }
        }
    }

    fn object(self, streams: bool) -> &'static str {
        match (self, streams) {
            (CompletionFormat::Chat, false) => "chat.completion",
            (CompletionFormat::Chat, true) => "chat.completion.chunk",
            (CompletionFormat::Completion, _) => "text_completion",
        }
    }
}

fn completion(
    call: &SimulatedCall,
    charge: CallCharge,
    body: &Value,
    plan: StreamPlan,
    format: CompletionFormat,
) -> SimulatedReply {
    let streams = body["stream"] == true;
    let used = use_after(TokenDialect::Compatible, &plan, body);
    let created = call.now.duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let head = json!({
        "id": format!("chatcmpl-{}", call.request_id), "object": format.object(streams), "created": created,
        "model": body["model"], "system_fingerprint": null,
    });
    let with = move |choices: Value, usage: Value| {
        let mut chunk = head.clone();
        chunk["choices"] = choices;
        chunk["usage"] = usage;
        chunk
    };
    if !streams {
        let used = used(plan.last() + 1);
        charge.settle(&used);
        return SimulatedReply::json(200, &with(json!([format.whole(&plan.whole())]), used.usage()));
    }
    let charge = charge.stream(used.clone());
    let include_usage = body["stream_options"]["include_usage"] == true;
    let spoken = plan.clone();
    let event = move |number: u64| {
        let last = number == spoken.last();
        let finish_reason = if last { "stop".into() } else { Value::Null };
        let choice = format.piece(&spoken.piece(number), number == 0, &finish_reason);
        let mut text = format!("data: {}\n\n", with(json!([choice]), Value::Null));
        if last && include_usage {
            text += &format!("data: {}\n\n", with(json!([]), used(number + 1).usage()));
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
    SimulatedReply::stream(plan.steps(event, error, charge))
}

//! Synchronous answers of the native surface, whole or as server-sent events.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use uuid::Uuid;

use super::call::SimulatedCall;
use super::call_charge::CallCharge;
use super::consumption::{AudioField, Consumption, ImageSize};
use super::errors::{ErrorAnswer, ErrorCause};
use super::media;
use super::models::{Service, SimulatedFamily};
use super::reply::SimulatedReply;
use super::state::SimulatorState;
use super::streaming::StreamPlan;
use super::task_request::TaskRequest;
use super::token_consumption::{TokenConsumption, TokenDialect};
use super::usage;

/// Checks the body of a synchronous call.
pub(super) fn check(family: SimulatedFamily, service: Service, body: &Value) -> Result<(), ErrorAnswer> {
    let input = &body["input"];
    if input.is_string() {
        return Ok(());
    }
    if input.is_null() || input.as_object().is_some_and(serde_json::Map::is_empty) {
        return Err(ErrorAnswer::new(ErrorCause::EmptyInput, "input is required."));
    }
    let filled = |name: &str| match &input[name] {
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(_) => true,
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    };
    let needed: &[&str] = match service {
        Service::TextGeneration => &["messages", "prompt"],
        Service::Multimodal if family == SimulatedFamily::Speech => &["text", "messages"],
        Service::Multimodal => &["messages", "prompt"],
        Service::TextEmbedding => &["texts"],
        Service::MultimodalEmbedding => &["contents"],
        Service::Rerank => &["query"],
        Service::SpeechSynthesizer => &["text"],
        Service::Detect
        | Service::Understanding
        | Service::CodeGeneration
        | Service::VideoSynthesis
        | Service::ImageToVideo
        | Service::TextToImage
        | Service::ImageToImage
        | Service::OutPainting
        | Service::ImageGeneration
        | Service::ThreeD
        | Service::VirtualModel
        | Service::Transcription => &[],
    };
    if needed.is_empty() || needed.iter().any(|name| filled(name)) {
        return Ok(());
    }
    Err(ErrorAnswer::parameter(format!("input must contain {}.", needed.join(" or "))))
}

/// The whole text of an input, to count its tokens.
pub(super) fn input_text(input: &Value) -> String {
    match input {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(input_text).collect::<Vec<_>>().join(" "),
        Value::Object(fields) => fields.values().map(input_text).collect::<Vec<_>>().join(" "),
        Value::Null | Value::Bool(_) | Value::Number(_) => String::new(),
    }
}

pub(super) fn tokens(text: &str) -> u64 {
    (text.len() as u64).div_ceil(4)
}

pub(super) fn answer(
    state: &SimulatorState,
    call: &SimulatedCall,
    charge: CallCharge,
    service: Service,
    family: SimulatedFamily,
    body: &Value,
) -> SimulatedReply {
    let wishes = &body["parameters"]["sim"];
    if wishes["framed_error"] == true {
        // Recorded from DashScope: the error arrives as an event in an answer with `content-type: application/json`.
        let refusal = ErrorAnswer::parameter("The simulator was told to refuse.");
        let framed = event(1, "error", 400, &refusal.native(&call.request_id));
        return SimulatedReply::new(400, "application/json", framed);
    }
    let plan = StreamPlan::of(&state.options, wishes);
    match service {
        Service::TextEmbedding => at_once(call, charge, embeddings(&body["input"]["texts"])),
        Service::MultimodalEmbedding => {
            at_once(call, charge, multimodal_embeddings(&body["input"]["contents"]))
        }
        Service::Rerank => at_once(call, charge, rerank(body)),
        Service::Detect => {
            let output = json!({"check_pass": true, "humanoid": true});
            at_once(call, charge, (output, Consumption::Images(1, ImageSize::Untold)))
        }
        Service::SpeechSynthesizer => speech(state, call, charge, &plan, body),
        Service::Multimodal if family == SimulatedFamily::Speech => speech(state, call, charge, &plan, body),
        Service::Multimodal if matches!(family, SimulatedFamily::Image | SimulatedFamily::ImageChoices) => {
            let request = TaskRequest { family, model: charge.model(), body };
            let images = images(state, call, request);
            at_once(call, charge, images)
        }
        Service::Multimodal
        | Service::TextGeneration
        | Service::Understanding
        | Service::CodeGeneration
        | Service::VideoSynthesis
        | Service::ImageToVideo
        | Service::TextToImage
        | Service::ImageToImage
        | Service::OutPainting
        | Service::ImageGeneration
        | Service::ThreeD
        | Service::VirtualModel
        | Service::Transcription => text(call, charge, plan, service, body),
    }
}

fn at_once(call: &SimulatedCall, charge: CallCharge, (output, used): (Value, Consumption)) -> SimulatedReply {
    charge.settle(&used);
    SimulatedReply::json(
        200,
        &json!({"output": output, "usage": used.usage(), "request_id": call.request_id}),
    )
}

/// One native event. It has no blanks after the colons, because clients look for exactly this spelling.
pub(super) fn event(number: u64, kind: &str, status: u16, data: &Value) -> String {
    format!("id:{number}\nevent:{kind}\n:HTTP_STATUS/{status}\ndata:{data}\n\n")
}

fn broken(request_id: &str, number: u64) -> String {
    let data = json!({
        "code": "InternalError.Algo",
        "message": "The simulator was told to break this stream.",
        "request_id": request_id,
    });
    event(number + 1, "error", 500, &data)
}

/// The shape of the text in an output.
#[derive(Clone, Copy)]
enum TextShape {
    Text,
    Message,
    /// A message whose content is a list of parts.
    Parts,
}

impl TextShape {
    fn of(service: Service, body: &Value) -> TextShape {
        if service == Service::Multimodal {
            TextShape::Parts
        } else if body["parameters"]["result_format"] == "message" {
            TextShape::Message
        } else {
            TextShape::Text
        }
    }

    fn output(self, text: &str, finish_reason: &str) -> Value {
        let choice = |content: Value| json!({"choices": [{"message": {"role": "assistant", "content": content}, "finish_reason": finish_reason}]});
        match self {
            TextShape::Text => json!({"text": text, "finish_reason": finish_reason}),
            TextShape::Message => choice(text.into()),
            TextShape::Parts => choice(json!([{"text": text}])),
        }
    }
}

fn text(
    call: &SimulatedCall,
    charge: CallCharge,
    plan: StreamPlan,
    service: Service,
    body: &Value,
) -> SimulatedReply {
    let shape = TextShape::of(service, body);
    let used = text_use(charge.model(), &plan, body);
    let request_id = call.request_id.clone();
    let answer = move |used: &Consumption, shown: &str, finish_reason: &str| {
        json!({
            "output": shape.output(shown, finish_reason), "usage": used.usage(), "request_id": request_id,
        })
    };
    if !streams(call) {
        let used = used(plan.last() + 1);
        charge.settle(&used);
        return SimulatedReply::json(200, &answer(&used, &plan.whole(), "stop"));
    }
    let incremental = body["parameters"]["incremental_output"] == true;
    let spoken = plan.clone();
    let charge = charge.stream(used.clone());
    let result = move |number: u64| {
        let shown = if incremental { spoken.piece(number) } else { spoken.text(number) };
        let finish_reason = if number == spoken.last() { "stop" } else { "null" };
        event(number + 1, "result", 200, &answer(&used(number + 1), &shown, finish_reason))
    };
    let request_id = call.request_id.clone();
    SimulatedReply::stream(plan.steps(result, move |number| broken(&request_id, number), charge))
}

/// Use of a generation after a number of events.
fn text_use(
    model: &str,
    plan: &StreamPlan,
    body: &Value,
) -> impl Fn(u64) -> Consumption + Clone + Send + use<> {
    let input = tokens(&input_text(&body["input"]));
    let (wishes, plan) = (body["parameters"]["sim"].clone(), plan.clone());
    let recognizes = model.contains("-asr");
    move |events| {
        let output = tokens(&plan.text_of(events));
        if recognizes {
            return Consumption::Audio(HEARD, AudioField::SecondsAndTokens(output));
        }
        Consumption::Tokens(TokenConsumption::new(TokenDialect::Native, input, output).wished(&wishes))
    }
}

pub(super) fn streams(call: &SimulatedCall) -> bool {
    call.enables("x-dashscope-sse")
        || call.header("accept").is_some_and(|kinds| kinds.contains("text/event-stream"))
}

fn speech(
    state: &SimulatorState,
    call: &SimulatedCall,
    charge: CallCharge,
    plan: &StreamPlan,
    body: &Value,
) -> SimulatedReply {
    let id = format!("audio_{}", Uuid::new_v4());
    let until = call.now + state.options.task_lifetime;
    let url = state.sign(&format!("{id}.wav"), until);
    let used = Consumption::Characters(input_text(&body["input"]["text"]).chars().count() as u64);
    let usage = used.usage();
    let request_id = call.request_id.clone();
    let answer = move |data: String, url: &str, finish_reason: &str| {
        json!({
            "output": {
                "audio": {"data": data, "url": url, "id": id},
                "finish_reason": finish_reason,
            },
            "usage": usage,
            "request_id": request_id,
        })
    };
    if !streams(call) {
        charge.settle(&used);
        return SimulatedReply::json(200, &answer(String::new(), &url, "stop"));
    }
    let last = plan.last();
    let result = move |number: u64| {
        let sound = STANDARD.encode(media::tone(20));
        let (url, finish_reason) = if number == last { (url.as_str(), "stop") } else { ("", "null") };
        event(number + 1, "result", 200, &answer(sound, url, finish_reason))
    };
    let request_id = call.request_id.clone();
    let charge = charge.stream(move |_| used.clone());
    SimulatedReply::stream(plan.steps(result, move |number| broken(&request_id, number), charge))
}

fn images(state: &SimulatorState, call: &SimulatedCall, request: TaskRequest<'_>) -> (Value, Consumption) {
    let image = |_| {
        let url = state.sign(&format!("{}.png", Uuid::new_v4()), call.now + state.options.task_lifetime);
        let content = json!([{"type": "image", "image": url}]);
        json!({"finish_reason": "stop", "message": {"role": "assistant", "content": content}})
    };
    let choices: Vec<Value> = (0..request.items()).map(image).collect();
    (json!({"choices": choices, "finished": true}), usage::images_at_once(request))
}

fn embeddings(texts: &Value) -> (Value, Consumption) {
    let texts = listed(texts);
    let rows = texts.iter().enumerate();
    let rows: Vec<Value> = rows
        .map(|(index, text)| json!({"text_index": index, "embedding": vector(&input_text(text))}))
        .collect();
    let total: u64 = texts.iter().map(|text| tokens(&input_text(text))).sum();
    let used = TokenConsumption::new(TokenDialect::Total, total, 0);
    (json!({"embeddings": rows}), Consumption::Tokens(used))
}

fn multimodal_embeddings(contents: &Value) -> (Value, Consumption) {
    let rows = listed(contents).into_iter().enumerate().map(|(index, content)| {
        let kind = content.as_object().and_then(|fields| fields.keys().next().cloned()).unwrap_or_default();
        json!({"index": index, "type": kind, "embedding": vector(&input_text(&content))})
    });
    let rows: Vec<Value> = rows.collect();
    let used = TokenConsumption::new(TokenDialect::Multimodal, 10, 0);
    (json!({"embeddings": rows}), Consumption::Tokens(used))
}

/// The result of a native rerank, also used for the compatible one.
pub(super) fn rerank(body: &Value) -> (Value, Consumption) {
    let documents =
        if body["documents"].is_array() { &body["documents"] } else { &body["input"]["documents"] };
    let results = listed(documents).into_iter().enumerate().map(|(index, document)| {
        let score = 0.9 / (index + 1) as f64;
        json!({"index": index, "relevance_score": score, "document": {"text": document}})
    });
    let results: Vec<Value> = results.collect();
    let used = TokenConsumption::new(TokenDialect::Total, tokens(&input_text(body)), 0);
    (json!({"results": results}), Consumption::Tokens(used))
}

/// A list as it is, anything else as a list of one.
pub(super) fn listed(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_else(|| vec![value.clone()])
}

/// A small vector that depends on the text.
pub(super) fn vector(text: &str) -> Vec<f64> {
    let seed = text.bytes().fold(1u32, |seed, byte| seed.wrapping_mul(31).wrapping_add(u32::from(byte)));
    (1..=8).map(|number| f64::from(seed.wrapping_mul(number * 2_654_435) % 2000) / 1000.0 - 1.0).collect()
}

/// Thousandths of a second of the speech in a call.
const HEARD: u64 = 3_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_framed_as_dashscope_frames_them() {
        let text = event(1, "result", 200, &json!({"a": 1}));
        assert_eq!(text, "id:1\nevent:result\n:HTTP_STATUS/200\ndata:{\"a\":1}\n\n");
    }

    #[test]
    fn a_call_needs_something_to_say() {
        let check = |input: Value| {
            check(SimulatedFamily::Text, Service::TextGeneration, &json!({"input": input})).is_ok()
        };
        assert!(check(json!({"prompt": "hi"})));
        assert!(check(json!({"messages": [{"role": "user", "content": "hi"}]})));
        assert!(check(json!("encrypted")));
        assert!(!check(json!({"messages": []})));
        assert!(!check(json!({})));
    }
}

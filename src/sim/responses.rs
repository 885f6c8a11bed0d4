//! OpenAI's `/responses` on the compatible surface.

use serde_json::{Value, json};
use uuid::Uuid;

use super::account::SimulatedCaller;
use super::call::SimulatedCall;
use super::compatible::{admitted, named_event, use_after};
use super::consumption::Consumption;
use super::errors::ErrorAnswer;
use super::reply::SimulatedReply;
use super::state::SimulatorState;
use super::streaming::StreamPlan;
use super::token_consumption::TokenDialect;

pub(super) fn answer(
    state: &SimulatorState,
    call: &SimulatedCall,
    caller: &SimulatedCaller,
) -> Result<SimulatedReply, ErrorAnswer> {
    let (body, charge) = admitted(state, call, caller)?;
    if body["input"].is_null() {
        return Err(ErrorAnswer::parameter("input is required."));
    }
    let plan = StreamPlan::of(&state.options, &body["sim"]);
    let used = use_after(TokenDialect::Responses, &plan, &body);
    let created = call.now.duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let (id, message) = (format!("resp_{}", Uuid::new_v4()), format!("msg_{}", Uuid::new_v4()));
    let head = json!({
        "id": id, "object": "response", "created_at": created, "model": body["model"], "error": null,
        "store": body["store"] != false,
    });
    let item = move |text: &str, status: &str| {
        json!({"type": "message", "id": message, "role": "assistant", "status": status,
            "content": [{"type": "output_text", "text": text, "annotations": []}]})
    };
    let response = move |status: &str, output: Value, usage: Value| {
        let mut response = head.clone();
        response["status"] = status.into();
        response["output"] = output;
        response["usage"] = usage;
        response
    };
    if body["stream"] != true {
        let used = used(plan.last() + 1);
        charge.settle(&used);
        let output = json!([item(&plan.whole(), "completed")]);
        return Ok(SimulatedReply::json(200, &response("completed", output, used.usage())));
    }
    let charge = charge.stream(used.clone());
    let spoken = plan.clone();
    let event = move |number: u64| {
        let first = (number == 0).then(|| start(&response, &item("", "in_progress")));
        let delta = json!({
            "type": "response.output_text.delta", "output_index": 0, "content_index": 0,
            "delta": spoken.piece(number),
        });
        let last = (number == spoken.last()).then(|| {
            let whole = item(&spoken.whole(), "completed");
            end(&response, &whole, &used(number + 1))
        });
        first.unwrap_or_default() + &named_event(&delta) + &last.unwrap_or_default()
    };
    let error = |_| {
        named_event(&json!({
            "type": "error", "code": "internal_error", "message": "The simulator was told to break this stream.",
        }))
    };
    Ok(SimulatedReply::stream(plan.steps(event, error, charge)))
}

fn start(response: &impl Fn(&str, Value, Value) -> Value, item: &Value) -> String {
    let begun = response("in_progress", json!([]), Value::Null);
    let created = json!({"type": "response.created", "response": begun});
    let added = json!({"type": "response.output_item.added", "output_index": 0, "item": item});
    named_event(&created) + &named_event(&added)
}

fn end(response: &impl Fn(&str, Value, Value) -> Value, item: &Value, used: &Consumption) -> String {
    let done = json!({"type": "response.output_item.done", "output_index": 0, "item": item});
    let response = response("completed", json!([item]), used.usage());
    named_event(&done) + &named_event(&json!({"type": "response.completed", "response": response}))
}

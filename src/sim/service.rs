//! The calls under `services/`: from the model's name to a task or an answer.

use serde_json::{Value, json};
use uuid::Uuid;

use super::account::{MeteredCall, SimulatedCaller};
use super::call::SimulatedCall;
use super::call_charge::CallCharge;
use super::errors::{ErrorAnswer, ErrorCause};
use super::models::{self, CallMode, Service, SimulatedFamily, SimulatedModel};
use super::reply::SimulatedReply;
use super::state::SimulatorState;
use super::task_request::{TaskRequest, is_missing};
use super::tasks::{SimulatedFailure, SimulatedStatus, SimulatedTask};
use super::{generation, parameters, usage};

pub(super) fn answer(
    state: &SimulatorState,
    call: &SimulatedCall,
    caller: &SimulatedCaller,
    service: Service,
) -> Result<SimulatedReply, ErrorAnswer> {
    let body = call.json()?;
    let (name, model) = named_model(&body)?;
    if !model.family.served_at(service) {
        return Err(ErrorAnswer::parameter("url error, please check url!"));
    }
    check_mode(service.mode(model.family), call)?;
    admit(state, call, caller, &name, model)?;
    match service.mode(model.family) {
        CallMode::Async => {
            parameters::check(model.family, &name, &body)?;
            resolve(state, call, caller, &name, &body)?;
            Ok(submit(state, call, caller, service, &name, model, body))
        }
        CallMode::Sync => {
            generation::check(model.family, service, &body)?;
            resolve(state, call, caller, &name, &body)?;
            let charge = CallCharge::new(state, call, caller, &name);
            Ok(generation::answer(state, call, charge, service, model.family, &body))
        }
    }
}

pub(super) fn tokenizer(
    state: &SimulatorState,
    call: &SimulatedCall,
    caller: &SimulatedCaller,
) -> Result<SimulatedReply, ErrorAnswer> {
    let body = call.json()?;
    let (name, model) = named_model(&body)?;
    admit(state, call, caller, &name, model)?;
    let text = generation::input_text(&body["input"]);
    let tokens: Vec<&str> = text.split_whitespace().collect();
    let ids: Vec<usize> = tokens.iter().map(|token| token.len() * 31).collect();
    Ok(SimulatedReply::json(
        200,
        &json!({
            "output": {"token_ids": ids, "tokens": tokens},
            "usage": {"input_tokens": tokens.len()},
            "request_id": call.request_id,
        }),
    ))
}

pub(super) fn named_model(body: &Value) -> Result<(String, SimulatedModel), ErrorAnswer> {
    let name = body["model"].as_str().unwrap_or_default();
    if name.is_empty() {
        return Err(ErrorAnswer::new(ErrorCause::EmptyModel, "model is required."));
    }
    let model = models::find(name).ok_or_else(|| ErrorAnswer::parameter("Model not exist."))?;
    Ok((name.to_owned(), model))
}

/// Checks the account's bills, then its limits.
pub(super) fn admit(
    state: &SimulatorState,
    call: &SimulatedCall,
    caller: &SimulatedCaller,
    name: &str,
    model: SimulatedModel,
) -> Result<(), ErrorAnswer> {
    let mut accounts = state.accounts.lock();
    accounts.standing(&caller.account)?;
    state.throttle()?;
    let limit = state.options.submit_rps.unwrap_or(model.submits_per_second);
    accounts.meter(&caller.account, MeteredCall::Submit(name.to_owned()), limit, call.now)
}

fn check_mode(mode: CallMode, call: &SimulatedCall) -> Result<(), ErrorAnswer> {
    match (mode, call.enables("x-dashscope-async")) {
        (CallMode::Async, true) | (CallMode::Sync, false) => Ok(()),
        (CallMode::Async, false) => {
            let message = "current user api does not support synchronous calls.";
            Err(ErrorAnswer::new(ErrorCause::AccessDenied, message))
        }
        (CallMode::Sync, true) => {
            let message = "Current user api does not support asynchronous calls.";
            Err(ErrorAnswer::new(ErrorCause::AccessDenied, message))
        }
    }
}

/// Checks `oss://` inputs: the request needs the resolve header, and its account must have uploaded them.
fn resolve(
    state: &SimulatorState,
    call: &SimulatedCall,
    caller: &SimulatedCaller,
    model: &str,
    body: &Value,
) -> Result<(), ErrorAnswer> {
    let mut urls = Vec::new();
    collect_oss_urls(&body["input"], &mut urls);
    if urls.is_empty() {
        return Ok(());
    }
    if !call.enables("x-dashscope-ossresourceresolve") {
        let message = format!("The url {} is not valid without X-DashScope-OssResourceResolve.", urls[0]);
        return Err(ErrorAnswer::parameter(message));
    }
    state.uploads.lock().resolve(&urls, caller, model, call.now)
}

fn collect_oss_urls<'a>(value: &'a Value, urls: &mut Vec<&'a str>) {
    match value {
        Value::String(text) if text.starts_with("oss://") => urls.push(text),
        Value::Array(items) => items.iter().for_each(|item| collect_oss_urls(item, urls)),
        Value::Object(fields) => fields.values().for_each(|field| collect_oss_urls(field, urls)),
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn submit(
    state: &SimulatorState,
    call: &SimulatedCall,
    caller: &SimulatedCaller,
    service: Service,
    name: &str,
    model: SimulatedModel,
    mut body: Value,
) -> SimulatedReply {
    cut_data_urls(&mut body);
    let request = TaskRequest { family: model.family, model: name, body: &body };
    let failure = failure(request).or_else(|| state.next_failure());
    let consumption = usage::consumption(request);
    let task = SimulatedTask {
        id: Uuid::new_v4().to_string(),
        request_id: call.request_id.clone(),
        caller: caller.clone(),
        model: name.to_owned(),
        family: model.family,
        service,
        failure,
        body,
        consumption,
        submitted: call.now,
        started: None,
        ended: None,
        status: SimulatedStatus::Pending,
        pinned: None,
        listed: None,
        answered: None,
    };
    let answer = json!({
        "output": {"task_status": task.status.name(), "task_id": task.id},
        "request_id": call.request_id,
    });
    let running = state.options.running.unwrap_or(model.running);
    state.tasks.lock().submit(task, running);
    SimulatedReply::json(200, &answer)
}

/// Cuts `data:` URLs, because tasks are kept for a day and their pictures are not needed.
fn cut_data_urls(value: &mut Value) {
    match value {
        Value::String(text) if text.starts_with("data:") => *text = text.chars().take(64).collect(),
        Value::Array(items) => items.iter_mut().for_each(cut_data_urls),
        Value::Object(fields) => fields.values_mut().for_each(cut_data_urls),
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Failure of a task whose input is wrong, or of whose images none is made. The task shows it only when it runs.
fn failure(request: TaskRequest<'_>) -> Option<SimulatedFailure> {
    let failure = |code: &str, message: &str| SimulatedFailure { code: code.into(), message: message.into() };
    if request.family == SimulatedFamily::Image && (0..request.items()).all(|number| request.fails(number)) {
        return Some(failure("InternalError.Timeout", "An internal timeout error has occured."));
    }
    let urls = request.file_urls();
    let is_transcription = request.family == SimulatedFamily::Transcription;
    if is_transcription && !urls.is_empty() && urls.iter().all(|url| is_missing(url)) {
        return Some(failure("InvalidFile.DownloadFailed", "The audio file cannot be downloaded."));
    }
    let is_of_one = request.family == SimulatedFamily::TranscriptionOfOne;
    if is_of_one && request.input("file_url").as_str().is_some_and(is_missing) {
        return Some(failure("FILE_403_FORBIDDEN", "FILE_403_FORBIDDEN"));
    }
    None
}

//! The calls under `services/`: from the model's name to a task or an answer.

use serde_json::{Value, json};
use uuid::Uuid;

use super::account::{Caller, Metered};
use super::call::Call;
use super::errors::{Cause, Refusal};
use super::models::{self, Family, Mode, Model, Service};
use super::reply::Reply;
use super::tasks::{Failure, Status, Task};
use super::world::{World, lock};
use super::{generation, parameters};

pub(super) fn answer(
    world: &World,
    call: &Call,
    caller: &Caller,
    service: Service,
) -> Result<Reply, Refusal> {
    let body = call.json()?;
    let (name, model) = named_model(&body)?;
    if !model.family.served_at(service) {
        return Err(Refusal::parameter("url error, please check url!"));
    }
    check_mode(service.mode(model.family), call)?;
    admit(world, call, caller, &name, model)?;
    match service.mode(model.family) {
        Mode::Async => {
            parameters::check(model.family, &name, &body)?;
            resolve(world, call, caller, &name, &body)?;
            Ok(submit(world, call, caller, service, &name, model, body))
        }
        Mode::Sync => {
            generation::check(model.family, service, &body)?;
            resolve(world, call, caller, &name, &body)?;
            Ok(generation::answer(world, call, service, model.family, &body))
        }
    }
}

pub(super) fn tokenizer(world: &World, call: &Call, caller: &Caller) -> Result<Reply, Refusal> {
    let body = call.json()?;
    let (name, model) = named_model(&body)?;
    admit(world, call, caller, &name, model)?;
    let text = generation::said(&body["input"]);
    let tokens: Vec<&str> = text.split_whitespace().collect();
    let ids: Vec<usize> = tokens.iter().map(|token| token.len() * 31).collect();
    Ok(Reply::json(
        200,
        &json!({
            "output": {"token_ids": ids, "tokens": tokens},
            "usage": {"input_tokens": tokens.len()},
            "request_id": call.request_id,
        }),
    ))
}

pub(super) fn named_model(body: &Value) -> Result<(String, Model), Refusal> {
    let name = body["model"].as_str().unwrap_or_default();
    if name.is_empty() {
        return Err(Refusal::new(Cause::EmptyModel, "model is required."));
    }
    let model = models::find(name).ok_or_else(|| Refusal::parameter("Model not exist."))?;
    Ok((name.to_owned(), model))
}

/// The account's standing, then its limits.
pub(super) fn admit(
    world: &World,
    call: &Call,
    caller: &Caller,
    name: &str,
    model: Model,
) -> Result<(), Refusal> {
    let mut accounts = lock(&world.accounts);
    accounts.standing(&caller.account)?;
    world.throttle()?;
    let limit = world.options.submit_rps.unwrap_or(model.submits_per_second);
    accounts.meter(&caller.account, Metered::Submit(name.to_owned()), limit, call.now)
}

fn check_mode(mode: Mode, call: &Call) -> Result<(), Refusal> {
    match (mode, call.enables("x-dashscope-async")) {
        (Mode::Async, true) | (Mode::Sync, false) => Ok(()),
        (Mode::Async, false) => {
            let message = "current user api does not support synchronous calls.";
            Err(Refusal::new(Cause::AccessDenied, message))
        }
        (Mode::Sync, true) => {
            let message = "Current user api does not support asynchronous calls.";
            Err(Refusal::new(Cause::AccessDenied, message))
        }
    }
}

/// `oss://` inputs are read only when the request says so, and only by those who uploaded them.
fn resolve(world: &World, call: &Call, caller: &Caller, model: &str, body: &Value) -> Result<(), Refusal> {
    let mut urls = Vec::new();
    collect_oss_urls(&body["input"], &mut urls);
    if urls.is_empty() {
        return Ok(());
    }
    if !call.enables("x-dashscope-ossresourceresolve") {
        let message = format!("The url {} is not valid without X-DashScope-OssResourceResolve.", urls[0]);
        return Err(Refusal::parameter(message));
    }
    lock(&world.uploads).resolve(&urls, caller, model, call.now)
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
    world: &World,
    call: &Call,
    caller: &Caller,
    service: Service,
    name: &str,
    model: Model,
    mut body: Value,
) -> Reply {
    cut_data_urls(&mut body);
    let task = Task {
        id: Uuid::new_v4().to_string(),
        request_id: call.request_id.clone(),
        caller: caller.clone(),
        model: name.to_owned(),
        family: model.family,
        service,
        failure: failure(model.family, &body).or_else(|| world.next_failure()),
        body,
        submitted: call.now,
        started: None,
        ended: None,
        status: Status::Pending,
        pinned: None,
        listed: None,
        answered: None,
    };
    let answer = json!({
        "output": {"task_status": task.status.name(), "task_id": task.id},
        "request_id": call.request_id,
    });
    let running = world.options.running.unwrap_or(model.running);
    lock(&world.tasks).submit(task, running);
    Reply::json(200, &answer)
}

/// Tasks are remembered for a day; their pictures need not be.
fn cut_data_urls(value: &mut Value) {
    match value {
        Value::String(text) if text.starts_with("data:") => *text = text.chars().take(64).collect(),
        Value::Array(items) => items.iter_mut().for_each(cut_data_urls),
        Value::Object(fields) => fields.values_mut().for_each(cut_data_urls),
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// What is wrong with an input comes out only when the task runs.
fn failure(family: Family, body: &Value) -> Option<Failure> {
    let failure = |code: &str, message: &str| Failure { code: code.into(), message: message.into() };
    let missing = |url: &Value| url.as_str().is_some_and(|url| url.contains("missing"));
    let urls = body["input"]["file_urls"].as_array();
    if family == Family::Transcription && urls.is_some_and(|urls| urls.iter().all(missing)) {
        return Some(failure("InvalidFile.DownloadFailed", "The audio file cannot be downloaded."));
    }
    if family == Family::TranscriptionOfOne && missing(&body["input"]["file_url"]) {
        return Some(failure("FILE_403_FORBIDDEN", "FILE_403_FORBIDDEN"));
    }
    None
}

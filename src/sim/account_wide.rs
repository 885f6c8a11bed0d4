//! Endpoints of the whole account. Their answers are simple: a test sees one only if the gateway lets a tenant reach
//! the endpoint, which it must not.

use std::time::{Duration, SystemTime};

use hyper::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use super::account::SimulatedCaller;
use super::call::SimulatedCall;
use super::errors::{ErrorAnswer, ErrorCause};
use super::generation::{event, streams};
use super::models;
use super::reply::{SimulatedReply, TimedPiece};
use super::state::SimulatorState;
use super::task_api::{key_id, uid};

pub(super) fn answer(
    state: &SimulatorState,
    call: &SimulatedCall,
    caller: &SimulatedCaller,
    path: &[String],
) -> Result<SimulatedReply, ErrorAnswer> {
    let parts: Vec<&str> = path.iter().map(String::as_str).collect();
    let answered = match parts.as_slice() {
        ["tokens"] => return token(state, call, caller),
        ["public-keys", "latest"] => json!({"data": {"public_key_id": "1", "public_key": PUBLIC_KEY}}),
        ["files", rest @ ..] => return files(state, call, caller, rest),
        ["models", rest @ ..] => native_models(call, rest),
        ["quotas"] => {
            json!({"output": {"total": 1, "quotas": [{"model": "wan2.7-t2v", "account": uid(&caller.account), "rps": 5, "concurrency": 5}]}})
        }
        ["apps", _, "completion"] => return Ok(app(call)),
        ["fine-tunes", .., "stream"] | ["agentstudio", .., "stream"] => return Ok(event_stream()),
        ["compatible", rest @ ..] => compatible(call, caller, rest),
        ["asr" | "tts", "customization"] => customization(call, caller)?,
        [kind, rest @ ..] => resource(call, caller, kind, rest),
        [] => return Err(ErrorAnswer::new(ErrorCause::NotFound, "Not found.")),
    };
    let mut answered = answered;
    if parts.first() != Some(&"compatible") {
        answered["request_id"] = call.request_id.clone().into();
    }
    Ok(SimulatedReply::json(200, &answered))
}

/// The answer of the workspace's app, whole or in two events.
fn app(call: &SimulatedCall) -> SimulatedReply {
    let session = Uuid::new_v4().simple().to_string();
    let request_id = call.request_id.clone();
    let answer = move |text: &str, finish_reason: &str| {
        json!({
            "output": {"text": text, "finish_reason": finish_reason, "session_id": session},
            "usage": {"models": [{"model_id": "qwen-plus", "input_tokens": 10, "output_tokens": 8}]},
            "request_id": request_id,
        })
    };
    let text = "An answer from the workspace's app.";
    if !streams(call) {
        return SimulatedReply::json(200, &answer(text, "stop"));
    }
    let events = [answer("An answer", "null"), answer(text, "stop")].into_iter().zip(1..);
    let step = |(data, number): (Value, u64)| TimedPiece {
        wait: Duration::ZERO,
        bytes: event(number, "result", 200, &data).into(),
    };
    SimulatedReply::stream(events.map(step))
}

/// Mints a temporary key with every right of the account.
fn token(
    state: &SimulatorState,
    call: &SimulatedCall,
    caller: &SimulatedCaller,
) -> Result<SimulatedReply, ErrorAnswer> {
    posted(call)?;
    let seconds = match call.parameter("expire_in_seconds") {
        None => 60,
        Some(text) => text
            .parse()
            .ok()
            .filter(|seconds| (1..=1800).contains(seconds))
            .ok_or_else(|| ErrorAnswer::parameter("expire_in_seconds must be between 1 and 1800."))?,
    };
    let token = format!("st-{}", Uuid::new_v4().simple());
    let end = call.now + Duration::from_secs(seconds);
    state.accounts.lock().mint(&caller.account, token.clone(), end);
    let expires_at = end.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    Ok(SimulatedReply::json(200, &json!({"token": token, "expires_at": expires_at})))
}

fn posted(call: &SimulatedCall) -> Result<(), ErrorAnswer> {
    if call.method == Method::POST {
        return Ok(());
    }
    Err(ErrorAnswer::parameter(format!("Request method '{}' is not supported.", call.method)))
}

/// The files of an account: always one. No other file can be read or deleted.
fn files(
    state: &SimulatorState,
    call: &SimulatedCall,
    caller: &SimulatedCaller,
    path: &[&str],
) -> Result<SimulatedReply, ErrorAnswer> {
    let id = format!("file-{}", uid(&caller.account));
    let file = json!({
        "file_id": id, "name": "training.jsonl", "description": "another tenant's", "size": 4096,
        "md5": "9e107d9d372bb6826bd81d3542a419d6", "purpose": "fine-tune", "gmt_create": "2025-11-01 08:00:00",
    });
    let data = match (call.method.as_str(), path) {
        ("GET", []) => json!({"total": 1, "page_no": 1, "page_size": 10, "files": [file]}),
        ("POST", []) => {
            let uploaded = json!({"file_id": Uuid::new_v4().to_string(), "name": "upload"});
            json!({"uploaded_files": [uploaded], "failed_uploads": []})
        }
        ("GET", [wanted]) if *wanted == id => {
            let mut file = file;
            file["url"] = state.sign(&format!("{id}.json"), call.now + Duration::from_secs(3600)).into();
            file
        }
        ("DELETE", [wanted]) if *wanted == id => json!({"deleted": true}),
        (_, _) => return Err(ErrorAnswer::parameter("File not found.")),
    };
    Ok(SimulatedReply::json(200, &json!({"data": data, "request_id": call.request_id})))
}

fn native_models(call: &SimulatedCall, path: &[&str]) -> Value {
    let wanted = path.first().copied().or_else(|| call.parameter("model"));
    let names = models::LISTED.iter().filter(|name| wanted.is_none_or(|wanted| wanted == **name));
    let rows: Vec<Value> =
        names.map(|name| json!({"model": name, "name": name, "provider": "sim"})).collect();
    json!({"output": {"total": rows.len(), "page_no": 1, "page_size": 100, "models": rows}})
}

fn compatible(call: &SimulatedCall, caller: &SimulatedCaller, path: &[&str]) -> Value {
    let created = 1_760_000_000;
    match path {
        ["models"] => {
            let row = |name: &&str| json!({"id": name, "object": "model", "created": created, "owned_by": "system"});
            let tuned = format!("qwen-plus-ft-202511010800-{}", uid(&caller.account));
            let tuned =
                json!({"id": tuned, "object": "model", "created": created, "owned_by": uid(&caller.account)});
            json!({"object": "list", "data": models::LISTED.iter().map(row).chain([tuned]).collect::<Vec<_>>()})
        }
        ["models", name] => json!({"id": name, "object": "model", "created": created, "owned_by": "system"}),
        ["responses", ..] => {
            let content =
                json!([{"type": "output_text", "text": "Hello from the simulator.", "annotations": []}]);
            let message = json!({"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": content});
            json!({
                "id": format!("resp_{}", call.request_id), "object": "response", "status": "completed",
                "created_at": created, "model": "qwen-plus", "output": [message],
                "usage": {"input_tokens": 10, "output_tokens": 8, "total_tokens": 18},
            })
        }
        ["systemone"] => json!({"decision": "pass", "request_id": call.request_id}),
        [kind, id] | [kind, id, ..] if call.method == Method::DELETE => {
            json!({"id": id, "object": kind.trim_end_matches('s'), "deleted": true})
        }
        [kind, id, ..] => {
            json!({"id": id, "object": kind.trim_end_matches('s'), "owner": uid(&caller.account), "status": "completed"})
        }
        [kind, ..] => {
            let row = json!({
                "id": format!("{}-{}", kind.trim_end_matches('s'), uid(&caller.account)),
                "object": kind.trim_end_matches('s'), "filename": "another-tenants.jsonl", "bytes": 4096,
                "created_at": created, "purpose": "batch", "status": "processed",
            });
            if call.method == Method::POST {
                row
            } else {
                json!({"object": "list", "data": [row], "has_more": false})
            }
        }
        [] => Value::Null,
    }
}

/// Hot words and cloned voices: the action is in the body.
fn customization(call: &SimulatedCall, caller: &SimulatedCaller) -> Result<Value, ErrorAnswer> {
    posted(call)?;
    let body = call.json()?;
    let action = body["input"]["action"].as_str().unwrap_or_default();
    let id = format!("vocab-{}", uid(&caller.account));
    let row =
        json!({"vocabulary_id": id, "voice_id": id, "status": "OK", "gmt_create": "2025-11-01 08:00:00"});
    let output = if action.starts_with("list") {
        json!({"vocabulary_list": [row], "voice_list": [row]})
    } else if action.starts_with("create") || action.starts_with("query") {
        row
    } else {
        json!({})
    };
    Ok(json!({"output": output, "usage": {"count": 1}}))
}

/// Jobs, deployments, assistants, threads, agents and vaults: a list of one, or the resource that the path names.
fn resource(call: &SimulatedCall, caller: &SimulatedCaller, kind: &str, path: &[&str]) -> Value {
    let deepest = path.last().copied().unwrap_or(kind);
    let row = |id: String| {
        json!({
            "id": id, "job_id": id, "kind": kind, "status": "SUCCEEDED", "model": "qwen-plus",
            "account_uid": uid(&caller.account), "api_key_id": key_id(&caller.key),
            "credential": "a secret of the workspace",
        })
    };
    match call.method.as_str() {
        "DELETE" => json!({"output": {"id": deepest, "deleted": true}}),
        "GET" if path.len().is_multiple_of(2) => {
            let id = format!("{kind}-{}", uid(&caller.account));
            json!({"output": {"total": 1, "page_no": 1, "page_size": 10, "jobs": [row(id)]}})
        }
        "GET" => json!({"output": row(deepest.to_owned())}),
        _ => json!({"output": row(format!("{kind}-{}", Uuid::new_v4()))}),
    }
}

fn event_stream() -> SimulatedReply {
    let step = |text: &'static str| TimedPiece { wait: Duration::ZERO, bytes: text.into() };
    let steps =
        [":connected\n\n", "event: message\ndata: {\"log\":\"another tenant's\"}\n\n", ":keepalive\n\n"];
    SimulatedReply::stream(steps.into_iter().map(step))
}

/// Public key of a pair whose private key was deleted.
const PUBLIC_KEY: &str = "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAnN4qObWFkDbc9LzfszqPb5WKFyJq5Z6Jt69S0KV0dpXYUwjRjsf0Dcf7LZqYMcMkoQexBYueJQplNG9tFCk89cYAtsgD1W+Wg+WmyDFDNbGbI/K5h31dJMOxK1eNhRqK+XytXih4WUsm8jqIvf3oNkw3K3JsBkeURIZkWFjYQwVWUk/v5VeYld2UnlrpiHtdQSUenMfXm5wYRPGUe3ng3pVsfTIFZl20w3WK5a6QrRUl+qwjaClESAuNP3RG+L2wDugVDKgXhA0+s9kouZwPlhocgqOBf59fuHpOlVEdcMrHTgxdHC8SZAFUGHX5+M0i7x2pJlxochqiGEEulfB5xwIDAQAB";

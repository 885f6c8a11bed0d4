//! The API's answer to one call, in DashScope's order of checks.

use super::account::{Caller, Metered};
use super::call::Call;
use super::errors::{Cause, Refusal};
use super::reply::Reply;
use super::route::{Route, Surface};
use super::world::{World, lock};
use super::{account_wide, compatible, handshake, models, report, service, task_api};

/// Key, route, model, standing of the account, body.
pub(super) fn answer(world: &World, call: &mut Call) -> (Reply, Option<Caller>) {
    if let Some(page) = call.filler().or_else(|| report::answer(world, call)) {
        return (page, None);
    }
    let surface = Surface::of(&call.path());
    let key = call.key().or_else(|| call.header("x-api-key").filter(|_| surface == Surface::Anthropic));
    let caller = lock(&world.accounts).authenticate(key, call.now);
    let caller = match caller {
        Ok(caller) => caller,
        Err(refusal) => return (refused(surface, &refusal, call), None),
    };
    let answered = if call.body.length > LARGEST_BODY_BYTES {
        Err(Refusal::new(Cause::TooLarge, "The request body is larger than 64 MiB."))
    } else {
        routed(world, call, &caller)
    };
    let reply = answered.unwrap_or_else(|refusal| refused(surface, &refusal, call));
    (reply, Some(caller))
}

fn routed(world: &World, call: &mut Call, caller: &Caller) -> Result<Reply, Refusal> {
    match Route::of(&call.method, &call.path()) {
        Route::Service(service) => service::answer(world, call, caller, service),
        Route::Task(id) => task_api::query(world, call, caller, &id),
        Route::TaskList => task_api::list(world, call, caller),
        Route::TaskCancel(id) => task_api::cancel(world, call, caller, &id),
        Route::UploadPolicy => upload_policy(world, call, caller),
        Route::Tokenizer => service::tokenizer(world, call, caller),
        Route::AccountWide(path) => account_wide::answer(world, call, caller, &path),
        Route::Chat => compatible::chat(world, call, caller),
        Route::Completions => compatible::completions(world, call, caller),
        Route::CompatibleEmbeddings => compatible::embeddings(world, call, caller),
        Route::Reranks => compatible::reranks(world, call, caller),
        Route::Messages => compatible::messages(world, call, caller),
        Route::Inference | Route::Realtime => handshake::answer(call),
        Route::WrongMethod => {
            let message = format!("Request method '{}' is not supported.", call.method);
            Err(Refusal::parameter(message))
        }
        Route::Unknown => {
            let path = call.path().join("/");
            Err(Refusal::new(Cause::NotFound, format!("No static resource {path}.")))
        }
    }
}

pub(super) fn refused(surface: Surface, refusal: &Refusal, call: &Call) -> Reply {
    let body = match surface {
        Surface::Native => refusal.native(&call.request_id),
        Surface::Compatible => refusal.compatible(&call.request_id),
        Surface::Anthropic => refusal.anthropic(&call.request_id),
    };
    Reply::json(refusal.status, &body)
}

fn upload_policy(world: &World, call: &Call, caller: &Caller) -> Result<Reply, Refusal> {
    if call.parameter("action") != Some("getPolicy") {
        return Err(Refusal::parameter("action must be getPolicy."));
    }
    let model = call.parameter("model").filter(|model| !model.is_empty());
    let model = model.ok_or_else(|| Refusal::parameter("model is required."))?;
    models::find(model).ok_or_else(|| Refusal::parameter("Model not exist."))?;
    let mut accounts = lock(&world.accounts);
    accounts.standing(&caller.account)?;
    accounts.meter(&caller.account, Metered::Policy(model.to_owned()), POLICY_QPS, call.now)?;
    drop(accounts);
    let lifetime = world.options.policy_lifetime;
    let data = lock(&world.uploads).policy(caller, model, &world.secret, &world.oss_url, lifetime, call.now);
    Ok(Reply::json(200, &serde_json::json!({"request_id": call.request_id, "data": data})))
}

const LARGEST_BODY_BYTES: u64 = 64 << 20;
const POLICY_QPS: u32 = 100;

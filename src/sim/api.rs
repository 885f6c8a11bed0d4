//! Answer of the API to one call, with the checks in DashScope's order.

use super::account::{MeteredCall, SimulatedCaller};
use super::call::SimulatedCall;
use super::errors::{ErrorAnswer, ErrorCause};
use super::reply::SimulatedReply;
use super::route::{SimulatedRoute, SimulatedSurface};
use super::state::SimulatorState;
use super::{account_wide, compatible, handshake, models, report, responses, service, task_api};

/// Checks the key, then the body's length. The handler of the route then checks the model, the account and the body.
pub(super) fn answer(
    state: &SimulatorState,
    call: &mut SimulatedCall,
) -> (SimulatedReply, Option<SimulatedCaller>) {
    if let Some(page) = call.filler().or_else(|| report::answer(state, call)) {
        return (page, None);
    }
    let surface = SimulatedSurface::of(&call.path());
    let key =
        call.key().or_else(|| call.header("x-api-key").filter(|_| surface == SimulatedSurface::Anthropic));
    let caller = state.accounts.lock().authenticate(key, call.now);
    let caller = match caller {
        Ok(caller) => caller,
        Err(refusal) => return (refused(surface, &refusal, call), None),
    };
    let answered = if call.body.length > LARGEST_BODY_BYTES {
        Err(ErrorAnswer::new(ErrorCause::TooLarge, "The request body is larger than 64 MiB."))
    } else {
        routed(state, call, &caller)
    };
    let reply = answered.unwrap_or_else(|refusal| refused(surface, &refusal, call));
    (reply, Some(caller))
}

fn routed(
    state: &SimulatorState,
    call: &mut SimulatedCall,
    caller: &SimulatedCaller,
) -> Result<SimulatedReply, ErrorAnswer> {
    match SimulatedRoute::of(&call.method, &call.path()) {
        SimulatedRoute::Service(service) => service::answer(state, call, caller, service),
        SimulatedRoute::Task(id) => task_api::query(state, call, caller, &id),
        SimulatedRoute::TaskList => task_api::list(state, call, caller),
        SimulatedRoute::TaskCancel(id) => task_api::cancel(state, call, caller, &id),
        SimulatedRoute::UploadPolicy => upload_policy(state, call, caller),
        SimulatedRoute::Tokenizer => service::tokenizer(state, call, caller),
        SimulatedRoute::AccountWide(path) => account_wide::answer(state, call, caller, &path),
        SimulatedRoute::Chat => compatible::chat(state, call, caller),
        SimulatedRoute::Completions => compatible::completions(state, call, caller),
        SimulatedRoute::CompatibleEmbeddings => compatible::embeddings(state, call, caller),
        SimulatedRoute::Reranks => compatible::reranks(state, call, caller),
        SimulatedRoute::Responses => responses::answer(state, call, caller),
        SimulatedRoute::CountTokens => compatible::count_tokens(state, call, caller),
        SimulatedRoute::Messages => compatible::messages(state, call, caller),
        SimulatedRoute::Inference | SimulatedRoute::Realtime => handshake::answer(call),
        SimulatedRoute::WrongMethod => {
            let message = format!("Request method '{}' is not supported.", call.method);
            Err(ErrorAnswer::parameter(message))
        }
        SimulatedRoute::Unknown => {
            let path = call.path().join("/");
            Err(ErrorAnswer::new(ErrorCause::NotFound, format!("No static resource {path}.")))
        }
    }
}

pub(super) fn refused(
    surface: SimulatedSurface,
    refusal: &ErrorAnswer,
    call: &SimulatedCall,
) -> SimulatedReply {
    let body = match surface {
        SimulatedSurface::Native => refusal.native(&call.request_id),
        SimulatedSurface::Compatible => refusal.compatible(&call.request_id),
        SimulatedSurface::Anthropic => refusal.anthropic(&call.request_id),
    };
    SimulatedReply::json(refusal.status, &body)
}

fn upload_policy(
    state: &SimulatorState,
    call: &SimulatedCall,
    caller: &SimulatedCaller,
) -> Result<SimulatedReply, ErrorAnswer> {
    if call.parameter("action") != Some("getPolicy") {
        return Err(ErrorAnswer::parameter("action must be getPolicy."));
    }
    let model = call.parameter("model").filter(|model| !model.is_empty());
    let model = model.ok_or_else(|| ErrorAnswer::parameter("model is required."))?;
    models::find(model).ok_or_else(|| ErrorAnswer::parameter("Model not exist."))?;
    let mut accounts = state.accounts.lock();
    accounts.standing(&caller.account)?;
    accounts.meter(&caller.account, MeteredCall::Policy(model.to_owned()), POLICY_QPS, call.now)?;
    drop(accounts);
    let lifetime = state.options.policy_lifetime;
    let data = state.uploads.lock().policy(caller, model, &state.secret, &state.oss_url, lifetime, call.now);
    Ok(SimulatedReply::json(200, &serde_json::json!({"request_id": call.request_id, "data": data})))
}

const LARGEST_BODY_BYTES: u64 = 64 << 20;
const POLICY_QPS: u32 = 100;

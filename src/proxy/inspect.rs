//! Inspection: whether the body asks for more than the caller may have. Bodies are read only for callers whose models
//! are restricted, whose submits are capped, or whose streams have limits of their own.

use std::collections::VecDeque;
use std::io::{self, Read};

use bytes::{Buf, Bytes};
use hyper::body::Body;

use super::admit::permit::Permit;
use super::passage::Passage;
use super::query_model::{AmbiguousModel, query_model};
use super::rejection::Rejection;
use super::route::Route;
use crate::config::{Limits, Rule};
use crate::dashscope::inference_message::InferenceMessage;
use crate::dashscope::limited_fields::{FieldFault, LimitedFields};
use crate::dashscope::operation::ModelLocation;
use crate::dashscope::pattern::matches;
use crate::dashscope::secret_look::looks_like_secret;
use crate::dashscope::video;
use crate::limits::LimitKind;
use crate::tenant::directory::Tenant;
use crate::upstream::Upload;

/// Result of an inspection.
#[derive(Debug, Default)]
pub(super) struct Inspection {
    /// The body asks for an event stream, and no header field did.
    pub streams: bool,
}

/// Inspects a request. A body that must be known is read whole before anything is sent.
///
/// # Errors
/// `ModelNotAllowed`, `OverCap`; `BadRequest` or `BadBody` for a body that can't be read, or could be read in two ways;
/// `NoRoom`, and faults of the client's body.
pub(super) async fn inspect(passage: &mut Passage) -> Result<Inspection, Rejection> {
    let Passage { exchange, native, request, body, .. } = passage;
    let (permit, route) = (exchange.permit(), native.as_ref().unwrap_or(exchange.route()));
    let needs = Needs::of(permit, route);
    if needs.model == Some(ModelLocation::Query) {
        let model = query_model(request.uri.query().unwrap_or("")).map_err(|AmbiguousModel(_)| {
            Rejection::BadRequest("`model` in its query could be read in two ways; write it once")
        })?;
        check_model(permit.tenant(), permit.caller().limits(), model.as_deref())?;
    }
    if needs.model != Some(ModelLocation::Body) && !needs.caps && !needs.stream {
        return Ok(Inspection::default());
    }
    let read = body.read_whole(usize::MAX).await;
    read.map_err(|fault| Rejection::of_body(fault, permit.directory().settings.server.max_body_bytes))?;
    let asked = read_body(body).await.map_err(|fault| bad_body("its body", &fault))?;
    if needs.model.is_some() {
        check_model(permit.tenant(), permit.caller().limits(), asked.model.as_deref())?;
    }
    if needs.caps {
        check_caps(permit, &asked)?;
    }
    Ok(Inspection { streams: needs.stream && asked.stream })
}

/// True if the client's messages inside the WebSocket must be inspected, because they name models.
fn names_models_inside(permit: &Permit, route: &Route) -> bool {
    Needs::of(permit, route).model == Some(ModelLocation::Messages)
}

/// True if the tenant, or its key with these limits, may use some models only.
pub(super) fn lists_models(tenant: &Tenant, of_key: &Limits) -> bool {
    [&*tenant.models, &of_key.models, &tenant.browser_models].iter().any(|list| !list.is_empty())
}

/// True if the gateway reads the client's frames inside the WebSocket: they may name models, or cost money.
pub(super) fn reads_frames(permit: &Permit, route: &Route) -> bool {
    let billing = &permit.tenant().billing;
    names_models_inside(permit, route) || billing.prices.is_some() || billing.has_limit()
}

/// Reads a text message inside a WebSocket.
///
/// # Errors
/// `BadBody` for a message that can't be read, or could be read in two ways.
pub(super) fn read_message(message: &[u8]) -> Result<InferenceMessage, Rejection> {
    InferenceMessage::from_slice(message).map_err(|fault| bad_body("a text message", &fault))
}

/// Facts that must be known of a request.
struct Needs {
    model: Option<ModelLocation>,
    caps: bool,
    stream: bool,
}

impl Needs {
    fn of(permit: &Permit, route: &Route) -> Self {
        let both = [permit.caller().limits(), &permit.tenant().tenant_limits];
        let is_capped =
            both.iter().any(|limits| limits.max_duration_seconds.or(limits.max_resolution).is_some());
        let limits_streams = both.iter().any(|limits| limits.streams != Rule::default());
        Self {
            model: route.operation.model_location().filter(|_| lists_models(permit.tenant(), both[0])),
            caps: is_capped && permit.submits() && video::is_video_path(&route.path),
            stream: limits_streams && route.operation.may_stream() && permit.kind() != LimitKind::Stream,
        }
    }
}

/// Reads the limited fields of a body. A large body is read on another thread, because the worker's other requests
/// would wait.
async fn read_body(body: &Upload) -> Result<LimitedFields, FieldFault> {
    let is_large = body.size_hint().lower() > MOST_AT_ONCE;
    if !is_large {
        return LimitedFields::from_slice(&body.ahead());
    }
    let pieces = Pieces(body.pieces().into());
    let read = tokio::task::spawn_blocking(move || LimitedFields::from_reader(pieces)).await;
    read.unwrap_or(Err(FieldFault::NotJson))
}

/// Reader over the pieces of a body.
pub(super) struct Pieces(pub VecDeque<Bytes>);

impl Read for Pieces {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.0.front().is_some_and(Bytes::is_empty) {
            self.0.pop_front();
        }
        let Some(piece) = self.0.front_mut() else { return Ok(0) };
        let length = piece.len().min(into.len());
        piece.copy_to_slice(&mut into[..length]);
        Ok(length)
    }
}

/// The refusal of a body, or a message, that must be known and can't be read.
pub(super) fn bad_body(what: &str, fault: &FieldFault) -> Rejection {
    let refused = |problem: String| Rejection::BadBody(problem.into());
    match fault {
        FieldFault::NotJson => {
            refused(format!("{what} must be plain JSON, as what this key may ask for is limited"))
        }
        FieldFault::Ambiguous(name) => refused(format!("`{name}` could be read in two ways; write it once")),
        FieldFault::Unreadable(name) => {
            refused(format!("`{name}` is not of the type and form that DashScope documents"))
        }
    }
}

/// Checks the model against the tenant's list and the key's, if there are any.
///
/// # Errors
/// `ModelNotAllowed`.
pub(super) fn check_model(tenant: &Tenant, of_key: &Limits, model: Option<&str>) -> Result<(), Rejection> {
    let Some(model) = model else {
        return Err(Rejection::ModelNotAllowed(
            "the request names no model, and this key may use some only".into(),
        ));
    };
    if may_use(tenant, of_key, model) {
        return Ok(());
    }
    let shown: String = model.chars().take(MOST_SHOWN).collect();
    let shown = if looks_like_secret(model) { "what it names as its model" } else { &shown };
    Err(Rejection::ModelNotAllowed(format!("this key may not use {shown}").into()))
}

/// True if the model is in the tenant's list and in the key's, as far as there are any.
pub(super) fn may_use(tenant: &Tenant, of_key: &Limits, model: &str) -> bool {
    let is_in = |list: &[String]| list.is_empty() || list.iter().any(|pattern| matches(pattern, model));
    [&*tenant.models, &*of_key.models, &*tenant.browser_models].into_iter().all(is_in)
}

/// Checks the caps of the key and of all keys of the tenant together; if both are set, the lower one counts.
fn check_caps(permit: &Permit, asked: &LimitedFields) -> Result<(), Rejection> {
    let (own, all) = (permit.caller().limits(), &permit.tenant().tenant_limits);
    let lower = |one: Option<u32>, other: Option<u32>| one.into_iter().chain(other).min();
    let refused = |problem: String| Err(Rejection::OverCap(problem.into()));
    if let Some(most) = lower(own.max_duration_seconds, all.max_duration_seconds) {
        match video::seconds(asked) {
            Some(seconds) if seconds <= most => {}
            Some(seconds) => {
                let what = what_is_asked(asked.duration.is_some());
                return refused(format!("{what} is {seconds} seconds, and max_duration_seconds = {most}"));
            }
            None => {
                return refused(format!(
                    "max_duration_seconds = {most}, and this model's default is not known; name parameters.duration"
                ));
            }
        }
    }
    if let Some(most) = lower(own.max_resolution, all.max_resolution) {
        match video::lines(asked) {
            Some(lines) if lines <= most => {}
            Some(lines) => {
                let what = what_is_asked(asked.resolution.is_some() || asked.size.is_some());
                return refused(format!("{what} is {lines}P, and max_resolution = {most}P"));
            }
            None => {
                return refused(format!(
                    "max_resolution = {most}P, and this model's default is not known; name parameters.resolution, and \
                     parameters.size too if it is still refused"
                ));
            }
        }
    }
    Ok(())
}

fn what_is_asked(is_named: bool) -> &'static str {
    if is_named { "what it asks for" } else { "the model's default, as it names none," }
}

/// The largest body that is read on the worker itself: reading it takes about ten microseconds.
pub(super) const MOST_AT_ONCE: u64 = 64 * 1024;
/// Greatest length of a model's name in a message, in characters.
const MOST_SHOWN: usize = 64;

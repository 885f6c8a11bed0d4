//! Replay: a submit that comes again with its `Idempotency-Key` gets the first one's answer, and buys nothing
//! (draft-ietf-httpapi-idempotency-key-header, section 2).
//!
//! The key is noted durably before anything is sent. A key whose submit has surely made no task is freed again; one whose
//! answer is lost is kept, since a task may run.

use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::Response;
use hyper::StatusCode;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::exchange::Exchange;
use super::held_key::HeldKey;
use super::observe::{self, Observed};
use super::rejection::Rejection;
use super::respond;
use super::worker::Proxy;
use crate::config::Dialect;
use crate::store::{Change, EarlierSubmit, KeyedSubmit, Outcome};
use crate::tenant::directory::Tenant;
use crate::unified;
use crate::upstream::{BudgetShare, Keep, Upload, UploadFault};

/// True if the call has an `Idempotency-Key`, which counts only if the call makes a task.
pub(super) fn has_key(headers: &HeaderMap) -> bool {
    headers.contains_key(IDEMPOTENCY_KEY)
}

/// Notes the key of a submit, if it has one. Returns the earlier submit with the key, if there is one.
///
/// # Errors
/// `BadRequest` for more than one key, or a key that is empty or too long; `StoreUnavailable`.
pub(super) async fn begin(
    proxy: &Proxy,
    exchange: &Exchange,
    tenant: &Tenant,
    headers: &HeaderMap,
) -> Result<Option<Arc<EarlierSubmit>>, Rejection> {
    if !has_key(headers) || exchange.held_key.get().is_some() {
        return Ok(None);
    }
    let store = &proxy.shared.store;
    let submit = Arc::new(KeyedSubmit {
        tenant: Arc::clone(&tenant.name),
        operation: exchange.route().operation.name().into(),
        key: key(headers)?.into(),
        attempt: Uuid::new_v4().to_string().into(),
        began_at: SystemTime::now(),
    });
    // Held before it is noted: a client that leaves meanwhile frees it.
    let held = exchange.held_key.get_or_init(|| HeldKey::new(store.clone(), Arc::clone(&submit)));
    match store.commit(Change::Begin(submit)).await {
        Ok(Outcome::Earlier(earlier)) => {
            held.leave();
            Ok(Some(earlier))
        }
        Ok(
            Outcome::Made
            | Outcome::NotMade
            | Outcome::Exhausted(_)
            | Outcome::NoSlot(_)
            | Outcome::Leased(_),
        ) => Ok(None),
        Err(fault) => {
            tracing::error!(%fault, "the key of a submit could not be noted");
            held.conclude(true);
            Err(Rejection::StoreUnavailable)
        }
    }
}

/// Answers a submit whose key an earlier one has.
///
/// # Errors
/// `IdempotencyRunning`, `IdempotencyUnclear`, `IdempotencyBody`; faults of the client's body.
pub(super) async fn replay(
    earlier: &EarlierSubmit,
    request: &Parts,
    body: impl FnOnce() -> Upload,
    exchange: &Rc<Exchange>,
) -> Result<Response<Observed>, Rejection> {
    let (fingerprint, answer) = match earlier {
        EarlierSubmit::Running => return Err(Rejection::IdempotencyRunning),
        EarlierSubmit::Unclear => return Err(Rejection::IdempotencyUnclear),
        EarlierSubmit::Answered { fingerprint, body } => (fingerprint, body),
    };
    let mut body = body();
    let most = exchange.directory().settings.server.max_body_bytes;
    let asked = fingerprint_of(exchange, &request.headers, &mut body).await;
    if asked.map_err(|fault| Rejection::of_body(fault, most))?.as_ref() != Some(fingerprint) {
        return Err(Rejection::IdempotencyBody(key(&request.headers)?.into()));
    }
    let answer = Bytes::copy_from_slice(answer.as_bytes());
    let mut response = respond::json(StatusCode::OK, answer, &respond::new_request_id());
    response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    Ok(observe::whole(response, exchange))
}

/// Reads a body to its end, and returns the fingerprint of what it asks for; `None` if it can't be told.
async fn fingerprint_of(
    exchange: &Exchange,
    headers: &HeaderMap,
    body: &mut Upload,
) -> Result<Option<[u8; 32]>, UploadFault> {
    if dialect(exchange) == Dialect::Unified {
        body.read_whole(usize::MAX).await?;
        return Ok(Some(fingerprint(exchange, headers, &body.whole())));
    }
    while let Some(frame) = body.frame().await {
        frame?;
    }
    Ok(body.progress().digest.so_far())
}

impl Proxy {
    /// The body of a submit whose key an earlier one has, to be compared.
    pub(super) fn upload_to_compare(
        &self,
        exchange: &Exchange,
        tenant: &Tenant,
        body: Option<Incoming>,
    ) -> Upload {
        let Some(body) = body else { return Upload::empty() };
        let server = &exchange.directory().settings.server;
        let budget_share = BudgetShare::nothing_of(&self.shared.buffer_budget, &tenant.name);
        let stopwatch = Rc::clone(&exchange.stopwatch);
        let upload = Upload::new(body, server, Keep::Beginning, Some(budget_share), stopwatch);
        watch(exchange, &upload);
        upload
    }
}

/// Has the fingerprint of a native body taken while it passes.
pub(super) fn watch(exchange: &Exchange, body: &Upload) {
    if dialect(exchange) == Dialect::Native {
        body.progress().digest.begin(begun(exchange));
    }
}

/// Notes what a create of the unified dialect asks for. Its body is not the one that goes up.
pub(super) fn note_create(exchange: &Exchange, headers: &HeaderMap, body: &Bytes) {
    if let Some(key) = exchange.held_key.get() {
        key.note_fingerprint(fingerprint(exchange, headers, body));
    }
}

/// The fingerprint of a create: of all of a JSON body, or of a form without its boundary, which SDKs draw anew for each
/// try.
fn fingerprint(exchange: &Exchange, headers: &HeaderMap, body: &Bytes) -> [u8; 32] {
    let mut digest = begun(exchange);
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    for part in unified::parts_without_boundary(content_type, body) {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    digest.finalize().into()
}

/// The digest of what is asked for beside the body: mount and path.
fn begun(exchange: &Exchange) -> Sha256 {
    let route = exchange.route();
    let mut digest = Sha256::new();
    for part in [&*route.mount(exchange.directory()).prefix, &*route.path] {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    digest
}

fn dialect(exchange: &Exchange) -> Dialect {
    exchange.route().mount(exchange.directory()).dialect
}

fn key(headers: &HeaderMap) -> Result<&str, Rejection> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let one = values.next().filter(|_| values.next().is_none()).and_then(|value| value.to_str().ok());
    one.filter(|key| (1..=MOST_KEY_BYTES).contains(&key.len()))
        .ok_or(Rejection::BadRequest("its Idempotency-Key must be one field of 1 to 255 ASCII characters"))
}

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
const MOST_KEY_BYTES: usize = 255;

//! Views of what is a tenant's own, for the bearer of one of its keys: use, money, and the key itself. The tenant is the
//! key's, never a parameter. Nothing is sent to an account.

pub(super) mod balance;
mod billing;
mod fault;
pub(super) mod key;
mod rotate;
mod usage;

use std::rc::Rc;
use std::time::SystemTime;

use bytes::Bytes;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::http::request::Parts;
use hyper::{Response, StatusCode};
use serde_json::Value;

use self::fault::ViewFault;
use super::exchange::Exchange;
use super::observe::{self, Observed};
use super::rejection::Rejection;
use super::respond;
use super::worker::Proxy;
use crate::upstream::Upload;

/// A view of what is a tenant's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OwnView {
    Usage,
    Balance,
    Key,
    /// The money limit, as OpenAI's old dashboard shows it.
    Subscription,
    /// The money spent, as OpenAI's old dashboard shows it.
    Spent,
    /// The description of the own calls, for programs.
    Document,
}

/// Answers a view.
///
/// # Errors
/// `BadField` for a parameter that can't be read; the fault of a key that is revoked meanwhile.
pub(super) async fn show(
    proxy: &Proxy,
    view: OwnView,
    request: &Parts,
    exchange: &Rc<Exchange>,
) -> Result<Response<Observed>, Rejection> {
    or_refusal(view_of(proxy, view, request.uri.query().unwrap_or(""), exchange).await, exchange)
}

/// Gives the caller's key a new secret, which the answer shows.
///
/// # Errors
/// `BadField` for a body that can't be read; the fault of the client's body.
pub(super) async fn rotate_key(
    proxy: &Proxy,
    body: Upload,
    exchange: &Rc<Exchange>,
) -> Result<Response<Observed>, Rejection> {
    or_refusal(rotate::rotate(proxy, body, exchange).await, exchange)
}

/// The answer, or the refusal that only views have.
fn or_refusal(
    answered: Result<Response<Observed>, ViewFault>,
    exchange: &Rc<Exchange>,
) -> Result<Response<Observed>, Rejection> {
    let refused =
        |row, message, wait| observe::whole(respond::refused(row, message, None, wait, exchange), exchange);
    match answered {
        Ok(response) => Ok(response),
        Err(ViewFault::Refused(rejection)) => Err(rejection),
        Err(ViewFault::Report(fault)) => Ok(refused(fault.row(), fault.message(), fault.retry_after())),
        Err(ViewFault::Rotation(fault)) => Ok(refused(fault.row(), fault.message(), None)),
    }
}

async fn view_of(
    proxy: &Proxy,
    view: OwnView,
    query: &str,
    exchange: &Rc<Exchange>,
) -> Result<Response<Observed>, ViewFault> {
    let (permit, store) = (exchange.permit(), &proxy.shared.store);
    let shown = match view {
        OwnView::Usage => return usage::usage(proxy, query, exchange).await,
        OwnView::Balance => balance::balance(permit, &proxy.shared, SystemTime::now()),
        OwnView::Key => key::key(permit, &proxy.shared.limits, store.zone()),
        OwnView::Subscription => billing::subscription(permit, store),
        OwnView::Spent => usage::spent(proxy, query, exchange).await?,
        OwnView::Document => {
            return Ok(text(DOCUMENT.into(), HeaderValue::from_static("application/json"), exchange));
        }
    };
    Ok(answer(&shown, exchange))
}

fn answer(shown: &Value, exchange: &Rc<Exchange>) -> Response<Observed> {
    text(format!("{shown}\n").into(), HeaderValue::from_static("application/json"), exchange)
}

/// Text that no cache may keep.
fn text(body: Bytes, kind: HeaderValue, exchange: &Rc<Exchange>) -> Response<Observed> {
    let request_id = respond::new_request_id();
    let mut response = respond::json(StatusCode::OK, body, &request_id);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, kind);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Names of models are text that callers chose.
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    observe::whole(response, exchange)
}

/// The description of the own calls, whose paths are behind the mount's prefix.
const DOCUMENT: &str = include_str!("openapi.json");

//! The models that a caller may use: DashScope's own list, narrowed to the caller's models.

use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::header::CONTENT_LENGTH;
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, StatusCode};
use tokio::time::timeout;

use super::exchange::Exchange;
use super::inspect::may_use;
use super::observe::{self, Observed};
use super::passage::{Destination, Passage};
use super::rejection::Rejection;
use super::respond;
use super::worker::Proxy;
use crate::dashscope::envelope::{self, ErrorBody};
use crate::dashscope::model_list::{self, ListedModel};
use crate::dashscope::operation::{Operation, Surface};
use crate::upstream::{self, AnswerText, Download, ReadBounds, Upload};

/// Answers with the list, or with the one model that the path names.
///
/// # Errors
/// The fault of the call to DashScope, where no earlier list is known; the fault of a key that is revoked meanwhile.
pub(super) async fn show(
    proxy: &Rc<Proxy>,
    request: &Parts,
    exchange: &Rc<Exchange>,
) -> Result<Response<Observed>, Rejection> {
    let models = match known(proxy, exchange, Instant::now()) {
        Some(models) => models,
        None => {
            match timeout(PATIENCE, ask(proxy, exchange)).await.unwrap_or(Err(Rejection::UpstreamTimeout)) {
                Ok(Asked::List(models)) => models,
                Ok(Asked::Refusal(response)) => match last(proxy, exchange) {
                    Some(models) => models,
                    None => return Ok(proxy.deliver(*response, exchange, request.version)),
                },
                Err(rejection) => last(proxy, exchange).ok_or(rejection)?,
            }
        }
    };
    let (tenant, limits) = (exchange.permit().tenant(), exchange.permit().caller().limits());
    let mut usable = models.iter().filter(|model| may_use(tenant, limits, &model.id));
    let path = &*exchange.route().path;
    let (status, body, request_id) = match path.strip_prefix(LIST).map(|rest| rest.trim_matches('/')) {
        None | Some("") => (StatusCode::OK, model_list::write(usable).into(), respond::new_request_id()),
        Some(id) => match usable.find(|model| *model.id == *id) {
            Some(model) => {
                let body = serde_json::to_vec(model).unwrap_or_default();
                (StatusCode::OK, body.into(), respond::new_request_id())
            }
            None => none(),
        },
    };
    let length = body.len();
    let is_head = request.method == Method::HEAD;
    let mut response = respond::json(status, if is_head { Bytes::new() } else { body }, &request_id);
    if is_head {
        response.headers_mut().insert(CONTENT_LENGTH, length.into());
    }
    Ok(observe::whole(response, exchange))
}

/// A fresh list of one of the tenant's accounts.
fn known(proxy: &Proxy, exchange: &Exchange, now: Instant) -> Option<Arc<[ListedModel]>> {
    names(exchange).find_map(|account| proxy.shared.model_lists.fresh(account, now))
}

/// The last list of one of the tenant's accounts.
fn last(proxy: &Proxy, exchange: &Exchange) -> Option<Arc<[ListedModel]>> {
    names(exchange).find_map(|account| proxy.shared.model_lists.last(account))
}

/// Names of the tenant's accounts.
fn names(exchange: &Exchange) -> impl Iterator<Item = &Arc<str>> {
    let accounts = &exchange.directory().accounts;
    let of_tenant = exchange.permit().tenant().accounts.iter().map(|index| &accounts[*index]);
    of_tenant.filter(|account| account.takes_new()).map(|account| &account.name)
}

/// DashScope's answer to the gateway's own request.
enum Asked {
    List(Arc<[ListedModel]>),
    /// An answer without success.
    Refusal(Box<Response<Download>>),
}

/// Asks one of the tenant's accounts. Nothing of the client's request is sent, as the answer is kept for other callers.
async fn ask(proxy: &Rc<Proxy>, exchange: &Rc<Exchange>) -> Result<Asked, Rejection> {
    let passage = Passage {
        exchange: Rc::clone(exchange),
        native: Some(exchange.route().natively(Operation::ModelList, LIST)),
        destination: Destination::Any,
        request: Box::new(Request::new(()).into_parts().0),
        body: Upload::empty(),
        asked: None,
        webhook: None,
    };
    let mut response = proxy.send(Box::new(passage), None).await?;
    if response.status() != StatusCode::OK {
        return Ok(Asked::Refusal(Box::new(response)));
    }
    let deadline = (Instant::now() + PATIENCE).into();
    let bounds = ReadBounds { most_bytes: MOST_BYTES, budget: &proxy.shared.buffer_budget, deadline };
    let read =
        async { upstream::read_whole(&mut response, &bounds).await.map_err(|_| Rejection::UpstreamLost) };
    let AnswerText::Whole(text) = exchange.unless_revoked(pin!(read)).await? else {
        return Err(Rejection::UpstreamLost);
    };
    let models: Arc<[ListedModel]> = model_list::read(&text).ok_or(Rejection::UpstreamLost)?.into();
    if let Some(index) = exchange.account.get() {
        let account = &exchange.directory().accounts[index].name;
        proxy.shared.model_lists.keep(account, Arc::clone(&models), Instant::now());
    }
    Ok(Asked::List(models))
}

/// DashScope's answer for a model that does not exist.
fn none() -> (StatusCode, Bytes, Box<str>) {
    let request_id = respond::new_request_id();
    let fault = ErrorBody {
        status: StatusCode::NOT_FOUND,
        native_code: "ModelNotFound",
        openai_code: "model_not_found",
        openai_type: "invalid_request_error",
        param: None,
        message: "The model does not exist or you do not have access to it.",
        request_id: &request_id,
    };
    (StatusCode::NOT_FOUND, envelope::write(Surface::Compatible, &fault), request_id)
}

const LIST: &str = "/compatible-mode/v1/models";
/// Time for a list, which DashScope tells within a second.
const PATIENCE: Duration = Duration::from_secs(10);
/// A list of some hundred models has about 30 KiB.
const MOST_BYTES: usize = 4 * 1024 * 1024;

//! Stores the file that came with a create where the model can read it: in the body itself or in DashScope's object
//! storage. A part of `translate`.

use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Request, StatusCode, Uri};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use uuid::Uuid;

use super::fault::VideoFault;
use super::native_request::native_request;
use super::storage;
use crate::dashscope::operation::{Group, Operation};
use crate::dashscope::oss::UploadPolicy;
use crate::dashscope::refusal;
use crate::proxy::exchange::Exchange;
use crate::proxy::inspect;
use crate::proxy::passage::Destination;
use crate::proxy::rejection::Rejection;
use crate::proxy::worker::Proxy;
use crate::unified::create::ReferenceFile;
use crate::unified::media::MediaKind;
use crate::unified::openai_error::OpenAiError;
use crate::unified::{self, Reference};
use crate::upstream::{self, ANSWER_BYTES, StorageUrl, Upload};

/// Stores the file and returns the reference to it. A small picture goes into the body itself if the model takes
/// `data:` URLs. Any other file goes into the storage of an account, and `resolve` then sends the submit to that
/// account.
///
/// # Errors
/// `NotAllowed` for a tenant that may not upload, `ModelNotAllowed`, `BodyTooLarge` for more than the policy
/// allows; `StorageRefused`, `StorageFailed`, and the refusals of a request for a policy.
pub(super) async fn store_reference(
    proxy: &Proxy,
    request: &Parts,
    model: &str,
    file: &ReferenceFile,
    exchange: &Rc<Exchange>,
) -> Result<Reference, Rejection> {
    let permit = exchange.permit();
    let (kind, content_type) = (file.format.kind, file.format.content_type);
    if kind == MediaKind::Image && file.content.len() <= MOST_INLINE && unified::takes_data_urls(model) {
        let url = format!("data:{content_type};base64,{}", STANDARD.encode(&file.content));
        return Ok(Reference { kind, role: None, url: url.into() });
    }
    if !permit.tenant().allow.contains(Group::Uploads) {
        return Err(Rejection::NotAllowed("uploads, and this file needs one".into()));
    }
    let policy = request_policy(proxy, request, model, exchange).await?;
    if policy.max_file_size_mb.is_some_and(|most| file.content.len() as u64 > most << 20) {
        return Err(Rejection::BodyTooLarge(policy.max_file_size_mb.unwrap_or_default() << 20));
    }
    let hosts = &exchange.route().mount(permit.directory()).storage_hosts;
    let place = StorageUrl::of(&policy.upload_host, hosts).ok_or_else(|| {
        tracing::warn!(host = &*policy.upload_host, "a file is not stored: its host is not in storage.hosts");
        VideoFault::StorageRefused
    })?;
    // The client's own file name may hold characters with which DashScope can't fetch the file.
    let name = format!("reference.{}", file.format.extension);
    let upload = form(&policy, &place, &name, file);
    let stored = pin!(storage::send(proxy, exchange, &place, upload));
    let response = exchange.unless_revoked(stored).await?;
    if !response.status().is_success() {
        tracing::warn!(status = response.status().as_u16(), "storage did not take a file");
        return Err(VideoFault::StorageFailed.into());
    }
    Ok(Reference { kind, role: None, url: policy.url(&name).into() })
}

/// Requests an upload policy through the stages that a client's own request would pass, so that the file's directory is
/// recorded as the tenant's.
async fn request_policy(
    proxy: &Proxy,
    request: &Parts,
    model: &str,
    exchange: &Rc<Exchange>,
) -> Result<UploadPolicy, Rejection> {
    let model = utf8_percent_encode(model, NON_ALPHANUMERIC);
    let target = format!("/?action=getPolicy&model={model}");
    let target: Uri = target.parse().map_err(|_| Rejection::BadRequest("its model can't be passed on"))?;
    let route = exchange.route().natively(Operation::UploadPolicy, "/api/v1/uploads");
    let request = Box::new(request.clone());
    let mut passage = native_request(exchange, route, Destination::Any, request, Method::GET, target);
    inspect::inspect(&mut passage).await?;
    let mut response = proxy.send(passage, None).await?;
    let text = upstream::read_ahead(&mut response, ANSWER_BYTES).await?.unwrap_or_default();
    if response.status() == StatusCode::TOO_MANY_REQUESTS {
        return Err(Rejection::AccountsOut(refusal::retry_after(response.headers()).unwrap_or(POLICY_AGAIN)));
    }
    UploadPolicy::read(&text).filter(|_| response.status().is_success()).ok_or_else(|| {
        let OpenAiError { code, message, .. } = OpenAiError::read(response.status().as_u16(), &text);
        tracing::warn!(code, message, "no upload policy for a file");
        Rejection::from(VideoFault::StorageFailed)
    })
}

/// The upload in the form that OSS takes: signed by the policy, without any key.
fn form(policy: &UploadPolicy, place: &StorageUrl, name: &str, file: &ReferenceFile) -> Request<Upload> {
    let boundary = Uuid::new_v4().simple().to_string();
    let (before, after) = policy.form(&boundary, name, file.format.content_type);
    let length = before.len() + file.content.len() + after.len();
    let mut request = Request::new(Upload::ours([Bytes::from(before), file.content.clone(), after.into()]));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = place.target.clone().into();
    let headers = request.headers_mut();
    headers.insert(HOST, place.host.clone());
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    let content_type = HeaderValue::try_from(format!("multipart/form-data; boundary={boundary}"));
    headers.extend(content_type.map(|content_type| (CONTENT_TYPE, content_type)));
    request
}

/// The largest picture that goes into the body. Such a submit needs no upload, and may be sent again to another
/// account.
const MOST_INLINE: usize = 512 * 1024;
/// Time after which DashScope gives the next policy, where it does not say so: it counts policies by the second.
const POLICY_AGAIN: Duration = Duration::from_secs(1);

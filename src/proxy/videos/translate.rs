//! Translation: a create becomes a native submit after `authorize`, and all later stages treat it as a native submit.

use std::sync::Arc;

use bytes::Bytes;
use hyper::header::{ACCEPT, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, TE};
use hyper::http::request::Parts;
use hyper::{Method, Uri};

use super::store_reference::store_reference;
use crate::dashscope::headers::{ASYNC, OSS_RESOLVE};
use crate::dashscope::operation::Operation;
use crate::proxy::passage::Passage;
use crate::proxy::rejection::Rejection;
use crate::proxy::replay;
use crate::proxy::worker::Proxy;
use crate::unified::create::ReferenceFile;
use crate::unified::{self, CreateRequest, NativeSubmit, Reference};
use crate::upstream::Keep;

/// Replaces a create by the native submit, and keeps the fields that the client asked for, as the client wrote them.
///
/// # Errors
/// `BadField` for a field that has no native place, `BadRequest`, `NoRoom`, faults of the client's body, and the
/// refusals of `store_reference`.
pub(in crate::proxy) async fn translate(proxy: &Proxy, passage: &mut Passage) -> Result<(), Rejection> {
    let Passage { exchange, request, body, .. } = passage;
    let permit = exchange.permit();
    let is_coded = |value: &HeaderValue| !value.as_bytes().eq_ignore_ascii_case(b"identity");
    if request.headers.get(CONTENT_ENCODING).is_some_and(is_coded) {
        return Err(Rejection::BadRequest("its body must have no content coding"));
    }
    let read = body.read_whole(usize::MAX).await;
    read.map_err(|fault| Rejection::of_body(fault, permit.directory().settings.server.max_body_bytes))?;
    let content_type =
        request.headers.get(CONTENT_TYPE).map(|value| value.to_str().unwrap_or("?").to_owned());
    let whole = body.whole();
    replay::note_create(exchange, &request.headers, &whole);
    let (create, mut native) = read_create(content_type, whole).await?;
    exchange.note_model(Some(&native.model));
    if let Some(file) = &create.file {
        let reference = store_reference(proxy, request, &native.model, file, exchange).await?;
        native = unified::map(&create.fields, Some(reference))?;
    }
    body.replace([native.body.clone()], Keep::Whole);
    head(request, &native);
    passage.native = Some(passage.exchange.route().natively(Operation::Submit, native.path));
    passage.asked = Some(Arc::new(native.requested));
    Ok(())
}

/// Reads a create and maps it. A large body is read on another thread, because the worker's other requests would wait.
async fn read_create(
    content_type: Option<String>,
    body: Bytes,
) -> Result<(CreateRequest, NativeSubmit), Rejection> {
    let is_large = body.len() > MOST_AT_ONCE;
    let work = move || {
        let create = CreateRequest::read(content_type.as_deref(), &body)?;
        // The create is mapped with a placeholder URL first, so that a bad create is refused before its file is stored.
        let somewhere =
            |file: &ReferenceFile| Reference { kind: file.format.kind, role: None, url: "oss://".into() };
        let native = unified::map(&create.fields, create.file.as_ref().map(somewhere))?;
        Ok::<_, unified::UnifiedFault>((create, native))
    };
    let read = if is_large { tokio::task::spawn_blocking(work).await } else { Ok(work()) };
    Ok(read.map_err(|_| Rejection::BadRequest("its body can't be read"))??)
}

/// Turns the client's head into the head of a native submit. Fields that describe the client's own body are replaced or
/// removed.
fn head(request: &mut Parts, native: &NativeSubmit) {
    request.method = Method::POST;
    request.uri = Uri::from_static("/");
    let headers = &mut request.headers;
    for stale in [CONTENT_ENCODING, TE] {
        headers.remove(stale);
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(native.body.len()));
    headers.insert(ASYNC, HeaderValue::from_static("enable"));
    if native.names_files {
        headers.insert(OSS_RESOLVE, HeaderValue::from_static("enable"));
    }
}

/// The largest body that is read on the worker itself: reading it takes about ten microseconds.
const MOST_AT_ONCE: usize = 64 * 1024;

//! Behind stage 4, in the unified dialect: a create becomes a native submit, and all stages that follow treat it as
//! one.

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use hyper::header::{
    ACCEPT, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, TE, TRANSFER_ENCODING,
};
use hyper::http::request::Parts;
use hyper::{Method, Uri};

use super::admit::Permit;
use super::exchange::Exchange;
use super::rejection::Rejection;
use super::route::Route;
use super::{Proxy, forward};
use crate::dashscope::headers::{ASYNC, OSS_RESOLVE};
use crate::dashscope::operation::Operation;
use crate::store::AskedVideo;
use crate::unified::fields::File;
use crate::unified::{self, Ask, Native, Reference};
use crate::upstream::{Keep, Upload};

impl Proxy {
    /// Puts the native submit in the place of a create; what was asked for, in the client's words.
    ///
    /// # Errors
    /// `BadField` for what has no native place, `BadRequest`, `NoRoom`, and what was wrong with the client's body.
    pub(super) async fn translate(
        &self,
        permit: &Permit,
        route: &mut Route,
        request: &mut Parts,
        body: &mut Upload,
        exchange: &Rc<Exchange>,
    ) -> Result<Arc<AskedVideo>, Rejection> {
        let is_coded = |value: &HeaderValue| !value.as_bytes().eq_ignore_ascii_case(b"identity");
        if request.headers.get(CONTENT_ENCODING).is_some_and(is_coded) {
            return Err(Rejection::BadRequest("its body must have no content coding"));
        }
        let read = body.read_whole(&self.room).await;
        read.map_err(|fault| forward::blame_client(fault, permit.directory().max_body_bytes))?;
        let content_type =
            request.headers.get(CONTENT_TYPE).map(|value| value.to_str().unwrap_or("?").to_owned());
        let (ask, mut native) = read_whole(content_type, body.whole()).await?;
        exchange.note_model(Some(&native.model));
        if let Some(file) = &ask.file {
            let reference = self.stow(permit, route, request, &native.model, file, exchange).await?;
            native = unified::map(&ask.fields, Some(reference))?;
        }
        body.replace([native.body.clone()], Keep::Whole);
        *route = route.natively(Operation::Submit, native.path);
        head(request, &native);
        Ok(Arc::new(native.asked))
    }
}

/// Large bodies are read on another thread: that takes longer than others should wait.
async fn read_whole(content_type: Option<String>, body: Bytes) -> Result<(Ask, Native), Rejection> {
    let is_large = body.len() > MOST_AT_ONCE;
    let work = move || {
        let ask = Ask::read(content_type.as_deref(), &body)?;
        // What would be refused is refused before its file is stored.
        let somewhere = |file: &File| Reference { kind: file.format.kind, role: None, url: "oss://".into() };
        let native = unified::map(&ask.fields, ask.file.as_ref().map(somewhere))?;
        Ok::<_, unified::Fault>((ask, native))
    };
    let read = if is_large { tokio::task::spawn_blocking(work).await } else { Ok(work()) };
    Ok(read.map_err(|_| Rejection::BadRequest("its body can't be read"))??)
}

/// Another request of the same client, without what it said of its body.
pub(super) fn without_body(mut request: Box<Parts>, method: Method, uri: Uri) -> Box<Parts> {
    (request.method, request.uri) = (method, uri);
    for stale in [CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING, TE] {
        request.headers.remove(stale);
    }
    request
}

/// The head of a native submit. What the client said of its own body holds no more.
fn head(request: &mut Parts, native: &Native) {
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

/// Of a body that is read between two other requests: some ten microseconds.
const MOST_AT_ONCE: usize = 64 * 1024;

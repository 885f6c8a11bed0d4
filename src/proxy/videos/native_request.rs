//! Further native requests that a call of the unified dialect needs: a cancel, or an upload policy.

use std::rc::Rc;

use hyper::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, TE, TRANSFER_ENCODING};
use hyper::http::request::Parts;
use hyper::{Method, Uri};

use crate::proxy::exchange::Exchange;
use crate::proxy::passage::{Destination, Passage};
use crate::proxy::route::Route;
use crate::upstream::Upload;

/// A native request on behalf of the client. It has no body, so the fields that describe the client's body are removed.
pub(super) fn native_request(
    exchange: &Rc<Exchange>,
    route: Route,
    destination: Destination,
    mut request: Box<Parts>,
    method: Method,
    uri: Uri,
) -> Box<Passage> {
    (request.method, request.uri) = (method, uri);
    for stale in [CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING, TE] {
        request.headers.remove(stale);
    }
    let (exchange, body) = (Rc::clone(exchange), Upload::empty());
    Box::new(Passage {
        exchange,
        native: Some(route),
        destination,
        request,
        body,
        asked: None,
        webhook: None,
    })
}

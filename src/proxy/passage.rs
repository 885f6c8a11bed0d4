//! An authorized request on its way to the stages that send it.

use std::rc::Rc;
use std::sync::Arc;

use hyper::http::request::Parts;

use super::admit::permit::Permit;
use super::exchange::Exchange;
use super::route::Route;
use crate::unified::RequestedVideo;
use crate::upstream::Upload;

/// An authorized request, before it is rewritten. It is handed on in a box.
pub(super) struct Passage {
    pub exchange: Rc<Exchange>,
    /// The native call that a unified one became; if `None`, the exchange's own route is sent.
    pub native: Option<Route>,
    pub destination: Destination,
    pub request: Box<Parts>,
    pub body: Upload,
    /// Fields that the client asked for in a create of the unified dialect.
    pub asked: Option<Arc<RequestedVideo>>,
    /// The address that a submit names for a webhook.
    pub webhook: Option<Arc<str>>,
}

/// The accounts that a request may go to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Destination {
    /// The account that has the request's task; an index into the directory's accounts.
    Task(usize),
    /// The account that stores the request's files; an index into the directory's accounts.
    Files(usize),
    /// Any account of the tenant.
    Any,
}

impl Passage {
    pub(super) fn permit(&self) -> &Permit {
        self.exchange.permit()
    }

    pub(super) fn route(&self) -> &Route {
        self.native.as_ref().unwrap_or(self.exchange.route())
    }
}

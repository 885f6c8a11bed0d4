//! In the unified dialect: to object storage and back, without any key.

use std::rc::Rc;

use hyper::{Request, Response};

use super::Proxy;
use super::admit::Permit;
use super::exchange::Exchange;
use super::forward::{self, Failure};
use super::rejection::Rejection;
use super::video_fault::VideoFault;
use crate::telemetry::stopwatch::Awaited;
use crate::upstream::{ConnectFault, Download, Place, Upload};

impl Proxy {
    /// Sends a request to a place in storage, and waits for the beginning of its answer. Only one of which nothing was
    /// written, on a connection that had been idle, is sent again.
    ///
    /// # Errors
    /// `StorageRefused` where the host's name leads inside, else `StorageFailed`.
    pub(super) async fn reach(
        &self,
        permit: &Permit,
        exchange: &Exchange,
        place: &Place,
        request: Request<Upload>,
    ) -> Result<Response<Download>, Rejection> {
        let timeouts = permit.directory().timeouts;
        let mut request = Box::new(request);
        let progress = request.body().progress();
        let _answer = exchange.stopwatch.waiting(Awaited::Upstream);
        loop {
            let connected = self.upstream.storage(place, timeouts.connect).await;
            let mut connection = connected.map_err(|fault| {
                tracing::warn!(host = ?place.host, problem = fault.problem(), "storage can't be reached");
                let is_forbidden = matches!(fault, ConnectFault::Forbidden(_));
                if is_forbidden {
                    Rejection::Video(VideoFault::StorageRefused)
                } else {
                    Rejection::Video(VideoFault::StorageFailed)
                }
            })?;
            match forward::exchange(&mut connection, request, &progress, timeouts.upstream).await {
                Ok(response) => {
                    let progress = Rc::clone(&progress);
                    let body = |incoming| Download::new(incoming, connection, progress, timeouts.upstream);
                    return Ok(response.map(body));
                }
                Err(Failure::Unsent(unsent)) if connection.is_reused() => request = unsent,
                Err(Failure::Unsent(_) | Failure::Lost(_) | Failure::Timeout) => {
                    tracing::warn!(host = ?place.host, "no answer from storage");
                    return Err(Rejection::Video(VideoFault::StorageFailed));
                }
            }
        }
    }
}

//! One request to object storage and the beginning of its answer. No key is sent there.

use std::rc::Rc;

use hyper::{Request, Response};

use super::fault::VideoFault;
use crate::proxy::admit::permit::Permit;
use crate::proxy::exchange::Exchange;
use crate::proxy::rejection::Rejection;
use crate::proxy::send::forward::{self, Failure};
use crate::proxy::worker::Proxy;
use crate::telemetry::stopwatch::Awaited;
use crate::upstream::{ConnectFault, Download, StorageUrl, Upload};

/// Sends a request to a place in storage and waits for the beginning of its answer. A request is sent again only if a
/// connection that had been idle took no byte of it.
///
/// # Errors
/// `StorageRefused` if the host's name leads to an internal address, else `StorageFailed`.
pub(super) async fn send(
    proxy: &Proxy,
    permit: &Permit,
    exchange: &Exchange,
    place: &StorageUrl,
    request: Request<Upload>,
) -> Result<Response<Download>, Rejection> {
    let timeouts = permit.directory().settings.server.timeouts;
    let mut request = Box::new(request);
    let progress = request.body().progress();
    let _answer = exchange.stopwatch.start_waiting(Awaited::Upstream);
    loop {
        let connected = proxy.upstream.storage(place, timeouts.connect).await;
        let mut connection = connected.map_err(|fault| {
            tracing::warn!(host = ?place.host, problem = fault.problem(), "storage can't be reached");
            let is_forbidden = matches!(fault, ConnectFault::Forbidden(_));
            Rejection::from(if is_forbidden { VideoFault::StorageRefused } else { VideoFault::StorageFailed })
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
                return Err(VideoFault::StorageFailed.into());
            }
        }
    }
}

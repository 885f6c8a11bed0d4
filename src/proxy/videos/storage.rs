//! One request to object storage and the beginning of its answer. No key is sent there.

use hyper::{Request, Response};

use super::fault::VideoFault;
use crate::proxy::exchange::Exchange;
use crate::proxy::rejection::Rejection;
use crate::proxy::worker::Proxy;
use crate::telemetry::stopwatch::Awaited;
use crate::upstream::{ConnectFault, Download, SendFault, StorageUrl, Target, Upload};

/// Sends a request to a place in storage and waits for the beginning of its answer. A request is sent again only if a
/// connection that had been idle took no byte of it.
///
/// # Errors
/// `StorageRefused` if the host's name leads to an internal address, else `StorageFailed`.
pub(super) async fn send(
    proxy: &Proxy,
    exchange: &Exchange,
    place: &StorageUrl,
    request: Request<Upload>,
) -> Result<Response<Download>, Rejection> {
    let timeouts = &exchange.directory().settings.server.timeouts;
    let _answer = exchange.stopwatch.start_waiting(Awaited::Upstream);
    proxy.upstream.send(Target::Storage(place), Box::new(request), timeouts).await.map_err(
        |fault| match fault {
            SendFault::NotConnected { fault, .. } => {
                if fault.is_local() {
                    proxy.upstream.report_local_fault(&place.host, &fault);
                } else {
                    tracing::warn!(host = ?place.host, problem = %fault, "storage can't be reached");
                }
                let is_forbidden = matches!(fault, ConnectFault::Forbidden(_));
                Rejection::from(if is_forbidden {
                    VideoFault::StorageRefused
                } else {
                    VideoFault::StorageFailed
                })
            }
            SendFault::NotWritten(_) | SendFault::Lost { .. } | SendFault::TimedOut => {
                tracing::warn!(host = ?place.host, "no answer from storage");
                VideoFault::StorageFailed.into()
            }
        },
    )
}

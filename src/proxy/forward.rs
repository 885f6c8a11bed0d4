//! Stage 9: to the upstream and back.

use std::rc::Rc;
use std::time::Duration;

use hyper::header::TRANSFER_ENCODING;
use hyper::{Response, StatusCode};
use tokio::time::Instant;

use super::rejection::Rejection;
use super::rewrite::Outbound;
use super::route::Route;
use crate::account::Account;
use crate::upstream::{Connection, Download, Progress, Upload, UploadFault, Upstream};

/// Sends the request and waits for the head of its answer. Only a request of which nothing was written, on
/// a connection that had been idle, is sent again.
///
/// # Errors
/// `UpstreamUnreachable`, `UpstreamLost`, `UpstreamTimeout`; and what was wrong with the client's body:
/// `BodyTooLarge`, `ClientTimeout`, `BadRequest`.
pub(super) async fn forward(
    upstream: &Upstream,
    outbound: Outbound<'_>,
    patience: Duration,
    most_body_bytes: u64,
) -> Result<Response<Download>, Rejection> {
    let (mut request, account) = outbound.into_parts();
    let progress = request.body().progress();
    loop {
        let mut connection = connect(upstream, account).await?;
        let answer = exchange(&mut connection, request, &progress, patience).await;
        match answer {
            Ok(response) => {
                let body = |incoming| Download::new(incoming, connection, Rc::clone(&progress), patience);
                return Ok(response.map(body));
            }
            Err(Failure::Unsent(unsent)) if connection.is_reused() => request = *unsent,
            Err(failure) => return Err(blame(&failure, &progress, account, most_body_bytes)),
        }
    }
}

/// Whether the answer is one that can be passed on: in no protocol that nobody asked for, and in no transfer
/// coding that would be lost with the field that names it.
pub(super) fn is_readable(response: &Response<Download>, route: &Route) -> bool {
    let switches = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    let mut codings = response.headers().get_all(TRANSFER_ENCODING).iter();
    (!switches || route.operation.is_socket())
        && codings.all(|coding| coding.as_bytes().eq_ignore_ascii_case(b"chunked"))
}

async fn connect(upstream: &Upstream, account: &Account) -> Result<Connection, Rejection> {
    upstream.connection(account).await.map_err(|fault| {
        tracing::warn!(account = &*account.name, host = ?account.host, problem = fault.problem(), "upstream unreachable");
        Rejection::UpstreamUnreachable
    })
}

/// Why there is no answer.
enum Failure {
    /// Nothing was written.
    Unsent(Box<hyper::Request<Upload>>),
    Lost(hyper::Error),
    Timeout,
}

async fn exchange(
    connection: &mut Connection,
    request: hyper::Request<Upload>,
    progress: &Progress,
    patience: Duration,
) -> Result<Response<hyper::body::Incoming>, Failure> {
    let began = Instant::now();
    let deadline = || progress.last().max(began) + patience;
    let sending = connection.sender().try_send_request(request);
    tokio::pin!(sending);
    let sleep = tokio::time::sleep_until(deadline());
    tokio::pin!(sleep);
    loop {
        tokio::select! {
            biased;
            answer = &mut sending => {
                return answer.map_err(|mut error| match error.take_message() {
                    Some(request) => Failure::Unsent(Box::new(request)),
                    None => Failure::Lost(error.into_error()),
                });
            }
            () = &mut sleep => {
                // What was still going up was no silence of the upstream.
                if Instant::now() >= deadline() {
                    return Err(Failure::Timeout);
                }
                sleep.as_mut().reset(deadline());
            }
        }
    }
}

/// The client's body was at fault.
pub(super) fn blame_client(fault: UploadFault, most_body_bytes: u64) -> Rejection {
    match fault {
        UploadFault::TooLarge => Rejection::BodyTooLarge(most_body_bytes),
        UploadFault::Stalled => Rejection::ClientTimeout,
        UploadFault::Broken => Rejection::BadRequest("its body broke off or is not framed as HTTP demands"),
    }
}

/// Whose fault it was.
fn blame(failure: &Failure, progress: &Progress, account: &Account, most_body_bytes: u64) -> Rejection {
    if let Some(fault) = progress.fault() {
        return blame_client(fault, most_body_bytes);
    }
    let (rejection, problem) = match failure {
        Failure::Unsent(_) => {
            (Rejection::UpstreamUnreachable, "closed before the request was written".to_owned())
        }
        Failure::Lost(error) => (Rejection::UpstreamLost, error.to_string()),
        Failure::Timeout => (Rejection::UpstreamTimeout, "no answer within timeouts.upstream".to_owned()),
    };
    tracing::warn!(account = &*account.name, problem, "no answer from the upstream");
    rejection
}

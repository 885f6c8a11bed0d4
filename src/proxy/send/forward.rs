//! Stage 9: to the upstream and back.

use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use hyper::header::TRANSFER_ENCODING;
use hyper::{Response, StatusCode};
use tokio::time::Instant;

use super::rewrite::Outbound;
use crate::account::Account;
use crate::proxy::rejection::Rejection;
use crate::proxy::route::Route;
use crate::tenant::directory::Directory;
use crate::upstream::{ConnectFault, Connection, Download, Progress, Upload, Upstream};

/// Why there is no answer.
pub(in crate::proxy) enum NoAnswer {
    /// Nothing was sent, so the body is as it was.
    Unsent { body: Box<Upload>, reason: Unsent },
    /// `UpstreamLost`, `UpstreamTimeout`; and what was wrong with the client's body: `BodyTooLarge`,
    /// `ClientTimeout`, `BadRequest`.
    Rejected(Rejection),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::proxy) enum Unsent {
    /// By the account's fault, or that of the way there.
    Unreachable,
    /// There are as many connections as may be.
    Full,
}

/// Sends the request and waits for the head of its answer. Only a request of which nothing was written, on
/// a connection that had been idle, is sent again.
pub(in crate::proxy) async fn forward(
    upstream: &Upstream,
    outbound: Outbound<'_>,
    directory: &Directory,
) -> Result<Response<Download>, NoAnswer> {
    let (patience, most_body_bytes) =
        (directory.settings.server.timeouts.upstream, directory.settings.server.max_body_bytes);
    let (mut request, account) = outbound.into_parts();
    let progress = request.body().progress();
    loop {
        let mut connection =
            match connect(upstream, account, directory.settings.server.timeouts.connect).await {
                Ok(connection) => connection,
                Err(reason) => return Err(NoAnswer::Unsent { body: request.into_body().into(), reason }),
            };
        let answer = exchange(&mut connection, request, &progress, patience).await;
        match answer {
            Ok(response) => {
                let body = |incoming| Download::new(incoming, connection, Rc::clone(&progress), patience);
                return Ok(response.map(body));
            }
            Err(Failure::Unsent(unsent)) if connection.is_reused() => request = unsent,
            Err(Failure::Unsent(unsent)) => {
                tell_unreachable(account, "closed before the request was written");
                let body = unsent.into_body().into();
                return Err(NoAnswer::Unsent { body, reason: Unsent::Unreachable });
            }
            Err(Failure::Lost(error)) => {
                let lost = (Rejection::UpstreamLost, error.to_string());
                return Err(blame(lost, &progress, account, most_body_bytes));
            }
            Err(Failure::Timeout) => {
                let timeout = (Rejection::UpstreamTimeout, "no answer within timeouts.upstream".to_owned());
                return Err(blame(timeout, &progress, account, most_body_bytes));
            }
        }
    }
}

/// Whether the answer is one that can be passed on: in no protocol that nobody asked for, and in no transfer
/// coding that would be lost with the field that names it.
pub(in crate::proxy) fn is_readable(response: &Response<Download>, route: &Route) -> bool {
    let switches = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    let mut codings = response.headers().get_all(TRANSFER_ENCODING).iter();
    (!switches || route.operation.is_socket())
        && codings.all(|coding| coding.as_bytes().eq_ignore_ascii_case(b"chunked"))
}

async fn connect(upstream: &Upstream, account: &Account, patience: Duration) -> Result<Connection, Unsent> {
    upstream.connection(account, patience).await.map_err(|fault| {
        tell_unreachable(account, &fault.problem());
        match fault {
            ConnectFault::Full => Unsent::Full,
            ConnectFault::Address(_)
            | ConnectFault::Forbidden(_)
            | ConnectFault::Refused(_)
            | ConnectFault::Tls(_)
            | ConnectFault::Timeout => Unsent::Unreachable,
        }
    })
}

fn tell_unreachable(account: &Account, problem: &str) {
    let (account, host) = (&*account.name, &account.address.host);
    tracing::warn!(account, ?host, problem, "upstream unreachable");
}

pub(in crate::proxy) enum Failure {
    /// Nothing was written.
    Unsent(Box<hyper::Request<Upload>>),
    Lost(hyper::Error),
    Timeout,
}

/// One exchange of messages: given up when nothing was sent nor came for so long.
pub(in crate::proxy) async fn exchange(
    connection: &mut Connection,
    request: Box<hyper::Request<Upload>>,
    progress: &Progress,
    patience: Duration,
) -> Result<Response<hyper::body::Incoming>, Failure> {
    let began = Instant::now();
    let deadline = || progress.last().max(began) + patience;
    let mut sending = Box::pin(connection.sender().try_send_request(*request));
    let mut sleep = pin!(tokio::time::sleep_until(deadline()));
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

/// The upstream's fault, unless it was the client's.
fn blame(
    (rejection, problem): (Rejection, String),
    progress: &Progress,
    account: &Account,
    most_body_bytes: u64,
) -> NoAnswer {
    if let Some(fault) = progress.fault() {
        return NoAnswer::Rejected(Rejection::of_body(fault, most_body_bytes));
    }
    tracing::warn!(account = &*account.name, problem, "no answer from the upstream");
    NoAnswer::Rejected(rejection)
}

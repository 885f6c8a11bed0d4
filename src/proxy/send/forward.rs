//! Forwarding: sends a rewritten request to its account and waits for the head of the answer.

use hyper::header::TRANSFER_ENCODING;
use hyper::{Response, StatusCode};

use super::rewrite::Outbound;
use crate::account::Account;
use crate::proxy::rejection::Rejection;
use crate::proxy::route::Route;
use crate::tenant::directory::Directory;
use crate::upstream::{Download, SendFault, Target, Upload, Upstream};

/// Why there is no answer.
pub(super) enum NoAnswer {
    /// Nothing was sent, so the body is whole. `is_local`: the gateway has no room for one more connection; otherwise
    /// the account, or the way to it, is at fault.
    Unsent { body: Box<Upload>, is_local: bool },
    /// `UpstreamLost` or `UpstreamTimeout`; or the fault of the client's body: `BodyTooLarge`, `ClientTimeout`,
    /// `BadRequest`.
    Rejected(Rejection),
}

/// Sends the request and waits for the head of its answer.
pub(super) async fn forward(
    upstream: &Upstream,
    outbound: Outbound<'_>,
    directory: &Directory,
) -> Result<Response<Download>, NoAnswer> {
    let (request, account) = outbound.into_parts();
    let progress = request.body().progress();
    let server = &directory.settings.server;
    let (rejection, problem) = match upstream.send(Target::Account(account), request, &server.timeouts).await
    {
        Ok(response) => return Ok(response),
        Err(SendFault::NotConnected { request, fault }) => {
            let is_local = fault.is_local();
            if is_local {
                upstream.report_local_fault(&account.address.host, &fault);
            } else {
                tell_unreachable(account, &fault.to_string());
            }
            return Err(NoAnswer::Unsent { body: request.into_body().into(), is_local });
        }
        Err(SendFault::NotWritten(request)) => {
            tell_unreachable(account, "closed before the request was written");
            return Err(NoAnswer::Unsent { body: request.into_body().into(), is_local: false });
        }
        Err(SendFault::Lost { error, .. }) => (Rejection::UpstreamLost, error.to_string()),
        Err(SendFault::TimedOut) => {
            (Rejection::UpstreamTimeout, "no answer within timeouts.upstream".to_owned())
        }
    };
    if let Some(fault) = progress.fault() {
        return Err(NoAnswer::Rejected(Rejection::of_body(fault, server.max_body_bytes)));
    }
    tracing::warn!(account = &*account.name, problem, "no answer from the upstream");
    Err(NoAnswer::Rejected(rejection))
}

/// True if the answer can be passed on: it must not switch to a protocol that the client did not ask for, nor have a
/// transfer coding that would be lost with the field that names it.
pub(super) fn is_readable(response: &Response<Download>, route: &Route) -> bool {
    let switches = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    let mut codings = response.headers().get_all(TRANSFER_ENCODING).iter();
    (!switches || route.operation.is_socket())
        && codings.all(|coding| coding.as_bytes().eq_ignore_ascii_case(b"chunked"))
}

fn tell_unreachable(account: &Account, problem: &str) {
    let (account, host) = (&*account.name, &account.address.host);
    tracing::warn!(account, ?host, problem, "upstream unreachable");
}

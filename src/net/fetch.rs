//! One HTTP/1.1 request on a connection of its own, for the commands, the exporter of spans and webhooks.

use std::error::Error;
use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::http::response::Parts;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;

use super::authority;
use super::dial::{AddressRule, ConnectFault, Destination, Dialer};
use super::egress_proxy::EgressProxy;
use super::trust::ServerTls;

/// Sends a request to `host:port`, perhaps through a proxy, and reads the whole answer, whose body has `most_bytes` at
/// most.
///
/// # Errors
/// The reason why there is no whole answer.
pub async fn fetch(
    authority: &str,
    tls: Option<&ServerTls>,
    proxy: Option<&Arc<EgressProxy>>,
    request: Request<Full<Bytes>>,
    most_bytes: usize,
) -> Result<(StatusCode, Bytes), FetchFault> {
    let (host, port) = authority::split(authority).unwrap_or((authority, None));
    let port = port.unwrap_or(if tls.is_some() { 443 } else { 80 });
    let (tls, proxy) = (tls.cloned(), proxy.cloned());
    let to = Destination { host: host.into(), port, tls, proxy, rule: AddressRule::Any };
    let read = async |answer: Response<Incoming>| {
        let status = answer.status();
        let body = Limited::new(answer.into_body(), most_bytes).collect().await;
        let body = body.map_err(|error| match error.downcast::<LengthLimitError>() {
            Ok(_) => FetchCause::TooLarge(most_bytes),
            Err(error) => FetchCause::Broken(error),
        });
        Ok((status, body?.to_bytes()))
    };
    let answer = ask(&Dialer::default(), &to, request, ANSWER_TIMEOUT, read).await;
    answer.map_err(|cause| FetchFault { authority: authority.into(), cause })
}

/// Sends a request over a connection of its own, and reads the head of the answer, within `patience`.
///
/// # Errors
/// The reason why there is no answer.
pub async fn head(
    dialer: &Dialer,
    to: &Destination,
    request: Request<Full<Bytes>>,
    patience: Duration,
) -> Result<Parts, FetchFault> {
    let answer = ask(dialer, to, request, patience, async |answer| Ok(answer.into_parts().0)).await;
    answer.map_err(|cause| FetchFault { authority: to.host.clone(), cause })
}

/// Sends a request over a connection of its own, and has `read` take from the answer what is wanted, all within `patience`.
async fn ask<T>(
    dialer: &Dialer,
    to: &Destination,
    request: Request<Full<Bytes>>,
    patience: Duration,
    read: impl AsyncFnOnce(Response<Incoming>) -> Result<T, FetchCause>,
) -> Result<T, FetchCause> {
    let broken = |error: hyper::Error| FetchCause::Broken(error.into());
    let exchange = async {
        let stream = dialer.connect(to, patience).await.map_err(FetchCause::NotConnected)?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        let mut wanted = pin!(async { read(sender.send_request(request).await.map_err(broken)?).await });
        // The connection is driven until all that is wanted has come, and then dropped with the rest of the answer. It may
        // end in the poll that brings the last of it. Where nothing came, the sender of the request knows why.
        tokio::select! {
            biased;
            wanted = &mut wanted => wanted,
            _ = connection => wanted.await,
        }
    };
    tokio::time::timeout(patience, exchange).await.unwrap_or(Err(FetchCause::Silent(patience)))
}

/// A request without a whole answer.
#[derive(Debug)]
pub struct FetchFault {
    authority: Box<str>,
    cause: FetchCause,
}

#[derive(Debug)]
enum FetchCause {
    NotConnected(ConnectFault),
    Broken(Box<dyn Error + Send + Sync>),
    TooLarge(usize),
    /// The peer was silent for this time.
    Silent(Duration),
}

impl fmt::Display for FetchFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let authority = &self.authority;
        match &self.cause {
            FetchCause::Broken(error) => write!(f, "{authority} gave no HTTP answer: {error}"),
            FetchCause::TooLarge(most) => write!(f, "{authority} answered with more than {most} bytes"),
            FetchCause::Silent(patience) => {
                write!(f, "{authority} did not answer within {} s", patience.as_secs())
            }
            FetchCause::NotConnected(ConnectFault::Timeout) => {
                write!(f, "{authority} was not reached in time")
            }
            FetchCause::NotConnected(ConnectFault::Tls(error)) => {
                write!(f, "TLS with {authority} failed: {error}")
            }
            FetchCause::NotConnected(fault) => write!(f, "{authority} can't be reached: {fault}"),
        }
    }
}

impl Error for FetchFault {}

/// Bytes of an answer of which little is read.
pub const SHORT_ANSWER: usize = 64 * 1024;
/// Bytes of an answer that is a page of a list, or a file.
pub const LONG_ANSWER: usize = 16 * 1024 * 1024;
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

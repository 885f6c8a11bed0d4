//! One HTTP/1.1 request on a connection of its own, for commands that talk to a gateway.

use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::stream::Stream;

/// Verification of the server, and the name that its certificate must have.
pub type Tls = (Arc<ClientConfig>, ServerName<'static>);

/// Sends a request to `host:port` and reads the whole answer.
///
/// # Errors
/// The reason why there is no whole answer.
pub async fn fetch(
    authority: &str,
    tls: Option<&Tls>,
    request: Request<Full<Bytes>>,
) -> Result<(StatusCode, Bytes), FetchFault> {
    let because = |cause| FetchFault { authority: authority.into(), cause };
    let broken = |error| because(FetchCause::Broken(error));
    let exchange = async {
        let stream =
            TcpStream::connect(authority).await.map_err(|error| because(FetchCause::Unreachable(error)))?;
        let stream = match tls {
            None => Stream::Plain(stream),
            Some((config, name)) => {
                let connector = TlsConnector::from(Arc::clone(config));
                let stream = connector.connect(name.clone(), stream).await;
                Stream::Tls(Box::new(stream.map_err(|error| because(FetchCause::Distrusted(error)))?.into()))
            }
        };
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        let answer = async move {
            let response = sender.send_request(request).await?;
            let status = response.status();
            Ok::<_, hyper::Error>((status, response.into_body().collect().await?.to_bytes()))
        };
        tokio::join!(answer, connection).0.map_err(broken)
    };
    tokio::time::timeout(ANSWER_TIMEOUT, exchange).await.unwrap_or_else(|_| Err(because(FetchCause::Silent)))
}

/// A request without a whole answer.
#[derive(Debug)]
pub struct FetchFault {
    authority: Box<str>,
    cause: FetchCause,
}

#[derive(Debug)]
enum FetchCause {
    Unreachable(io::Error),
    Distrusted(io::Error),
    Broken(hyper::Error),
    Silent,
}

impl fmt::Display for FetchFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let authority = &self.authority;
        match &self.cause {
            FetchCause::Unreachable(error) => write!(f, "{authority} can't be reached: {error}"),
            FetchCause::Distrusted(error) => write!(f, "TLS with {authority} failed: {error}"),
            FetchCause::Broken(error) => write!(f, "{authority} gave no HTTP answer: {error}"),
            FetchCause::Silent => {
                write!(f, "{authority} did not answer within {} s", ANSWER_TIMEOUT.as_secs())
            }
        }
    }
}

impl Error for FetchFault {}

const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

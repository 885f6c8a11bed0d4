//! WebSockets: a handshake with the swapped key, then raw bytes both ways.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use hyper::Response;
use hyper::header::{CONNECTION, HeaderValue, UPGRADE};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::exchange::{Exchange, Outcome};
use crate::upstream::Download;

/// Joins the two connections and answers the client's handshake. The future that comes with the answer
/// carries the bytes; it must be spawned. When one side has closed, the other has some patience to follow.
pub(super) fn open(
    client: OnUpgrade,
    mut response: Response<Download>,
    exchange: &Rc<Exchange>,
    patience: Duration,
) -> (Response<Bytes>, impl Future<Output = ()> + use<>) {
    let upstream = hyper::upgrade::on(&mut response);
    let (mut parts, download) = response.into_parts();
    download.detach();
    parts.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    parts.headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    let exchange = Rc::clone(exchange);
    let carry = async move {
        let both = async { tokio::join!(client, upstream) };
        let Ok((Ok(client), Ok(upstream))) = timeout(HANDSHAKE, both).await else {
            return;
        };
        let (client_sends, client_gets) = tokio::io::split(TokioIo::new(client));
        let (upstream_sends, upstream_gets) = tokio::io::split(TokioIo::new(upstream));
        let mut up = std::pin::pin!(carry(client_sends, upstream_gets));
        let mut down = std::pin::pin!(carry(upstream_sends, client_gets));
        // However it ends, both sides are closed then, and that is all there is to tell them.
        let talk = async {
            tokio::select! {
                ended = &mut up => if ended.is_ok() {
                    let _ = timeout(patience, down).await;
                },
                ended = &mut down => if ended.is_ok() {
                    let _ = timeout(patience, up).await;
                },
            }
        };
        tokio::select! {
            () = talk => exchange.outcome.set(Outcome::Tunnelled),
            _ = exchange.is_cut() => {}
        }
    };
    (Response::from_parts(parts, Bytes::new()), carry)
}

/// One direction, to its end and the close that tells of it.
async fn carry(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) -> io::Result<()> {
    tokio::io::copy(&mut from, &mut to).await?;
    to.shutdown().await
}

/// From the upstream's consent to the two raw connections.
const HANDSHAKE: Duration = Duration::from_secs(10);

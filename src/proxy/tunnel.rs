//! WebSockets: a handshake with the swapped key, then raw bytes both ways.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use hyper::Response;
use hyper::header::{CONNECTION, HeaderValue, UPGRADE};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use super::exchange::{Exchange, Outcome};
use crate::upstream::Download;

/// Joins the two connections and answers the client's handshake. The future that comes with the answer
/// carries the bytes; it must be spawned.
pub(super) fn open(
    client: OnUpgrade,
    mut response: Response<Download>,
    exchange: &Rc<Exchange>,
) -> (Response<Bytes>, impl Future<Output = ()> + use<>) {
    let upstream = hyper::upgrade::on(&mut response);
    let (mut parts, download) = response.into_parts();
    download.detach();
    parts.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    parts.headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    let exchange = Rc::clone(exchange);
    let carry = async move {
        let both = async { tokio::join!(client, upstream) };
        let Ok((Ok(client), Ok(upstream))) = tokio::time::timeout(HANDSHAKE, both).await else {
            return;
        };
        let (mut client, mut upstream) = (TokioIo::new(client), TokioIo::new(upstream));
        tokio::select! {
            // However it ended, both sides are closed now, and that is all there is to tell them.
            _ = tokio::io::copy_bidirectional(&mut client, &mut upstream) => {
                exchange.outcome.set(Outcome::Tunnelled);
            }
            _ = exchange.is_cut() => {}
        }
    };
    (Response::from_parts(parts, Bytes::new()), carry)
}

/// From the upstream's consent to the two raw connections.
const HANDSHAKE: Duration = Duration::from_secs(10);

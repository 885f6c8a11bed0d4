//! A client that speaks HTTP/2 with prior knowledge.

use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::header::HeaderMap;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};

/// Sends one request on a connection of its own; returns the answer and its trailers.
pub(crate) fn ask(address: SocketAddr, request: Request<&'static str>) -> (Response<Bytes>, HeaderMap) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(address).await.expect("a connection");
        let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
        let (mut sender, connection) = handshake.await.expect("HTTP/2");
        tokio::spawn(connection);
        let request = request.map(|body| Full::new(Bytes::from_static(body.as_bytes())));
        let answer = sender.send_request(request).await.expect("an answer");
        let (parts, body) = answer.into_parts();
        let whole = body.collect().await.expect("a whole answer");
        let trailers = whole.trailers().cloned().unwrap_or_default();
        (Response::from_parts(parts, whole.to_bytes()), trailers)
    })
}

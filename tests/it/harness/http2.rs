//! A client that speaks HTTP/2 with prior knowledge.

use std::io::{ErrorKind, Read};
use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::header::HeaderMap;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::Client;

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

/// A client that writes each frame itself (RFC 9113, 4.1).
pub(crate) struct FrameClient(Client);

/// A frame that the gateway sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReceivedFrame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl FrameClient {
    pub(crate) const DATA: u8 = 0;
    pub(crate) const HEADERS: u8 = 1;
    pub(crate) const RST_STREAM: u8 = 3;
    const SETTINGS: u8 = 4;
    const PING: u8 = 6;
    pub(crate) const GOAWAY: u8 = 7;
    const WINDOW_UPDATE: u8 = 8;
    pub(crate) const END_STREAM: u8 = 1;
    const ACK: u8 = 1;
    const END_HEADERS: u8 = 4;
    const INITIAL_WINDOW_SIZE: u16 = 4;

    /// Connects, and grants each stream a window of this many bytes.
    pub(crate) fn connect(address: SocketAddr, window: u32) -> Self {
        let mut client = Self(Client::connect(address));
        client.0.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        let setting = [&Self::INITIAL_WINDOW_SIZE.to_be_bytes()[..], &window.to_be_bytes()].concat();
        client.send(Self::SETTINGS, 0, 0, &setting);
        client.send(Self::SETTINGS, Self::ACK, 0, &[]);
        client
    }

    pub(crate) fn stream(&mut self) -> &std::net::TcpStream {
        self.0.stream()
    }

    pub(crate) fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).expect("a length").to_be_bytes();
        let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
        self.0.send([&head, payload].concat());
    }

    /// Sends the head of a request; `has_body`: DATA frames follow.
    pub(crate) fn request(&mut self, stream: u32, method: &str, path: &str, key: &str, has_body: bool) {
        let bearer = format!("Bearer {key}");
        let fields = [
            (":method", method),
            (":scheme", "http"),
            (":path", path),
            (":authority", "gateway"),
            ("authorization", &bearer),
        ];
        let mut block = Vec::new();
        for (name, value) in fields {
            // A literal field without indexing (RFC 7541, 6.2.2), its strings shorter than 127 bytes.
            block.push(0);
            for text in [name, value] {
                block.push(u8::try_from(text.len()).ok().filter(|length| *length < 127).expect("short"));
                block.extend(text.bytes());
            }
        }
        let flags = Self::END_HEADERS | if has_body { 0 } else { Self::END_STREAM };
        self.send(Self::HEADERS, flags, stream, &block);
    }

    pub(crate) fn widen(&mut self, stream: u32, bytes: u32) {
        self.send(Self::WINDOW_UPDATE, 0, stream, &bytes.to_be_bytes());
    }

    /// The next frame; `None` when the gateway has closed.
    pub(crate) fn frame(&mut self) -> Option<ReceivedFrame> {
        let mut head = [0; 9];
        if let Err(error) = self.0.reader().read_exact(&mut head) {
            assert!(
                matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset),
                "not closed: {error}"
            );
            return None;
        }
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let payload = self.0.bytes(usize::try_from(length).expect("a length"));
        Some(ReceivedFrame { kind: head[3], flags: head[4], stream, payload })
    }

    /// The next frame of this stream.
    pub(crate) fn frame_of(&mut self, stream: u32) -> ReceivedFrame {
        loop {
            let frame = self.frame().expect("a frame before the close");
            if frame.stream == stream {
                return frame;
            }
        }
    }

    /// Frames of streams that come before the answer to a PING.
    pub(crate) fn frames_until_pong(&mut self) -> Vec<ReceivedFrame> {
        self.send(Self::PING, 0, 0, &[7; 8]);
        let mut frames = Vec::new();
        loop {
            let frame = self.frame().expect("a frame before the close");
            if frame.kind == Self::PING && frame.flags == Self::ACK {
                return frames;
            }
            if frame.stream > 0 && frame.kind != Self::WINDOW_UPDATE {
                frames.push(frame);
            }
        }
    }

    /// Reads until the gateway closes.
    pub(crate) fn wait_for_close(&mut self) -> Vec<ReceivedFrame> {
        std::iter::from_fn(|| self.frame()).collect()
    }
}

//! The client's side of a connection, as the proxy knows it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

use crate::tenant::certificate::ClientCertificate;

/// The peer of a connection. `server` makes one for each connection.
#[derive(Debug, Clone)]
pub struct Peer {
    pub address: SocketAddr,
    pub connection: Arc<ConnectionState>,
    /// The certificate of the client's TLS handshake.
    pub certificate: Option<Arc<ClientCertificate>>,
}

/// State that a connection's byte stream and its exchanges share.
#[derive(Debug, Default)]
pub struct ConnectionState {
    exchanges: AtomicU32,
    tunnelled: AtomicBool,
    fault: AtomicU8,
    aborted: Notify,
    hurried: AtomicBool,
    awaits_chunks: AtomicBool,
}

impl ConnectionState {
    /// Counts an exchange that runs on this connection: silence meanwhile is not idleness.
    pub fn enter(&self) {
        self.exchanges.fetch_add(1, Ordering::Relaxed);
    }

    pub fn leave(&self) {
        self.exchanges.fetch_sub(1, Ordering::Relaxed);
    }

    /// Records that a WebSocket handshake succeeded: all further bytes are not HTTP.
    pub fn become_tunnel(&self) {
        self.tunnelled.store(true, Ordering::Relaxed);
    }

    pub fn is_tunnel(&self) -> bool {
        self.tunnelled.load(Ordering::Relaxed)
    }

    pub fn is_busy(&self) -> bool {
        self.exchanges.load(Ordering::Relaxed) > 0
    }

    /// Records whether a chunked body has begun and not ended.
    pub fn await_chunks(&self, awaits: bool) {
        self.awaits_chunks.store(awaits, Ordering::Relaxed);
    }

    pub fn awaits_chunks(&self) -> bool {
        self.awaits_chunks.load(Ordering::Relaxed)
    }

    /// Shortens the time that the client may take, because the process stops.
    pub fn hurry(&self) {
        self.hurried.store(true, Ordering::Relaxed);
    }

    /// Time for which the client may take no byte of an answer.
    pub fn patience(&self, usual: Duration) -> Duration {
        if self.hurried.load(Ordering::Relaxed) { usual.min(LEAVE_PATIENCE) } else { usual }
    }

    /// Closes the connection at once, with all that runs on it.
    pub fn abort(&self) {
        self.aborted.notify_one();
    }

    /// Waits for [`ConnectionState::abort`].
    pub async fn aborted(&self) {
        self.aborted.notified().await;
    }

    /// Records that the next bytes on the wire are no request that may be read.
    pub fn refuse_head(&self, fault: HeadFault) {
        self.fault.store(fault as u8 + 1, Ordering::Relaxed);
    }

    pub fn head_fault(&self) -> Option<HeadFault> {
        let noted = usize::from(self.fault.load(Ordering::Relaxed));
        noted.checked_sub(1).and_then(|at| HeadFault::ALL.get(at).copied())
    }
}

/// Longest time for which a connection may make no progress when it is to close.
pub const LEAVE_PATIENCE: Duration = Duration::from_secs(5);

/// Method that replaces a head which was refused below the parser; see `server::checked_stream`.
pub const REFUSED_METHOD: &str = "DASHGATE-REFUSED";

/// Why a request's head is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum HeadFault {
    Slow,
    TooLarge,
    TooManyFields,
    BareLineFeed,
    ControlCharacter,
    RequestLine,
    FieldLine,
    ContentLength,
    TransferEncoding,
    TwoLengths,
    /// The client speaks cleartext on a TLS port.
    Cleartext,
}

impl HeadFault {
    const ALL: [HeadFault; 11] = [
        HeadFault::Slow,
        HeadFault::TooLarge,
        HeadFault::TooManyFields,
        HeadFault::BareLineFeed,
        HeadFault::ControlCharacter,
        HeadFault::RequestLine,
        HeadFault::FieldLine,
        HeadFault::ContentLength,
        HeadFault::TransferEncoding,
        HeadFault::TwoLengths,
        HeadFault::Cleartext,
    ];

    pub const fn problem(self) -> &'static str {
        match self {
            HeadFault::Slow => "the request's head did not arrive in time",
            HeadFault::TooLarge => "the request's head is larger than 64 KiB",
            HeadFault::TooManyFields => "the request has more than 100 header fields",
            HeadFault::BareLineFeed => "a line of the request's head does not end in CR LF",
            HeadFault::ControlCharacter => "the request's head holds a control character",
            HeadFault::RequestLine => "the request line is not `METHOD target HTTP/1.1`",
            HeadFault::FieldLine => "a header field is not `name: value` on one line",
            HeadFault::ContentLength => "Content-Length is not one number",
            HeadFault::TransferEncoding => "Transfer-Encoding is not `chunked` alone",
            HeadFault::TwoLengths => "Content-Length and Transfer-Encoding come together",
            HeadFault::Cleartext => "this port speaks TLS: write https:// or wss://",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_survives_the_line() {
        for fault in HeadFault::ALL {
            let line = ConnectionState::default();
            assert_eq!(line.head_fault(), None);
            line.refuse_head(fault);
            assert_eq!(line.head_fault(), Some(fault));
        }
    }
}

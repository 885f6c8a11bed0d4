//! TLS handshakes, bounded in time and number. An unfinished handshake costs a socket and some KiB. When too many run,
//! the oldest is given up for the newest, so that a flood of handshakes that never finish keeps out no client that does
//! finish.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;

use crate::net::stream::Stream;

/// Handshakes that run on one thread, by the order of their start.
#[derive(Debug, Default)]
pub struct Handshakes {
    started: Cell<u64>,
    /// Dropping a sender ends its handshake.
    running: RefCell<BTreeMap<u64, oneshot::Sender<()>>>,
}

/// Result of a new connection's handshake.
#[derive(Debug)]
pub enum HandshakeOutcome {
    Established {
        stream: Stream,
        /// Verified certificates of the client, its own first.
        certificates: Vec<CertificateDer<'static>>,
    },
    /// The client speaks cleartext on a TLS port. None of its bytes were read.
    Cleartext(TcpStream),
}

impl HandshakeOutcome {
    /// A connection without TLS.
    pub fn plain(stream: TcpStream) -> Self {
        HandshakeOutcome::Established { stream: Stream::Plain(stream), certificates: Vec::new() }
    }
}

impl Handshakes {
    /// Does the handshake; `None` if the client left, failed, was too slow, or was given up for a newer one.
    pub async fn accept(
        &self,
        stream: TcpStream,
        server: Arc<ServerConfig>,
        limit: Duration,
    ) -> Option<HandshakeOutcome> {
        let (running, evicted) = self.register();
        let outcome = tokio::select! {
            outcome = tokio::time::timeout(limit, accept(stream, server)) => outcome,
            _ = evicted => {
                tracing::debug!("a TLS handshake was given up for a newer one: {MOST_RUNNING} run already");
                return None;
            }
        };
        drop(running);
        match outcome {
            Ok(Ok(outcome)) => Some(outcome),
            Ok(Err(error)) => {
                tracing::debug!(%error, "a TLS handshake failed");
                None
            }
            Err(_) => {
                tracing::debug!("a TLS handshake did not end in time");
                None
            }
        }
    }

    fn register(&self) -> (RunningHandshake<'_>, oneshot::Receiver<()>) {
        let number = self.started.get();
        self.started.set(number + 1);
        let (sender, evicted) = oneshot::channel();
        let mut running = self.running.borrow_mut();
        if running.len() >= MOST_RUNNING {
            running.pop_first();
        }
        running.insert(number, sender);
        (RunningHandshake { handshakes: self, number }, evicted)
    }
}

/// Registration of one handshake, until it is dropped.
struct RunningHandshake<'a> {
    handshakes: &'a Handshakes,
    number: u64,
}

impl Drop for RunningHandshake<'_> {
    fn drop(&mut self) {
        self.handshakes.running.borrow_mut().remove(&self.number);
    }
}

async fn accept(stream: TcpStream, server: Arc<ServerConfig>) -> io::Result<HandshakeOutcome> {
    let mut first = [0];
    if stream.peek(&mut first).await? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    // A TLS record begins with its type, 22 (RFC 8446, 5.1); an HTTP request with letters.
    if first[0].is_ascii_graphic() || first[0].is_ascii_whitespace() {
        return Ok(HandshakeOutcome::Cleartext(stream));
    }
    let stream = TlsAcceptor::from(server).accept(stream).await?;
    let presented = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let certificates = presented.iter().map(|one| one.clone().into_owned()).collect();
    Ok(HandshakeOutcome::Established { stream: Stream::Tls(Box::new(stream.into())), certificates })
}

/// Most handshakes of one thread. Connections that have sent nothing hold no TLS state yet.
const MOST_RUNNING: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_makes_room() {
        let handshakes = Handshakes::default();
        let mut first: Vec<_> = (0..MOST_RUNNING).map(|_| handshakes.register()).collect();
        let (_running, mut newest) = handshakes.register();
        assert!(first[0].1.try_recv().is_err_and(|error| error == oneshot::error::TryRecvError::Closed));
        for (_, evicted) in &mut first[1..] {
            assert_eq!(evicted.try_recv(), Err(oneshot::error::TryRecvError::Empty));
        }
        assert_eq!(newest.try_recv(), Err(oneshot::error::TryRecvError::Empty));
        drop(first);
        assert_eq!(handshakes.running.borrow().len(), 1);
    }
}

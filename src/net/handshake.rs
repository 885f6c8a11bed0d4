//! TLS handshakes, bounded in time and number. A client that has not finished one costs a socket and some KiB, and
//! there are only so many of them: the one that has taken longest makes room for the next, so that a flood of those
//! that never finish keeps out nobody who does.

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

/// The handshakes that run on one thread, by when they began.
#[derive(Debug, Default)]
pub struct Handshakes {
    begun: Cell<u64>,
    /// Dropped, its handshake ends.
    running: RefCell<BTreeMap<u64, oneshot::Sender<()>>>,
}

/// What came of a new connection.
#[derive(Debug)]
pub enum Shaken {
    Ready {
        stream: Stream,
        /// What the client presented, its own first; verified.
        certificates: Vec<CertificateDer<'static>>,
    },
    /// The client speaks cleartext where it should not; nothing of it was read.
    Cleartext(TcpStream),
}

impl Shaken {
    /// A connection without TLS.
    pub fn plain(stream: TcpStream) -> Self {
        Shaken::Ready { stream: Stream::Plain(stream), certificates: Vec::new() }
    }
}

impl Handshakes {
    /// Shakes hands; `None` if the client left, failed, was too slow, or had to make room for others.
    pub async fn shake(
        &self,
        stream: TcpStream,
        server: Arc<ServerConfig>,
        patience: Duration,
    ) -> Option<Shaken> {
        let (place, pushed_out) = self.enter();
        let shaken = tokio::select! {
            shaken = tokio::time::timeout(patience, shake(stream, server)) => shaken,
            _ = pushed_out => {
                tracing::debug!("a TLS handshake was given up for a newer one: {MOST} run already");
                return None;
            }
        };
        drop(place);
        match shaken {
            Ok(Ok(shaken)) => Some(shaken),
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

    fn enter(&self) -> (Place<'_>, oneshot::Receiver<()>) {
        let number = self.begun.get();
        self.begun.set(number + 1);
        let (stays, pushed_out) = oneshot::channel();
        let mut running = self.running.borrow_mut();
        if running.len() >= MOST {
            running.pop_first();
        }
        running.insert(number, stays);
        (Place { handshakes: self, number }, pushed_out)
    }
}

/// One of the handshakes that may run, until it is dropped.
struct Place<'a> {
    handshakes: &'a Handshakes,
    number: u64,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.handshakes.running.borrow_mut().remove(&self.number);
    }
}

async fn shake(stream: TcpStream, server: Arc<ServerConfig>) -> io::Result<Shaken> {
    let mut first = [0];
    if stream.peek(&mut first).await? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    // A TLS record begins with its type, 22 (RFC 8446, 5.1); an HTTP request with letters.
    if first[0].is_ascii_graphic() || first[0].is_ascii_whitespace() {
        return Ok(Shaken::Cleartext(stream));
    }
    let stream = TlsAcceptor::from(server).accept(stream).await?;
    let presented = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let certificates = presented.iter().map(|one| one.clone().into_owned()).collect();
    Ok(Shaken::Ready { stream: Stream::Tls(Box::new(stream.into())), certificates })
}

/// Of one thread. Those that have sent nothing hold no TLS state yet.
const MOST: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_makes_room() {
        let handshakes = Handshakes::default();
        let mut first: Vec<_> = (0..MOST).map(|_| handshakes.enter()).collect();
        let (_place, mut newest) = handshakes.enter();
        assert!(first[0].1.try_recv().is_err_and(|error| error == oneshot::error::TryRecvError::Closed));
        for (_, pushed_out) in &mut first[1..] {
            assert_eq!(pushed_out.try_recv(), Err(oneshot::error::TryRecvError::Empty));
        }
        assert_eq!(newest.try_recv(), Err(oneshot::error::TryRecvError::Empty));
        drop(first);
        assert_eq!(handshakes.running.borrow().len(), 1);
    }
}

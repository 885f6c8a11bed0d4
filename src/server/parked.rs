//! Where a connection lies that waits for its next request: a socket and when it fell silent. hyper, whose buffers a
//! silent connection has no use for, is taken leave of, and comes back with the first byte.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, timeout, timeout_at};

use super::wire::Patience;
use crate::net::stream::Stream;

/// One connection's.
#[derive(Debug)]
pub(super) struct Berth<S>(Mutex<Option<Idle<S>>>);

/// A connection that waits.
#[derive(Debug)]
pub(super) struct Idle<S> {
    pub(super) stream: S,
    pub(super) since: Instant,
}

impl<S> Default for Berth<S> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<S> Berth<S> {
    pub(super) fn put(&self, idle: Idle<S>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).replace(idle);
    }

    /// The connection, if it has berthed.
    pub(super) fn take(&self) -> Option<Idle<S>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Idle<Stream> {
    /// Waits for bytes of the client; false if they did not come in time.
    pub(super) async fn stirs(&self, patience: Patience) -> bool {
        matches!(timeout_at(self.since + patience.idle, self.stream.readable()).await, Ok(Ok(())))
    }

    /// Ends it in the way of its protocol.
    pub(super) async fn close(mut self) {
        // A client that does not take even that has it dropped.
        let _ = timeout(LEAVE, self.stream.shutdown()).await;
    }
}

/// What a connection holds while it waits, and what it costs to be read again, are a trade: this is longer than a busy
/// client's pauses.
pub(super) const BEFORE_BERTH: Duration = Duration::from_secs(1);
const LEAVE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;
    use crate::proxy::peer::ConnectionState;
    use crate::server::wire::Wire;

    const PATIENCE: Patience = Patience { head: Duration::from_secs(9), idle: Duration::from_secs(30) };

    fn connected() -> (Wire<DuplexStream>, DuplexStream, Arc<ConnectionState>) {
        let (near, far) = duplex(1024);
        let line = Arc::new(ConnectionState::default());
        (Wire::new(near, Arc::clone(&line), PATIENCE), far, line)
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_silent_berths_and_is_read_again() {
        let (mut wire, mut far, line) = connected();
        let request = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
        let mut read = [0; 100];
        for _ in 0..2 {
            let berth = wire.berth();
            far.write_all(request).await.expect("written");
            assert_eq!(wire.read(&mut read).await.expect("a request"), request.len());
            let began = Instant::now();
            assert_eq!(wire.read(&mut read).await.expect("an end"), 0, "to hyper it has ended");
            assert_eq!(began.elapsed().as_secs(), BEFORE_BERTH.as_secs());
            let idle = berth.take().expect("it has berthed");
            assert!(idle.since <= began && berth.take().is_none());
            wire.shutdown().await.expect("nothing is shut");
            wire = Wire::again(idle, Arc::clone(&line), PATIENCE);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_owes_something_or_is_owed_it_does_not_berth() {
        let mut read = [0; 100];
        // The rest of a head, and of a body.
        for (part, ends_after) in [("GET / HT", 9), ("POST / HTTP/1.1\r\ncontent-length: 9\r\n\r\n", 30)] {
            let (mut wire, mut far, _line) = connected();
            let berth = wire.berth();
            far.write_all(part.as_bytes()).await.expect("written");
            let quiet = timeout(Duration::from_secs(ends_after - 1), async {
                while wire.read(&mut read).await.is_ok_and(|bytes| bytes > 0) {}
            });
            assert!(quiet.await.is_err() && berth.take().is_none(), "{part:?}");
        }
        let (mut wire, mut far, line) = connected();
        let berth = wire.berth();
        far.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.expect("written");
        assert!(wire.read(&mut read).await.expect("a request") > 0);
        line.enter();
        assert!(
            timeout(Duration::from_secs(60), wire.read(&mut read)).await.is_err(),
            "its answer is on its way"
        );
        line.leave();
        assert!(berth.take().is_none());
    }

    /// As hyper does: it asks for more while the exchange runs, and then only when it is woken.
    #[tokio::test(start_paused = true)]
    async fn the_end_of_an_exchange_is_noticed() {
        let (mut wire, mut far, line) = connected();
        let berth = wire.berth();
        far.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.expect("written");
        let mut read = [0; 100];
        assert!(wire.read(&mut read).await.expect("a request") > 0);
        line.enter();
        let more = tokio::spawn(async move { wire.read(&mut read).await });
        tokio::time::sleep(Duration::from_millis(10)).await;
        line.leave();
        let began = Instant::now();
        assert_eq!(more.await.expect("no panic").expect("an end"), 0);
        assert!(began.elapsed() <= 3 * BEFORE_BERTH && berth.take().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn who_was_idle_for_too_long_is_given_up() {
        let (wire, _far, line) = connected();
        let berth = wire.berth();
        let since = Instant::now() - PATIENCE.idle;
        let idle = Idle { stream: duplex(1).0, since };
        let mut wire = Wire::again(idle, line, PATIENCE);
        assert_eq!(wire.read(&mut [0; 9]).await.expect("an end"), 0);
        assert!(berth.take().is_none());
    }
}

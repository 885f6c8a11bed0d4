//! Parking of connections that wait for their next request.

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::timeout;

use super::*;

const TIMEOUTS: ClientTimeouts =
    ClientTimeouts { head: Duration::from_secs(9), idle: Duration::from_secs(30) };

fn connected() -> (CheckedStream<DuplexStream>, DuplexStream, Arc<ConnectionState>) {
    let (near, far) = duplex(1024);
    let state = Arc::new(ConnectionState::default());
    (CheckedStream::new(near, Arc::clone(&state), TIMEOUTS), far, state)
}

#[tokio::test(start_paused = true)]
async fn who_is_silent_is_parked_and_is_read_again() {
    let (mut stream, mut far, state) = connected();
    let request = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    let mut read = [0; 100];
    for _ in 0..2 {
        let parking = stream.parking();
        far.write_all(request).await.expect("written");
        assert_eq!(stream.read(&mut read).await.expect("a request"), request.len());
        let began = Instant::now();
        assert_eq!(stream.read(&mut read).await.expect("an end"), 0, "to hyper it has ended");
        assert_eq!(began.elapsed().as_secs(), PARK_AFTER.as_secs());
        let parked = parking.lock().take().expect("it has been parked");
        assert!(parked.since <= began && parking.lock().take().is_none());
        stream.shutdown().await.expect("nothing is shut");
        stream = CheckedStream::resume(parked, Arc::clone(&state), TIMEOUTS);
    }
}

#[tokio::test(start_paused = true)]
async fn who_owes_something_or_is_owed_it_is_not_parked() {
    let mut read = [0; 100];
    // The rest of a head, and of a body.
    for (part, ends_after) in [("GET / HT", 9), ("POST / HTTP/1.1\r\ncontent-length: 9\r\n\r\n", 30)] {
        let (mut stream, mut far, _state) = connected();
        let parking = stream.parking();
        far.write_all(part.as_bytes()).await.expect("written");
        let quiet = timeout(Duration::from_secs(ends_after - 1), async {
            while stream.read(&mut read).await.is_ok_and(|bytes| bytes > 0) {}
        });
        assert!(quiet.await.is_err() && parking.lock().take().is_none(), "{part:?}");
    }
    let (mut stream, mut far, state) = connected();
    let parking = stream.parking();
    far.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.expect("written");
    assert!(stream.read(&mut read).await.expect("a request") > 0);
    state.enter();
    assert!(
        timeout(Duration::from_secs(60), stream.read(&mut read)).await.is_err(),
        "its answer is on its way"
    );
    state.leave();
    assert!(parking.lock().take().is_none());
}

/// hyper asks for more bytes while the exchange runs, and then only when it is woken; the test does the same.
#[tokio::test(start_paused = true)]
async fn the_end_of_an_exchange_is_noticed() {
    let (mut stream, mut far, state) = connected();
    let parking = stream.parking();
    far.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.expect("written");
    let mut read = [0; 100];
    assert!(stream.read(&mut read).await.expect("a request") > 0);
    state.enter();
    let more = tokio::spawn(async move { stream.read(&mut read).await });
    tokio::time::sleep(Duration::from_millis(10)).await;
    state.leave();
    let began = Instant::now();
    assert_eq!(more.await.expect("no panic").expect("an end"), 0);
    assert!(began.elapsed() <= 3 * PARK_AFTER && parking.lock().take().is_some());
}

#[tokio::test(start_paused = true)]
async fn who_was_idle_for_too_long_is_given_up() {
    let (stream, _far, state) = connected();
    let parking = stream.parking();
    let since = Instant::now() - TIMEOUTS.idle;
    let parked = ParkedConnection { stream: duplex(1).0, since };
    let mut stream = CheckedStream::resume(parked, state, TIMEOUTS);
    assert_eq!(stream.read(&mut [0; 9]).await.expect("an end"), 0);
    assert!(parking.lock().take().is_none());
}

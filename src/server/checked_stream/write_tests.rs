//! Writing to a client that takes nothing.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::*;

const TIMEOUTS: ClientTimeouts =
    ClientTimeouts { head: Duration::from_secs(9), idle: Duration::from_secs(30) };

/// A stream like that of TLS: it takes bytes, and keeps them while the socket takes none.
struct FullSocket(DuplexStream);

impl AsyncRead for FullSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for FullSocket {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

fn connected() -> (CheckedStream<FullSocket>, DuplexStream, Arc<ConnectionState>) {
    let (near, far) = duplex(1024);
    let state = Arc::<ConnectionState>::default();
    (CheckedStream::new(FullSocket(near), Arc::clone(&state), TIMEOUTS), far, state)
}

/// A parked connection is not flushed: the end of the answer stayed in the buffer of TLS.
#[tokio::test(start_paused = true)]
async fn who_has_not_taken_the_whole_answer_is_not_parked() {
    let (mut stream, mut far, _state) = connected();
    let parking = stream.parking();
    far.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.expect("written");
    assert!(stream.read(&mut [0; 100]).await.expect("a request") > 0);
    stream.write_all(b"an answer").await.expect("taken");
    let flush = tokio::time::timeout(Duration::from_secs(1), stream.flush());
    assert!(flush.await.is_err());
    assert_eq!(stream.read(&mut [0; 100]).await.expect("an end"), 0);
    assert!(parking.lock().take().is_none());
}

#[tokio::test(start_paused = true)]
async fn who_takes_nothing_is_given_up_also_below_tls_and_at_the_close() {
    for (hurries, seconds) in [(false, 30), (true, 5)] {
        let (mut stream, _far, state) = connected();
        if hurries {
            state.hurry();
        }
        let began = Instant::now();
        stream.flush().await.expect_err("given up");
        assert_eq!(began.elapsed().as_secs(), seconds);
        let (mut stream, _far, state) = connected();
        if hurries {
            state.hurry();
        }
        let began = Instant::now();
        stream.shutdown().await.expect_err("given up");
        assert_eq!(began.elapsed().as_secs(), seconds);
    }
}

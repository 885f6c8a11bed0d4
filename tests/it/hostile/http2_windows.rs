//! HTTP/2 clients that grant no window. A stranger without a key held connections, streams and their memory for ever,
//! and a stop of the gateway waited for them.

use super::echo;
use super::slow_clients::endless;
use crate::harness::calls::GENERATION;
use crate::harness::http2::FrameClient;
use crate::harness::{Gateway, TENANT_KEY};

const TIMEOUTS: &str = r#"timeouts = { header = "200ms", idle = "400ms" }"#;
const NO_KEY: &str = "sk-nobody-0123456789";
const TASK: &str = "/api/v1/tasks/t-1";

#[test]
fn who_has_no_key_and_takes_no_answer_is_closed() {
    let upstream = echo();
    let gateway = Gateway::with(upstream.address, TIMEOUTS, "");
    for window in [0, 1] {
        let mut client = FrameClient::connect(gateway.address, window);
        for number in 0..128 {
            client.request(2 * number + 1, "GET", TASK, NO_KEY, false);
        }
        client.wait_for_close();
    }
}

#[test]
fn an_answer_that_is_not_taken_ends_its_stream_alone() {
    let upstream = echo();
    let gateway = Gateway::with(upstream.address, r#"timeouts = { idle = "2s" }"#, "");
    let mut client = FrameClient::connect(gateway.address, 0);
    client.request(1, "GET", TASK, TENANT_KEY, false);
    assert_eq!(client.frame_of(1).kind, FrameClient::HEADERS);
    // The other stream is read, byte by byte, until the first one has ended: it has more bytes than that takes.
    client.request(3, "GET", TASK, TENANT_KEY, false);
    loop {
        client.widen(3, 1);
        let frame = client.frame().expect("the connection lives");
        if frame.stream == 1 {
            assert_eq!(frame.kind, FrameClient::RST_STREAM);
            break;
        }
        crate::harness::let_pass(std::time::Duration::from_millis(50));
    }
    client.widen(3, 10_000);
    loop {
        let frame = client.frame_of(3);
        assert_eq!(frame.kind, FrameClient::DATA, "the other stream goes on to its end");
        if frame.flags == FrameClient::END_STREAM {
            break;
        }
    }
}

/// hyper has let go of an answer whose last bytes wait for a window, so its stream can't be reset.
#[test]
fn a_client_that_takes_a_part_gets_no_new_streams() {
    let upstream = echo();
    let gateway = Gateway::with(upstream.address, r#"timeouts = { idle = "400ms" }"#, "");
    let mut client = FrameClient::connect(gateway.address, 1);
    client.request(1, "GET", TASK, TENANT_KEY, false);
    client.request(3, "POST", GENERATION, TENANT_KEY, true);
    let goes_away = |frame: &crate::harness::http2::ReceivedFrame| frame.kind == FrameClient::GOAWAY;
    while !goes_away(&client.frame().expect("the connection lives while a stream runs")) {
        client.send(FrameClient::DATA, 0, 3, b"x");
        crate::harness::let_pass(std::time::Duration::from_millis(10));
    }
    client.send(FrameClient::DATA, FrameClient::END_STREAM, 3, b"x");
    client.wait_for_close();
}

#[test]
fn an_endless_answer_that_is_not_taken_stops_its_upstream() {
    let (upstream, _) = endless();
    let gateway = Gateway::with(upstream.address, r#"timeouts = { idle = "300ms" }"#, "");
    for window in [0, 1, 100_000] {
        let mut client = FrameClient::connect(gateway.address, window);
        client.request(1, "POST", GENERATION, TENANT_KEY, false);
        assert_eq!(client.frame_of(1).kind, FrameClient::HEADERS);
        let reset = std::iter::from_fn(|| Some(client.frame_of(1)));
        assert!(reset.take(100).any(|frame| frame.kind == FrameClient::RST_STREAM));
        upstream.wait_for_silence();
    }
}

#[test]
fn a_stop_does_not_wait_for_who_takes_nothing() {
    let upstream = echo();
    let gateway = Gateway::with(upstream.address, TIMEOUTS, "");
    let mut clients: Vec<_> = [0, 1, 0, 1].map(|window| FrameClient::connect(gateway.address, window)).into();
    for (client, key) in clients.iter_mut().zip([NO_KEY, NO_KEY, TENANT_KEY, TENANT_KEY]) {
        client.request(1, "GET", TASK, key, false);
        assert_eq!(client.frame_of(1).kind, FrameClient::HEADERS);
    }
    let began = std::time::Instant::now();
    gateway.running.drain();
    gateway.running.join().expect("joined");
    assert!(began.elapsed().as_secs() < 20, "the deadline of the drain is 30 s");
}

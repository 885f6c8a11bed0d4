//! Many connections that never finish a handshake keep nobody else out.

use std::io::Write;
use std::net::TcpStream;

use crate::harness::calls::generate;
use crate::harness::tls::TlsClient;
use crate::harness::{Upstream, answer};
use crate::tls::TlsGateway;

/// The flood is larger than the allowed number of open handshakes: served connections go on, and new ones are let in.
#[test]
fn half_open_handshakes_keep_nobody_out() {
    let upstream = Upstream::answering(answer("200 OK", &[], "{}"));
    let guarded = TlsGateway::start(upstream.address, "", "");
    let mut kept = guarded.connect(&guarded.trusted());
    let mut flood = Vec::new();
    for number in 0..HALF_OPEN {
        let mut stream = TcpStream::connect(guarded.gateway.address).expect("a connection");
        if number % 2 == 0 {
            // The beginning of a ClientHello.
            stream.write_all(&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]).expect("written");
        }
        flood.push(stream);
        if number % 100 == 0 {
            assert_eq!(kept.ask(generate("{}")).expect("an answer").status(), 200);
            let mut new =
                TlsClient::connect(guarded.gateway.address, &guarded.trusted()).expect("a handshake");
            assert_eq!(new.ask(generate("{}")).expect("an answer").status(), 200);
        }
    }
    assert_eq!(kept.ask(generate("{}")).expect("an answer").status(), 200);
    // The oldest half-open connection was closed for a newer one.
    flood[0].set_read_timeout(Some(crate::harness::PATIENCE)).expect("a timeout");
    let ended = std::io::Read::read(&mut flood[0], &mut [0]);
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
}

const HALF_OPEN: usize = 1500;

//! Reload of certificates under load. A broken certificate changes nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::harness::calls::generate;
use crate::harness::tls::{Authority, TlsClient};
use crate::harness::{Upstream, answer, eventually};
use crate::tls::TlsGateway;

fn shown(secure: &TlsClient) -> Vec<u8> {
    secure.session().peer_certificates().expect("a certificate")[0].to_vec()
}

/// The load has lasting connections, and new ones all the time.
#[test]
fn a_certificate_is_swapped_in_mid_load() {
    let upstream = Upstream::answering(answer("200 OK", &[], "{}"));
    let guarded = TlsGateway::start(upstream.address, "", "");
    let (stop, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
    let address = guarded.gateway.address;
    let config = Arc::clone(&guarded.trusted());
    let ask = |secure: &mut TlsClient| {
        assert_eq!(secure.ask(generate("{}")).expect("an answer").status(), 200);
        asked.fetch_add(1, Ordering::Relaxed);
    };
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut kept = TlsClient::connect(address, &config).expect("a handshake");
                let first = shown(&kept);
                while !stop.load(Ordering::Relaxed) {
                    ask(&mut kept);
                }
                assert_eq!(shown(&kept), first);
            });
        }
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    ask(&mut TlsClient::connect(address, &config).expect("a handshake"));
                }
            });
        }
        let swapped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for _ in 0..5 {
                let next = guarded.authority.server();
                next.write(guarded.folder(), "server");
                assert_eq!(guarded.reload(), 200);
                assert_eq!(shown(&guarded.connect(&guarded.trusted())), next.der().to_vec());
                let before = asked.load(Ordering::Relaxed);
                eventually("the load goes on", || asked.load(Ordering::Relaxed) > before + 50);
            }
        }));
        stop.store(true, Ordering::Relaxed);
        swapped.expect("five swaps");
    });
    println!("{} requests over five swaps, none failed", asked.load(Ordering::Relaxed));
}

/// cert-manager and certbot replace the files without a signal.
#[test]
fn a_swapped_file_is_noticed() {
    let guarded = TlsGateway::start(Upstream::answering("").address, "", "");
    let next = guarded.authority.server();
    next.write(guarded.folder(), "server");
    eventually("the new one is shown", || shown(&guarded.connect(&guarded.trusted())) == next.der().to_vec());
}

#[test]
fn what_does_not_hold_changes_nothing() {
    let guarded = TlsGateway::start(Upstream::answering("").address, ", client_ca = \"ca.pem\"", "");
    let before = shown(&guarded.connect(&guarded.trusted()));
    let old = guarded.authority.server_until(2020);
    let good = guarded.authority.server();
    let write = |name: &str, text: &str| std::fs::write(guarded.folder().join(name), text).expect("written");
    for (certificate, key, expected) in [
        (&good.certificate, &Authority::new().server().key, "is not the key of the certificate"),
        (&old.certificate, &old.key, "expired at"),
        (&"garbage".to_owned(), &good.key, "has no certificate in it"),
        (&good.certificate, &String::new(), "has no private key in it"),
    ] {
        write("server.crt", certificate);
        write("server.key", key);
        let answered = guarded.gateway.administer("POST /admin/reload", "");
        assert_eq!(answered.status(), 422, "{expected}");
        let faults = answered.json()["faults"].to_string();
        assert!(faults.contains(expected) && faults.contains("server.tls."), "{faults}");
        assert_eq!(shown(&guarded.connect(&guarded.trusted())), before, "{expected}");
    }
    good.write(guarded.folder(), "server");
    write("ca.pem", "garbage");
    assert_eq!(guarded.reload(), 422);
    write("ca.pem", &guarded.authority.pem());
    assert_eq!(guarded.reload(), 200);
    assert_eq!(shown(&guarded.connect(&guarded.trusted())), good.der().to_vec());
}

//! Client certificates: they identify a tenant, with its key or without.

use std::io::Read;
use std::sync::{Mutex, mpsc};

use crate::harness::calls::{bearer, check_refusal, generate};
use crate::harness::tls::{Identity, TlsClient};
use crate::harness::{OTHER_KEY, TENANT_KEY, Upstream, answer, eventually};
use crate::tls::{TlsGateway, text};

const ASKS: &str = ", client_ca = \"ca.pem\", client_crl = \"crl.pem\"";
const NAMES: &str = r#"client_certificates = ["CN=acme-prod", "dns:Acme.internal", "uri:spiffe://acme/prod"]
limits = { concurrent_requests = 1 }"#;

fn guarded(upstream: &Upstream) -> TlsGateway {
    TlsGateway::start(upstream.address, ASKS, NAMES)
}

fn present(guarded: &TlsGateway, identity: &Identity) -> TlsClient {
    guarded.connect(&guarded.authority.trusted(Some(identity), &["http/1.1"]))
}

fn keyless() -> String {
    generate("{}").replace(&format!("{}\r\n", bearer()), "")
}

/// Tries no certificate, one of the tenant and one of no tenant, with no key, the tenant's key and another tenant's.
#[test]
fn key_and_certificate_must_agree() {
    let upstream = Upstream::answering(answer("200 OK", &[], "{}"));
    let guarded = guarded(&upstream);
    let own = guarded.authority.client("acme-prod", &[], 1);
    let nobodys = guarded.authority.client("somebody", &["dns:else.where"], 2);
    let with = |key: &str| generate("{}").replace(TENANT_KEY, key);
    for (certificate, request, refused) in [
        (None, keyless(), Some("no_key")),
        (None, with(TENANT_KEY), Some("no_certificate")),
        (None, with(OTHER_KEY), None),
        (Some(&own), keyless(), None),
        (Some(&own), with(TENANT_KEY), None),
        (Some(&own), with(OTHER_KEY), Some("other_certificate")),
        (Some(&own), with("sk-nobody-000000000000"), Some("unknown_key")),
        (Some(&nobodys), keyless(), Some("no_key")),
        (Some(&nobodys), with(TENANT_KEY), Some("no_certificate")),
        (Some(&nobodys), with(OTHER_KEY), None),
    ] {
        let config = guarded.authority.trusted(certificate, &["http/1.1"]);
        let got = guarded.connect(&config).ask(&request).expect("an answer");
        match refused {
            None => assert_eq!(got.status(), 200, "{request}"),
            Some(reason) => check_refusal(&got, 401, reason),
        }
    }
    assert_eq!(upstream.requests().len(), 4);
}

#[test]
fn every_kind_of_name_opens_and_every_certificate_counts_for_itself() {
    let (go, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let upstream = Upstream::start(move |_, stream| {
        wait.lock().expect("no panic").recv().expect("a word");
        std::io::Write::write_all(stream, &answer("200 OK", &[], "{}")).is_ok()
    });
    let guarded = guarded(&upstream);
    let by = |common_name: &str, names: &[&str]| {
        present(&guarded, &guarded.authority.client(common_name, names, 1))
    };
    let mut callers =
        [by("acme-prod", &[]), by("x", &["dns:acme.INTERNAL"]), by("x", &["uri:spiffe://acme/prod"])];
    for caller in &mut callers {
        caller.send(keyless()).expect("sent");
    }
    eventually("all three run, one of each name", || upstream.requests().len() == 3);
    let refused = by("acme-prod", &[]).ask(keyless()).expect("an answer");
    check_refusal(&refused, 429, "concurrency");
    (0..callers.len()).for_each(|_| go.send(()).expect("heard"));
    for caller in &mut callers {
        assert_eq!(caller.head().expect("a head").status(), 200);
    }
    // A similar name is not enough, and a certificate of an unknown authority is refused.
    for (common_name, name) in [
        ("acme-prod2", "dns:x"),
        ("ACME-PROD", "dns:x"),
        ("x", "dns:a.acme.internal"),
        ("x", "uri:spiffe://acme/prod/x"),
    ] {
        let got = by(common_name, &[name]).ask(keyless()).expect("an answer");
        check_refusal(&got, 401, "no_key");
    }
    let forged = crate::harness::tls::Authority::new().client("acme-prod", &[], 1);
    let config = guarded.authority.trusted(Some(&forged), &["http/1.1"]);
    let refused =
        TlsClient::connect(guarded.gateway.address, &config).and_then(|mut secure| secure.ask(keyless()));
    assert!(refused.is_err(), "{refused:?}");
}

#[test]
fn a_certificate_of_two_tenants_is_of_none() {
    let upstream = Upstream::answering(answer("200 OK", &[], "{}"));
    let guarded = guarded(&upstream);
    let other = text(upstream.address, ASKS, NAMES) + "client_certificates = [\"CN=two\"]\n";
    assert_eq!(guarded.gateway.reload(&other).status(), 200);
    let both = guarded.authority.client("two", &["dns:acme.internal"], 1);
    check_refusal(&present(&guarded, &both).ask(keyless()).expect("an answer"), 401, "other_certificate");
    let two = guarded.authority.client("two", &[], 2);
    assert_eq!(present(&guarded, &two).ask(keyless()).expect("an answer").status(), 200);
}

/// Revocation by a list, and by removing the name from the configuration: open connections are checked again.
#[test]
fn a_revoked_certificate_is_refused_and_what_it_has_open_is_cut() {
    let upstream = Upstream::start(|request, stream| {
        if request.text() != "stream" {
            return std::io::Write::write_all(stream, &answer("200 OK", &[], "{}")).is_ok();
        }
        let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nbegun\n\r\n";
        std::io::Write::write_all(stream, head).expect("written");
        crate::harness::upstream::until_closed(stream);
        false
    });
    let guarded = guarded(&upstream);
    let names = NAMES.replace("concurrent_requests = 1", "concurrent_requests = 9");
    let usual = text(upstream.address, ASKS, &names);
    let nameless = usual.replace("\"CN=acme-prod\", ", "");
    for (serial, by_list) in [(7, true), (8, false)] {
        std::fs::write(guarded.folder().join("crl.pem"), guarded.authority.revoking(&[])).expect("written");
        assert_eq!(guarded.gateway.reload(&usual).status(), 200);
        let identity = guarded.authority.client("acme-prod", &[], serial);
        let stays = guarded.authority.client("x", &["dns:acme.internal"], 99);
        let mut kept = present(&guarded, &identity);
        let mut other = present(&guarded, &stays);
        for secure in [&mut kept, &mut other] {
            assert_eq!(secure.ask(keyless()).expect("an answer").status(), 200);
        }
        let mut stream = present(&guarded, &identity);
        stream
            .send(keyless().replace("Content-Length: 2", "Content-Length: 6").replace("{}", "stream"))
            .expect("sent");
        assert_eq!(stream.head().expect("a head").status(), 200);
        if by_list {
            let list = guarded.authority.revoking(&[serial]);
            std::fs::write(guarded.folder().join("crl.pem"), list).expect("written");
            assert_eq!(guarded.reload(), 200);
        } else {
            assert_eq!(guarded.gateway.reload(&nameless).status(), 200);
        }
        let refused = kept.ask(keyless()).expect("an answer");
        check_refusal(&refused, 401, if by_list { "revoked_key" } else { "no_key" });
        let mut rest = Vec::new();
        let cut = stream.reader().read_to_end(&mut rest);
        assert!(cut.is_err() && rest.ends_with(b"begun\n\r\n"), "{cut:?} {rest:?}");
        assert_eq!(other.ask(keyless()).expect("an answer").status(), 200, "another's is as good as before");
        // New connections: a revoked certificate ends the handshake, or the connection after it in TLS 1.3.
        let config = guarded.authority.trusted(Some(&identity), &["http/1.1"]);
        let again =
            TlsClient::connect(guarded.gateway.address, &config).and_then(|mut secure| secure.ask(keyless()));
        match again {
            Err(_) => assert!(by_list),
            Ok(got) => {
                assert!(!by_list);
                check_refusal(&got, 401, "no_key");
            }
        }
    }
}

/// A session that was resumed would not have its certificate verified again.
#[test]
fn sessions_with_certificates_are_not_resumed() {
    let upstream = Upstream::answering(answer("200 OK", &[], "{}"));
    let guarded = guarded(&upstream);
    let identity = guarded.authority.client("acme-prod", &[], 1);
    let config = guarded.authority.trusted(Some(&identity), &["http/1.1"]);
    for _ in 0..3 {
        let mut secure = guarded.connect(&config);
        assert_eq!(secure.ask(keyless()).expect("an answer").status(), 200);
        assert_ne!(secure.session().handshake_kind(), Some(rustls::HandshakeKind::Resumed));
    }
}

//! TLS on the data listener: both versions and both protocols are spoken, a regular end is announced, cleartext is
//! refused, and faults of the configuration are reported with their places.

mod admin;
mod certificates;
mod curl;
mod many_connections;
mod reload;

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, mpsc};

use dashgate::config::Config;
use rustls::{ClientConfig, HandshakeKind, ProtocolVersion};

use crate::harness::calls::{Dechunk, bearer, check_refusal, generate};
use crate::harness::gateway::write_config;
use crate::harness::tls::{Authority, TlsClient};
use crate::harness::{Client, Gateway, UPSTREAM_KEY, Upstream, answer, client, configuration, message};

/// A gateway with TLS, and the authority that signs its certificate and those of its clients.
pub(super) struct TlsGateway {
    pub(super) authority: Authority,
    pub(super) gateway: Gateway,
}

impl TlsGateway {
    /// `more` stands beside the certificate and its key in `tls`, `tenant` in the tenant `one`.
    pub(super) fn start(upstream: SocketAddr, more: &str, tenant: &str) -> Self {
        let authority = Authority::new();
        let folder = tempfile::tempdir().expect("a folder");
        authority.server().write(folder.path(), "server");
        std::fs::write(folder.path().join("ca.pem"), authority.pem()).expect("written");
        std::fs::write(folder.path().join("crl.pem"), authority.revoking(&[])).expect("written");
        let gateway = Gateway::from_file_in(folder, &text(upstream, more, tenant));
        Self { authority, gateway }
    }

    pub(super) fn folder(&self) -> &Path {
        self.gateway.directory.path()
    }

    pub(super) fn trusted(&self) -> Arc<ClientConfig> {
        self.authority.trusted(None, &["http/1.1"])
    }

    pub(super) fn connect(&self, config: &Arc<ClientConfig>) -> TlsClient {
        TlsClient::connect(self.gateway.address, config).expect("a handshake")
    }

    /// Reloads the same configuration with the present contents of its files.
    pub(super) fn reload(&self) -> u16 {
        self.gateway.administer("POST /admin/reload", "").status()
    }
}

pub(super) fn text(upstream: SocketAddr, more: &str, tenant: &str) -> String {
    let tls = format!("tls = {{ cert = \"server.crt\", key = \"server.key\" {more} }}");
    let server = format!("listen = \"127.0.0.1:0\"\nworkers = 1\ntimeouts = {{ header = \"2s\" }}\n{tls}");
    configuration(&server, &[("main", upstream, &[UPSTREAM_KEY], "")], tenant)
}

#[test]
fn both_versions_and_both_protocols_are_spoken() {
    let upstream = Upstream::answering(answer("200 OK", &[], "{}"));
    let guarded = TlsGateway::start(upstream.address, "", "");
    for (versions, expected) in [
        (&[&rustls::version::TLS12], ProtocolVersion::TLSv1_2),
        (&[&rustls::version::TLS13], ProtocolVersion::TLSv1_3),
    ] {
        for (offered, chosen) in [
            (&["h2", "http/1.1"][..], Some(&b"h2"[..])),
            (&["http/1.1"], Some(b"http/1.1")),
            (&["http/1.1", "h2"], Some(b"h2")),
            (&[], None),
        ] {
            let config = guarded.authority.trusted_with(versions, offered);
            let mut secure = guarded.connect(&config);
            assert_eq!(secure.session().protocol_version(), Some(expected));
            assert_eq!(secure.session().alpn_protocol(), chosen, "{offered:?}");
            if chosen != Some(b"h2") {
                assert_eq!(secure.ask(generate("{}")).expect("an answer").status(), 200);
                continue;
            }
            // A preface and empty SETTINGS; the other side's come back first (RFC 9113, 3.4).
            secure.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").expect("sent");
            let mut frame = [0; 9];
            secure.reader().read_exact(&mut frame).expect("a frame");
            assert_eq!((frame[3], frame[4]), (4, 0), "no SETTINGS: {frame:?}");
        }
    }
    let other = guarded.authority.trusted(None, &["spdy/3"]);
    assert!(TlsClient::connect(guarded.gateway.address, &other).is_err(), "a protocol that is not spoken");
}

#[test]
fn a_stream_and_a_tunnel_pass() {
    let (go, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let upstream = Upstream::start(move |request, stream| {
        if request.field("upgrade").is_some() {
            let head =
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
            stream.write_all(head.as_bytes()).expect("written");
            let mut bytes = [0; 16];
            while let Ok(read @ 1..) = stream.read(&mut bytes) {
                stream.write_all(&bytes[..read]).expect("written");
            }
            return false;
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").expect("written");
        for _ in 0..5 {
            stream.write_all(b"8\r\ndata:1\n\n\r\n").expect("written");
            wait.lock().expect("no panic").recv().expect("a word");
        }
        stream.write_all(b"0\r\n\r\n").is_ok()
    });
    let guarded = TlsGateway::start(upstream.address, "", "");
    let mut secure = guarded.connect(&guarded.trusted());
    secure.send(generate("{}")).expect("sent");
    assert_eq!(secure.head().expect("a head").status(), 200);
    let mut body = Dechunk::new(secure.reader());
    for _ in 0..5 {
        let mut event = [0; 8];
        body.read_exact(&mut event).expect("an event, before the next is made");
        go.send(()).expect("heard");
    }
    assert_eq!(body.read(&mut [0]).expect("the end"), 0);
    let fields = [&*bearer(), "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"];
    secure.send(message("GET /api-ws/v1/realtime?model=m", &fields, "")).expect("sent");
    assert_eq!(secure.head().expect("a head").status(), 101);
    for _ in 0..3 {
        secure.send("to and fro").expect("sent");
        let mut echo = [0; 10];
        secure.reader().read_exact(&mut echo).expect("an echo");
        assert_eq!(&echo, b"to and fro");
    }
}

/// A regular end differs from a cut connection by `close_notify` (RFC 8446, 6.1).
#[test]
fn an_end_is_announced_and_a_cut_is_not() {
    let upstream = Upstream::start(|request, stream| {
        if request.text() != "cut" {
            return stream.write_all(&answer("200 OK", &[], "whole")).is_ok();
        }
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n")
            .expect("sent");
        false
    });
    let guarded = TlsGateway::start(upstream.address, "", "");
    let mut whole = guarded.connect(&guarded.trusted());
    let closing = generate("{}").replace("Host: gateway", "Host: gateway\r\nConnection: close");
    assert_eq!(whole.ask(closing).expect("an answer").text(), "whole");
    assert_eq!(whole.rest().expect("a close_notify"), b"");
    let mut cut = guarded.connect(&guarded.trusted());
    let got = cut.ask(generate("cut")).expect("the beginning of an answer");
    assert!(!got.complete && got.text() == "part", "{got:?}");
    let mut idle = guarded.connect(&guarded.trusted());
    assert_eq!(idle.ask(generate("{}")).expect("an answer").status(), 200);
    guarded.gateway.running.drain();
    assert_eq!(idle.rest().expect("a close_notify"), b"");
}

#[test]
fn cleartext_is_told_so() {
    let upstream = Upstream::answering(answer("200 OK", &[], "{}"));
    let guarded = TlsGateway::start(upstream.address, "", "");
    for request in [generate("{}"), "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), "\r\nGET / ".to_owned()] {
        let mut client = Client::connect(guarded.gateway.address);
        client.send(request);
        let got = client.answer();
        check_refusal(&got, 400, "bad_request");
        assert!(got.text().contains("https://"), "{}", got.text());
        assert_eq!(got.field("connection").as_deref(), Some("close"));
        client.rest();
    }
    // Bytes that are neither TLS nor HTTP get an alert, and the connection ends.
    let mut client = Client::connect(guarded.gateway.address);
    client.push([0x80, 0x2e, 1, 3, 1, 0, 0x15, 0, 0, 0, 0x10]);
    client.rest();
    assert_eq!(upstream.requests().len(), 0);
}

#[test]
fn a_session_is_resumed_also_after_a_reload() {
    let upstream = Upstream::answering(answer("200 OK", &[], "{}"));
    let guarded = TlsGateway::start(upstream.address, "", "");
    let config = guarded.trusted();
    let kind = || {
        let mut secure = guarded.connect(&config);
        // The ticket comes with the first answer.
        assert_eq!(secure.ask(generate("{}")).expect("an answer").status(), 200);
        secure.session().handshake_kind()
    };
    assert_eq!([kind(), kind()], [Some(HandshakeKind::Full), Some(HandshakeKind::Resumed)]);
    assert_eq!(guarded.reload(), 200);
    assert_eq!(kind(), Some(HandshakeKind::Resumed));
    guarded.authority.server().write(guarded.folder(), "server");
    assert_eq!(guarded.reload(), 200);
    assert_eq!(kind(), Some(HandshakeKind::Full), "another certificate was never shown");
}

#[test]
fn a_handshake_ends_in_time() {
    let guarded = TlsGateway::start(Upstream::answering("").address, "", "");
    let mut silent = Client::connect(guarded.gateway.address);
    let mut half = Client::connect(guarded.gateway.address);
    half.send([0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]);
    let began = std::time::Instant::now();
    silent.rest();
    half.rest();
    assert!(began.elapsed() >= std::time::Duration::from_secs(1), "it was given up too early");
}

#[test]
fn tls_can_be_turned_on_and_off_by_a_reload() {
    let upstream = Upstream::answering(answer("200 OK", &[], "{}"));
    let guarded = TlsGateway::start(upstream.address, "", "");
    let mut secure = guarded.connect(&guarded.trusted());
    let plain = text(upstream.address, "", "").replace("\ntls = ", "\n# tls = ");
    assert_eq!(guarded.gateway.reload(&plain).status(), 200);
    assert_eq!(client::once(guarded.gateway.address, generate("{}")).status(), 200);
    assert_eq!(secure.ask(generate("{}")).expect("an answer").status(), 200, "a connection is not lost");
    assert_eq!(guarded.gateway.reload(&text(upstream.address, "", "")).status(), 200);
    let mut again = guarded.connect(&guarded.trusted());
    assert_eq!(again.ask(generate("{}")).expect("an answer").status(), 200);
}

/// All faults of `tls`, with their places.
#[test]
fn what_is_wrong_is_told_with_its_place() {
    let (authority, other) = (Authority::new(), Authority::new());
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("written");
    authority.server().write(folder.path(), "good");
    other.server().write(folder.path(), "other");
    authority.server_until(2020).write(folder.path(), "old");
    write("ca.pem", &authority.pem());
    write("empty", "");
    write("garbage", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    for (tls, tenant, expected) in [
        (r#"{ key = "good.key" }"#, "", "5:7: server.tls: the key `cert` is missing"),
        (r#"{ cert = "good.crt" }"#, "", "5:7: server.tls: the key `key` is missing"),
        (
            r#"{ cert = "good.crt", key = "other.key" }"#,
            "",
            "5:34: server.tls.key: is not the key of the certificate",
        ),
        (
            r#"{ cert = "old.crt", key = "old.key" }"#,
            "",
            "5:16: server.tls.cert: expired at 2020-01-01T00:00:00Z",
        ),
        (r#"{ cert = "empty", key = "good.key" }"#, "", "5:16: server.tls.cert: has no certificate in it"),
        (
            r#"{ cert = "garbage", key = "good.key" }"#,
            "",
            "5:16: server.tls.cert: has a certificate that cannot be read",
        ),
        (r#"{ cert = "good.crt", key = "good.crt" }"#, "", "5:34: server.tls.key: has no private key in it"),
        (
            r#"{ cert = "nowhere", key = "good.key" }"#,
            "",
            "5:16: server.tls.cert: the file nowhere cannot be read",
        ),
        (
            r#"{ cert = "good.crt", key = "good.key", client_ca = "garbage" }"#,
            "",
            "5:58: server.tls.client_ca: has a certificate that cannot be read",
        ),
        (
            r#"{ cert = "good.crt", key = "good.key", client_ca = "ca.pem", client_crl = "ca.pem" }"#,
            "",
            "5:81: server.tls.client_crl: has no revocation list in it",
        ),
        (
            r#"{ cert = "good.crt", key = "good.key", client_crl = "crl.pem" }"#,
            "",
            "5:59: server.tls.client_crl: revokes certificates that nobody is asked for",
        ),
        (
            r#"{ cert = "good.crt", key = "good.key", ca = "ca.pem" }"#,
            "",
            "5:46: server.tls.ca: unknown key `ca`",
        ),
        (
            r#"{ cert = "good.crt", key = "good.key" }"#,
            r#"client_certificates = ["CN=a"]"#,
            "tenants[0].client_certificates: no client is asked for a certificate",
        ),
        (
            r#"{ cert = "good.crt", key = "good.key", client_ca = "ca.pem" }"#,
            r#"client_certificates = ["acme"]"#,
            "tenants[0].client_certificates[0]: is not a name of a certificate",
        ),
        (
            r#"{ cert = "good.crt", key = "good.key", client_ca = "ca.pem" }"#,
            r#"client_certificates = ["dns:A", "dns:a"]"#,
            "tenants[0].client_certificates[1]: is the same as tenants[0].client_certificates[0]",
        ),
    ] {
        let server = format!("listen = \"127.0.0.1:0\"\nworkers = 1\ntls = {tls}");
        let text =
            configuration(&server, &[("main", ([127, 0, 0, 1], 9).into(), &[UPSTREAM_KEY], "")], tenant);
        write("crl.pem", &authority.revoking(&[]));
        write_config(folder.path(), &text);
        let faults = Config::load(&folder.path().join("dashgate.toml")).expect_err("a fault");
        let messages: Vec<String> = faults.iter().map(ToString::to_string).collect();
        assert!(
            messages.iter().any(|fault| fault.contains(expected)),
            "{tls}: {expected} is not in {messages:?}"
        );
    }
}

#[test]
fn a_certificate_that_ends_soon_is_a_warning() {
    let folder = tempfile::tempdir().expect("a folder");
    Authority::new().server().write(folder.path(), "server");
    write_config(folder.path(), &text(([127, 0, 0, 1], 9).into(), "", ""));
    let load = || Config::load(&folder.path().join("dashgate.toml")).expect("a configuration").warnings;
    assert_eq!(load().len(), 0);
    Authority::new().server_for_days(3).write(folder.path(), "server");
    let messages: Vec<String> = load().iter().map(ToString::to_string).collect();
    assert!(
        messages.iter().any(|warning| warning.contains("server.tls.cert: expires soon, at 20")),
        "{messages:?}"
    );
}

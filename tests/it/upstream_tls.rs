//! TLS to the upstream: its certificate is verified, by the public authorities and those of `ca_file`.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection};

use crate::egress::ScriptedProxy;
use crate::harness::calls::{check_refusal, generate, submit};
use crate::harness::{ADMIN_TOKEN, Gateway, PATIENCE, TENANT_KEY, UPSTREAM_KEY, answer};

/// An authority of our own.
fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority")
}

/// An upstream that speaks TLS, with a certificate for `host`.
struct TlsUpstream {
    address: SocketAddr,
    state: Arc<TlsUpstreamState>,
}

#[derive(Default)]
struct TlsUpstreamState {
    handshakes: AtomicUsize,
    /// All bytes that came, decrypted or not.
    heard: Mutex<Vec<u8>>,
    alpn: Mutex<Vec<Option<Vec<u8>>>>,
}

impl TlsUpstream {
    fn start(
        issuer: &CertifiedIssuer<'static, KeyPair>,
        host: &str,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec![host.to_owned()]).expect("parameters");
        change(&mut params);
        let certificate = params.signed_by(&key, issuer).expect("a certificate");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .expect("a configuration");
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let config = Arc::new(config);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = listener.local_addr().expect("an address");
        let state = Arc::new(TlsUpstreamState::default());
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (config, shared) = (Arc::clone(&config), Arc::clone(&shared));
                std::thread::spawn(move || shared.talk(config, stream));
            }
        });
        Self { address, state }
    }

    fn heard(&self) -> String {
        String::from_utf8_lossy(&self.state.heard.lock().expect("no panic")).into_owned()
    }
}

impl TlsUpstreamState {
    fn talk(&self, config: Arc<ServerConfig>, mut stream: TcpStream) {
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let mut session = ServerConnection::new(config).expect("a session");
        while session.is_handshaking() {
            if session.complete_io(&mut stream).is_err() {
                return;
            }
        }
        self.handshakes.fetch_add(1, Ordering::SeqCst);
        self.alpn.lock().expect("no panic").push(session.alpn_protocol().map(<[u8]>::to_vec));
        let mut tls = rustls::Stream::new(&mut session, &mut stream);
        let mut bytes = [0; 4096];
        while let Ok(read @ 1..) = tls.read(&mut bytes) {
            self.heard.lock().expect("no panic").extend_from_slice(&bytes[..read]);
            if bytes[..read].ends_with(b"}") && tls.write_all(&answer("200 OK", &[], "{}")).is_err() {
                return;
            }
        }
    }
}

fn gateway(host: &str, port: u16, ca: Option<&Path>, timeouts: &str) -> Gateway {
    Gateway::configured(&text(host, port, ca, timeouts))
}

fn text(host: &str, port: u16, ca: Option<&Path>, timeouts: &str) -> String {
    let ca = ca.map(|path| format!("ca_file = {:?}", path.display().to_string())).unwrap_or_default();
    format!(
        r#"
        [server]
        listen = "127.0.0.1:0"
        workers = 1
        {timeouts}
        [admin]
        listen = "127.0.0.1:0"
        token = "{ADMIN_TOKEN}"
        [[accounts]]
        name = "main"
        base_url = "https://{host}:{port}"
        keys = ["{UPSTREAM_KEY}"]
        {ca}
        [[mounts]]
        prefix = "/"
        [[tenants]]
        name = "one"
        keys = [{{ id = "one-key", key = "{TENANT_KEY}" }}]
        "#
    )
}

fn ca_file(issuer: &CertifiedIssuer<'static, KeyPair>) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(issuer.pem().as_bytes()).expect("written");
    file
}

fn check_unreachable(gateway: &Gateway, upstream: &TlsUpstream) {
    for request in [submit(), generate("{}")] {
        let refusal = gateway.ask(request);
        check_refusal(&refusal, 503, "upstream_unreachable");
        assert_eq!(refusal.field("x-should-retry"), None, "nothing was sent");
    }
    assert_eq!(upstream.heard(), "");
}

#[test]
fn a_certificate_of_the_configured_authority_is_taken() {
    let authority = authority();
    let file = ca_file(&authority);
    for host in ["localhost", "127.0.0.1"] {
        let upstream = TlsUpstream::start(&authority, host, |_| {});
        let gateway = gateway(host, upstream.address.port(), Some(file.path()), "");
        for _ in 0..3 {
            assert_eq!(gateway.ask(generate("{}")).status(), 200);
        }
        assert_eq!(upstream.state.handshakes.load(Ordering::SeqCst), 1, "the connection is kept");
        assert_eq!(*upstream.state.alpn.lock().expect("no panic"), [Some(b"http/1.1".to_vec())]);
        let heard = upstream.heard();
        let host_field = format!("host: {host}:{}\r\n", upstream.address.port());
        assert!(heard.contains(&host_field), "{heard}");
        assert!(heard.contains(UPSTREAM_KEY) && !heard.contains(TENANT_KEY), "{heard}");
    }
}

/// The proxy sees the name; the certificate is checked for this name, and not for the proxy's.
#[test]
fn a_proxy_carries_tls_that_is_the_upstreams() {
    let authority = authority();
    let file = ca_file(&authority);
    for (host, is_its_own) in [("dashscope.test", true), ("other.test", false)] {
        let upstream = TlsUpstream::start(&authority, host, |_| {});
        let proxy = ScriptedProxy::joining(upstream.address);
        let text = text("dashscope.test", 443, Some(file.path()), "");
        let own = format!("[[accounts]]\nproxy = \"http://{}\"", proxy.address());
        let gateway = Gateway::configured(&text.replace("[[accounts]]", &own));
        if is_its_own {
            assert_eq!(gateway.ask(generate("{}")).status(), 200);
            assert!(upstream.heard().contains("host: dashscope.test\r\n"), "{}", upstream.heard());
        } else {
            check_unreachable(&gateway, &upstream);
        }
        let heads = proxy.heads();
        assert!(heads.iter().all(|head| head == "CONNECT dashscope.test:443 HTTP/1.1\r\nHost: dashscope.test:443\r\n\r\n"));
    }
}

#[test]
fn a_certificate_of_an_unknown_authority_is_refused() {
    let (authority, other) = (authority(), authority());
    let upstream = TlsUpstream::start(&authority, "localhost", |_| {});
    check_unreachable(&gateway("localhost", upstream.address.port(), None, ""), &upstream);
    let file = ca_file(&other);
    check_unreachable(&gateway("localhost", upstream.address.port(), Some(file.path()), ""), &upstream);
}

#[test]
fn a_certificate_for_another_host_is_refused() {
    let authority = authority();
    let file = ca_file(&authority);
    let upstream = TlsUpstream::start(&authority, "dashscope.example", |_| {});
    check_unreachable(&gateway("localhost", upstream.address.port(), Some(file.path()), ""), &upstream);
}

#[test]
fn a_certificate_out_of_its_time_is_refused() {
    let authority = authority();
    let file = ca_file(&authority);
    for (from, until) in [(2020, 2021), (2990, 2999)] {
        let upstream = TlsUpstream::start(&authority, "localhost", |params| {
            params.not_before = date_time_ymd(from, 1, 1);
            params.not_after = date_time_ymd(until, 1, 1);
        });
        check_unreachable(&gateway("localhost", upstream.address.port(), Some(file.path()), ""), &upstream);
    }
}

#[test]
fn an_upstream_without_tls_is_sent_nothing() {
    let plain = crate::harness::Upstream::answering(answer("200 OK", &[], "{}"));
    let gateway = gateway("localhost", plain.address.port(), None, "");
    check_refusal(&gateway.ask(submit()), 503, "upstream_unreachable");
    assert!(!plain.requests().iter().any(|seen| seen.holds(UPSTREAM_KEY) || seen.holds("wan2.7")));
}

#[test]
fn an_upstream_that_does_not_shake_hands_is_given_up() {
    let silent = crate::harness::Upstream::bare(crate::harness::upstream::until_closed);
    let gateway = gateway("localhost", silent.address.port(), None, r#"timeouts = { connect = "200ms" }"#);
    check_refusal(&gateway.ask(submit()), 503, "upstream_unreachable");
    silent.wait_for_silence();
}

#[test]
fn another_authority_after_a_reload_is_asked_at_once() {
    let (old, new) = (authority(), authority());
    let file = ca_file(&old);
    let upstream = TlsUpstream::start(&old, "localhost", |_| {});
    let gateway = Gateway::from_file(&text("localhost", upstream.address.port(), Some(file.path()), ""));
    assert_eq!(gateway.ask(generate("{}")).status(), 200);
    std::fs::write(file.path(), new.pem()).expect("written");
    assert_eq!(gateway.administer("POST /admin/reload", "").status(), 200);
    // The connection that the old authority allowed is not used.
    check_refusal(&gateway.ask(generate("{}")), 503, "upstream_unreachable");
    std::fs::write(file.path(), old.pem()).expect("written");
    assert_eq!(gateway.administer("POST /admin/reload", "").status(), 200);
    assert_eq!(gateway.ask(generate("{}")).status(), 200);
}

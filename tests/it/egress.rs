//! Egress proxies: accounts, and storage, that are reached by CONNECT alone.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

use dashgate::config::Config;

use crate::harness::calls::{check_refusal, generate};
use crate::harness::{Gateway, UPSTREAM_KEY, Upstream, answer, configuration, logs, secrets};

/// A proxy that answers each CONNECT with the same bytes and, if they begin a tunnel, joins it to one address whatever
/// the name.
pub(crate) struct ScriptedProxy {
    listening: Upstream,
    heads: Arc<Mutex<Vec<String>>>,
}

impl ScriptedProxy {
    pub(crate) fn joining(target: SocketAddr) -> Self {
        Self::answering("HTTP/1.1 200 Connection established\r\n\r\n", Some(target))
    }

    pub(crate) fn refusing() -> Self {
        Self::answering("HTTP/1.1 502 Bad Gateway\r\n\r\n", None)
    }

    fn answering(answer: &'static str, target: Option<SocketAddr>) -> Self {
        let heads = Arc::<Mutex<Vec<String>>>::default();
        let asked = Arc::clone(&heads);
        let listening = Upstream::bare(move |client| {
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && matches!(client.read(&mut byte), Ok(1)) {
                head.push(byte[0]);
            }
            asked.lock().expect("no panic").push(String::from_utf8_lossy(&head).into_owned());
            if client.write_all(answer.as_bytes()).is_ok()
                && let Some(target) = target
            {
                join(client, &mut TcpStream::connect(target).expect("the target"));
            }
        });
        Self { listening, heads }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.listening.address
    }

    pub(crate) fn heads(&self) -> Vec<String> {
        self.heads.lock().expect("no panic").clone()
    }
}

/// Carries both directions until both have ended.
fn join(client: &mut TcpStream, target: &mut TcpStream) {
    let carry = |from: &TcpStream, to: &TcpStream| {
        let (mut from, mut to) = (from.try_clone().expect("a clone"), to.try_clone().expect("a clone"));
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Write);
        })
    };
    for carrying in [carry(client, target), carry(target, client)] {
        carrying.join().expect("no panic");
    }
}

/// A gateway whose account is at `http://dashscope.test`, a name that only a proxy can know, with more lines in it.
fn gateway(account: &str, environment: &[(&str, &str)]) -> Gateway {
    let nowhere = ([127, 0, 0, 1], 1).into();
    let server = "listen = \"127.0.0.1:0\"\nworkers = 1";
    let text = configuration(server, &[("main", nowhere, &[UPSTREAM_KEY], account)], "");
    let text = text.replace("http://127.0.0.1:1\"", "http://dashscope.test\"");
    let environment = |name: &str| {
        environment.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
    };
    let loaded = Config::parse(&text, Path::new("."), &environment);
    let config = loaded.unwrap_or_else(|faults| panic!("{faults:#?}")).config;
    Gateway::of(tempfile::tempdir().expect("a directory"), config)
}

#[test]
fn an_account_is_reached_through_its_proxy_and_through_the_environment_s() {
    let upstream = Upstream::answering(answer("200 OK", &[], "{}"));
    for by_environment in [false, true] {
        let proxy = ScriptedProxy::joining(upstream.address);
        let url = format!("http://me:{}@{}", secrets::QUERY, proxy.address());
        let gateway = if by_environment {
            gateway("", &[("HTTP_PROXY", &url), ("NO_PROXY", "other.test")])
        } else {
            gateway(&format!("proxy = \"{url}\""), &[("HTTP_PROXY", "http://127.0.0.1:1")])
        };
        for _ in 0..3 {
            assert_eq!(gateway.ask(generate("{}")).status(), 200);
        }
        let heads = proxy.heads();
        assert_eq!(heads.len(), 1, "one tunnel carries many requests: {heads:?}");
        assert!(heads[0].starts_with("CONNECT dashscope.test:80 HTTP/1.1\r\nHost: dashscope.test:80\r\n"));
        assert!(heads[0].contains("\r\nProxy-Authorization: Basic bWU6"), "{heads:?}");
        for seen in upstream.take() {
            assert_eq!(seen.field("host").as_deref(), Some("dashscope.test"));
            assert_eq!(seen.field("proxy-authorization"), None, "the password is the proxy's alone");
        }
    }
}

/// The account's own setting goes before the environment.
#[test]
fn none_is_no_proxy() {
    let proxy = ScriptedProxy::refusing();
    let url = format!("http://{}", proxy.address());
    let direct = gateway("proxy = \"none\"", &[("HTTP_PROXY", &url)]);
    check_refusal(&direct.ask(generate("{}")), 503, "upstream_unreachable");
    let listed = gateway("", &[("HTTP_PROXY", &url), ("no_proxy", ".test")]);
    check_refusal(&listed.ask(generate("{}")), 503, "upstream_unreachable");
    assert_eq!(proxy.heads(), [""; 0]);
}

#[test]
fn a_proxy_that_refuses_is_named_and_nothing_was_sent() {
    for (answer, problem) in [
        ("HTTP/1.1 407 Who\r\nContent-Length: 0\r\n\r\n", "it answered 407 Proxy Authentication Required"),
        ("HTTP/1.1 403 No\r\n\r\n", "it answered 403 Forbidden"),
        ("HTTP/1.1 502 No\r\n\r\n", "it answered 502 Bad Gateway"),
        ("", "it did not answer CONNECT"),
    ] {
        let proxy = ScriptedProxy::answering(answer, None);
        let gateway = gateway(&format!("proxy = \"http://{}\"", proxy.address()), &[]);
        let refused = gateway.ask(generate("{}"));
        check_refusal(&refused, 503, "upstream_unreachable");
        assert_eq!(refused.field("x-should-retry"), None);
        let expected = format!("through the proxy {}: {problem}", proxy.address());
        assert!(logs::captured().contains(&expected), "{expected}");
    }
}

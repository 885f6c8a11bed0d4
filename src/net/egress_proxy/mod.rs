//! Egress proxies: HTTP proxies through which alone some networks let connections out (CONNECT, RFC 9110, 9.3.6).

mod environment;

use std::fmt;
use std::io;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hyper::StatusCode;
use percent_encoding::percent_decode_str;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub use self::environment::{EnvironmentProxies, ProxyVariableFault};
use super::authority;

/// A proxy. Neither `Debug` nor `Display` shows its password.
#[derive(Clone, PartialEq, Eq)]
pub struct EgressProxy {
    pub(super) host: Box<str>,
    pub(super) port: u16,
    /// Value of `Proxy-Authorization`.
    authorization: Option<Box<str>>,
}

impl EgressProxy {
    /// Reads `http://[user:password@]host[:port]`. User and password may be percent-encoded.
    ///
    /// # Errors
    /// The problem, without the value.
    pub fn parse(url: &str) -> Result<Self, &'static str> {
        let rest = match url.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest,
            Some(_) => return Err("is not an http:// proxy, and no other kind is supported"),
            None => return Err("does not start with http://"),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (user, place) = match rest.rsplit_once('@') {
            Some((user, place)) => (Some(user), place),
            None => (None, rest),
        };
        let (host, port) =
            authority::split(place).ok_or("has no valid host and port, or more behind them")?;
        let authorization = user.map(|user| {
            let (user, password) = user.split_once(':').unwrap_or((user, ""));
            let mut plain: Vec<u8> = percent_decode_str(user).collect();
            plain.push(b':');
            plain.extend(percent_decode_str(password));
            format!("Basic {}", BASE64_STANDARD.encode(plain)).into()
        });
        Ok(Self { host: host.to_ascii_lowercase().into(), port: port.unwrap_or(80), authorization })
    }

    /// Asks for a tunnel to `host:port`. Afterwards the stream is that host's.
    ///
    /// # Errors
    /// Why there is no tunnel; the host got nothing.
    pub(super) async fn open_tunnel(
        &self,
        stream: &mut TcpStream,
        host: &str,
        port: u16,
    ) -> Result<(), TunnelFault> {
        let target = authority::join(host, port);
        let mut request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n");
        if let Some(authorization) = &self.authorization {
            request.push_str("Proxy-Authorization: ");
            request.push_str(authorization);
            request.push_str("\r\n");
        }
        request.push_str("\r\n");
        stream.write_all(request.as_bytes()).await.map_err(TunnelFault::Broken)?;
        match read_status(stream).await? {
            status if status.is_success() => Ok(()),
            status => Err(TunnelFault::Refused(status)),
        }
    }
}

/// Reads the head of the answer, and nothing behind it: the first bytes through a tunnel are ours, in TLS and in HTTP.
async fn read_status(stream: &mut TcpStream) -> Result<StatusCode, TunnelFault> {
    let mut head = vec![0; MOST_HEAD_BYTES];
    let mut filled = 0;
    while filled < head.len() {
        match stream.read(&mut head[filled..]).await.map_err(TunnelFault::Broken)? {
            0 => return Err(TunnelFault::Broken(io::ErrorKind::UnexpectedEof.into())),
            read => filled += read,
        }
        let mut fields = [httparse::EMPTY_HEADER; MOST_FIELDS];
        let mut answer = httparse::Response::new(&mut fields);
        let parsed = answer.parse(&head[..filled]).map_err(|_| TunnelFault::NotHttp)?;
        if let httparse::Status::Complete(length) = parsed {
            let status = answer.code.and_then(|code| StatusCode::from_u16(code).ok());
            let status = status.ok_or(TunnelFault::NotHttp)?;
            let is_alone = length == filled || !status.is_success();
            return if is_alone { Ok(status) } else { Err(TunnelFault::NotHttp) };
        }
    }
    Err(TunnelFault::NotHttp)
}

/// Why a proxy opened no tunnel.
#[derive(Debug)]
pub enum TunnelFault {
    Refused(StatusCode),
    Broken(io::Error),
    NotHttp,
}

impl fmt::Display for TunnelFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TunnelFault::Refused(status) => write!(f, "it answered {status} to CONNECT"),
            TunnelFault::Broken(error) => write!(f, "it did not answer CONNECT: {error}"),
            TunnelFault::NotHttp => f.write_str("its answer to CONNECT is not HTTP, or has no end"),
        }
    }
}

impl fmt::Display for EgressProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&authority::join(&self.host, self.port))
    }
}

impl fmt::Debug for EgressProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EgressProxy({self})")
    }
}

/// Bounds of the head of an answer to CONNECT.
const MOST_HEAD_BYTES: usize = 16 * 1024;
const MOST_FIELDS: usize = 64;

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn a_proxy_is_a_host_a_port_and_perhaps_a_password() {
        for (url, shown, authorization) in [
            ("http://proxy:3128", "proxy:3128", None),
            ("HTTP://Proxy.Example/", "proxy.example:80", None),
            ("http://[::1]:8080", "[::1]:8080", None),
            ("http://Aladdin:open%20sesame@p:1", "p:1", Some("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==")),
            ("http://a:b@c@p", "p:80", Some("Basic YTpiQGM=")),
            ("http://user@p", "p:80", Some("Basic dXNlcjo=")),
        ] {
            let proxy = EgressProxy::parse(url).unwrap_or_else(|problem| panic!("{url} {problem}"));
            assert_eq!(
                (proxy.to_string(), proxy.authorization.as_deref()),
                (shown.to_owned(), authorization)
            );
            assert_eq!(format!("{proxy:?}"), format!("EgressProxy({shown})"));
        }
        for url in [
            "",
            "proxy:3128",
            "https://proxy:443",
            "socks5://proxy:1080",
            "http://",
            "http://proxy:0",
            "http://proxy:x",
            "http://proxy/path",
            "http://proxy?x",
            "http://user:pass@",
            "http://::1",
        ] {
            assert!(EgressProxy::parse(url).is_err(), "{url}");
        }
    }

    /// The bytes that the proxy got, and the outcome, where it answers with these bytes.
    async fn asked(proxy: &str, answer: &'static [u8]) -> (String, Result<(), String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let serve = async {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let mut got = Vec::new();
            while !got.ends_with(b"\r\n\r\n") {
                assert!(stream.read_buf(&mut got).await.expect("bytes") > 0);
            }
            // The client may have gone before the end of a long answer.
            let _ = stream.write_all(answer).await;
            String::from_utf8(got).expect("text")
        };
        let ask = async {
            let mut stream = TcpStream::connect(address).await.expect("connected");
            let proxy = EgressProxy::parse(proxy).expect("a proxy");
            let opened = proxy.open_tunnel(&mut stream, "2001:db8::1", 443).await;
            opened.map_err(|fault| fault.to_string())
        };
        tokio::join!(serve, ask)
    }

    #[tokio::test]
    async fn a_tunnel_is_asked_for_with_the_password() {
        let (got, opened) =
            asked("http://a:b@proxy", b"HTTP/1.0 200 Connection established\r\nVia: x\r\n\r\n").await;
        assert_eq!(
            got,
            "CONNECT [2001:db8::1]:443 HTTP/1.1\r\nHost: [2001:db8::1]:443\r\n\
             Proxy-Authorization: Basic YTpi\r\n\r\n"
        );
        assert_eq!(opened, Ok(()));
    }

    #[tokio::test]
    async fn what_is_no_tunnel_is_named() {
        static ENDLESS: [u8; 20_000] = [b'x'; 20_000];
        for (answer, problem) in [
            (&b"HTTP/1.1 407 No\r\nContent-Length: 2\r\n\r\nhi"[..], "407 Proxy Authentication Required"),
            (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", "502 Bad Gateway"),
            (b"HTTP/1.1 200 OK\r\n\r\nearly", "not HTTP"),
            (b"HTTP/1.1 200 OK\r\n", "did not answer CONNECT"),
            (b"SSH-2.0-OpenSSH\r\n\r\n", "not HTTP"),
            (&ENDLESS, "not HTTP"),
        ] {
            let (got, opened) = asked("http://proxy", answer).await;
            assert!(!got.contains("Proxy-Authorization"), "{got}");
            assert!(opened.as_ref().is_err_and(|fault| fault.contains(problem)), "{problem}: {opened:?}");
        }
    }
}

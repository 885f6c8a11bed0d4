//! URLs that webhooks go to.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use hyper::Uri;
use hyper::http::uri::PathAndQuery;

use crate::net::public_address;

/// An absolute URL without user name and fragment. `Debug` and `Display` leave out its query, which may be a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookUrl {
    /// The URL as it was written.
    pub text: Arc<str>,
    pub tls: bool,
    /// The host in lower case, without brackets.
    pub host: Box<str>,
    pub port: u16,
    pub target: PathAndQuery,
}

impl WebhookUrl {
    /// Reads a URL that can be read in one way only.
    ///
    /// # Errors
    /// The problem, without the URL.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if text.len() > MOST_URL_BYTES {
            return Err("is longer than 2048 bytes");
        }
        if text.contains(['#', '\\']) || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("has a fragment, a backslash, or a character that is not printable ASCII");
        }
        let uri: Uri = text.parse().map_err(|_| "is not a URL")?;
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            Some(_) | None => return Err("does not begin with https://"),
        };
        let authority = uri.authority().ok_or("names no host")?;
        if authority.as_str().contains('@') {
            return Err("has a user name or a password in it");
        }
        let host = authority.host().to_ascii_lowercase();
        let usual = if tls { 443 } else { 80 };
        let port = match authority.as_str()[host.len()..].strip_prefix(':') {
            None => usual,
            Some(port) => port.parse().ok().filter(|port| *port != 0).ok_or("has no valid port")?,
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err("names no host");
        }
        let target = uri.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
        Ok(Self { text: text.into(), tls, host: host.into(), port, target })
    }

    /// `host` or `host:port`, as a `Host` field spells it.
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.to_string() };
        match (self.tls, self.port) {
            (true, 443) | (false, 80) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }

    /// Scheme, host and port.
    pub fn origin(&self) -> String {
        format!("{}://{}", if self.tls { "https" } else { "http" }, self.authority())
    }

    /// True if the host is written as an address that is not public. A name's addresses are judged at each delivery.
    pub(super) fn is_surely_inside(&self) -> bool {
        let written = self.host.parse().ok().map(|ip| SocketAddr::new(ip, self.port));
        written.is_some_and(|address| public_address::all_public(vec![address]).is_err())
    }
}

impl fmt::Display for WebhookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.origin(), self.target.path())
    }
}

impl fmt::Debug for WebhookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

const MOST_URL_BYTES: usize = 2_048;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_read_in_one_way() {
        for (text, shown, target) in [
            ("https://acme.example", "https://acme.example/", "/"),
            ("HTTPS://Acme.example:443/a?token=b", "https://acme.example/a", "/a?token=b"),
            ("http://10.0.0.1:8080/x", "http://10.0.0.1:8080/x", "/x"),
            ("https://[2001:db8::1]:8443/", "https://[2001:db8::1]:8443/", "/"),
        ] {
            let url = WebhookUrl::parse(text).expect("a URL");
            assert_eq!((&*format!("{url:?}"), url.target.as_str()), (shown, target));
        }
        for wrong in [
            "",
            "acme.example",
            "/hooks",
            "ftp://acme.example/",
            "https://",
            "https://me@acme.example/",
            "https://me:pw@acme.example/",
            "https://acme.example:0/",
            "https://acme.example:/",
            "https://acme.example:99999/",
            "https://acme.example/#a",
            "https://acme.example\\.evil.example/",
            "https://acme example/",
        ] {
            assert!(WebhookUrl::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_address_that_is_written_is_judged() {
        let is_inside = |text: &str| WebhookUrl::parse(text).expect("a URL").is_surely_inside();
        for inside in
            ["https://127.0.0.1/", "https://[::1]/", "https://[::ffff:8.8.8.8]/", "https://10.1.2.3/"]
        {
            assert!(is_inside(inside), "{inside}");
        }
        assert!(!is_inside("https://8.8.8.8/") && !is_inside("https://acme.example/"));
    }
}

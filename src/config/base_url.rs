//! The root of an account's API.

use std::net::IpAddr;

use super::BaseUrl;
use super::reader::ValueFault;
use super::scalar::is_segment;
use crate::dashscope::region;
use crate::net::authority;

impl BaseUrl {
    /// `host` or `host:port`, as a `host` field spells it.
    pub fn authority(&self) -> String {
        match (self.tls, self.port) {
            (true, 443) | (false, 80) => self.bracketed_host(),
            (_, _) => self.socket_name(),
        }
    }

    /// `host:port`, to connect to.
    pub fn socket_name(&self) -> String {
        authority::join(&self.host, self.port)
    }

    fn bracketed_host(&self) -> String {
        if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() }
    }
}

/// Reads `http(s)://host[:port][/path]`.
pub(super) fn base_url(text: &str) -> Result<BaseUrl, ValueFault> {
    let (tls, rest) = match text.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (true, rest),
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (false, rest),
        Some(_) | None => return Err(wrong("does not start with http:// or https://")),
    };
    if rest.contains(['?', '#']) {
        return Err(wrong("has a query or a fragment"));
    }
    let (place, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    if place.contains('@') {
        let hint = "remove what stands before the @; keys belong into `keys`";
        return Err(ValueFault::new("has a user name or a password in it", hint));
    }
    let (host, port) = authority::split(place).ok_or_else(|| wrong("has no valid host and port"))?;
    let port = match port {
        None if tls => 443,
        None => 80,
        Some(port) => port,
    };
    check_path(path)?;
    let host = host.to_ascii_lowercase();
    if let Some(meant) = region::meant_host(&host) {
        let hint =
            format!("did you mean {meant}? An upstream key must not reach a host that only looks like it");
        return Err(ValueFault::new("has a host like one of DashScope's, but misspelt", hint));
    }
    Ok(BaseUrl { tls, host, port, path: path.to_owned() })
}

fn wrong(problem: &str) -> ValueFault {
    ValueFault::new(problem, "write the root of the API, like \"https://dashscope.aliyuncs.com\"")
}

fn check_path(path: &str) -> Result<(), ValueFault> {
    if path.ends_with('/') {
        return Err(wrong("ends in a slash"));
    }
    if let Some(ending) = OWN_ENDINGS.iter().find(|ending| path.ends_with(**ending)) {
        let problem = format!("ends in {ending}, which dashgate adds itself");
        return Err(ValueFault::new(problem, "leave this ending off: give what stands before it"));
    }
    match path.strip_prefix('/') {
        Some(segments) if !segments.split('/').all(is_segment) => Err(wrong("has a path that is not plain")),
        Some(_) | None => Ok(()),
    }
}

/// Tells whether only the operator's network reaches the host: loopback and private addresses, and local names.
pub(super) fn is_private(host: &str) -> bool {
    match host.parse() {
        Ok(IpAddr::V4(ip)) => ip.is_loopback() || ip.is_private() || ip.is_link_local(),
        Ok(IpAddr::V6(ip)) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
        Err(_) => {
            let host = host.trim_end_matches('.');
            !host.contains('.') || LOCAL_ENDINGS.iter().any(|ending| host.ends_with(ending))
        }
    }
}

/// Warns when an account's keys would cross the internet unencrypted.
pub(super) fn warn_of_cleartext(url: &BaseUrl, warn: impl FnOnce(&str, &str)) {
    if !url.tls && !is_private(&url.host) {
        warn("sends upstream keys unencrypted to a public host", "write https://");
    }
}

/// Path endings that clients write. In the base URL too, they would stand twice in the upstream path.
const OWN_ENDINGS: [&str; 6] =
    ["/api/v1", "/compatible-mode/v1", "/compatible-api/v1", "/api", "/compatible-mode", "/compatible-api"];

const LOCAL_ENDINGS: [&str; 6] = [".local", ".localhost", ".internal", ".svc", ".test", ".home.arpa"];

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<BaseUrl, String> {
        base_url(text).map_err(|wrong| wrong.problem)
    }

    #[test]
    fn roots() {
        for (text, tls, host, port, path) in [
            ("https://dashscope.aliyuncs.com", true, "dashscope.aliyuncs.com", 443, ""),
            ("HTTPS://DashScope.aliyuncs.com:8443", true, "dashscope.aliyuncs.com", 8443, ""),
            ("http://127.0.0.1:9000", false, "127.0.0.1", 9000, ""),
            ("http://[::1]", false, "::1", 80, ""),
            ("https://[2001:db8::1]:444/x/y", true, "2001:db8::1", 444, "/x/y"),
            ("http://dash_scope/base", false, "dash_scope", 80, "/base"),
        ] {
            let expected = BaseUrl { tls, host: host.into(), port, path: path.into() };
            assert_eq!(read(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_root() {
        for text in [
            "",
            "dashscope.aliyuncs.com",
            "ftp://host",
            "https://",
            "https:///x",
            "https://:443",
            "https://host:",
            "https://host:0",
            "https://host:65536",
            "https://host:+1",
            "https://ho st",
            "https://[::1",
            "https://[::1]443",
            "https://[host]",
            "https://::1",
            "https://user:pass@host",
            "https://host?x",
            "https://host#x",
            "https://host/",
            "https://host/api/v1",
            "https://host/x/compatible-mode/v1",
            "https://host/api",
            "https://host/a//b",
            "https://host/../b",
            "https://host/%61",
            "https://dashscope.aliyun.com",
            "https://DashScope-Int.aliyuncs.com:443",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_authority_names_a_port_only_where_it_must() {
        let url = |tls, host: &str, port| BaseUrl { tls, host: host.into(), port, path: String::new() };
        for (url, authority, socket) in [
            (
                url(true, "dashscope.aliyuncs.com", 443),
                "dashscope.aliyuncs.com",
                "dashscope.aliyuncs.com:443",
            ),
            (url(false, "127.0.0.1", 8090), "127.0.0.1:8090", "127.0.0.1:8090"),
            (url(false, "::1", 80), "[::1]", "[::1]:80"),
            (url(false, "::1", 443), "[::1]:443", "[::1]:443"),
        ] {
            assert_eq!((url.authority(), url.socket_name()), (authority.to_owned(), socket.to_owned()));
        }
    }

    #[test]
    fn private_hosts() {
        for host in
            ["localhost", "127.0.0.1", "10.1.2.3", "::1", "fd00::1", "sim", "sim.ns.svc", "a.internal"]
        {
            assert!(is_private(host), "{host}");
        }
        for host in ["dashscope.aliyuncs.com", "8.8.8.8", "2001:db8::1"] {
            assert!(!is_private(host), "{host}");
        }
    }
}

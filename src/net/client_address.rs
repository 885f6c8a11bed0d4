//! The address of a client, which trusted proxies before the gateway tell in `X-Forwarded-For`.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use hyper::header::{HeaderMap, HeaderName};

use super::networks::Networks;

/// Address of a client. IPv4 inside IPv6, as a listener for both has it, is IPv4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientAddress {
    pub ip: IpAddr,
    /// The port of the client's own connection; `None` for a client behind a proxy.
    pub port: Option<u16>,
}

impl ClientAddress {
    /// The client of a request on a connection from `peer`. Where that is a trusted proxy, it is the last address in
    /// `X-Forwarded-For` that is not one: addresses before it are what that client says, and may be forged. If all are
    /// trusted proxies, it is the first. The peer is the client where an entry on the way can't be read.
    pub fn of(peer: SocketAddr, headers: &HeaderMap, trusted: &Networks) -> Self {
        let own = Self { ip: peer.ip().to_canonical(), port: Some(peer.port()) };
        if trusted.is_empty() || !trusted.contain(own.ip) {
            return own;
        }
        let fields = headers.get_all(FORWARDED_FOR).iter().rev();
        let entries = fields.flat_map(|field| field.as_bytes().rsplit(|byte| *byte == b','));
        let mut client = own;
        // RFC 9110, 5.6.1.2: empty entries of a list count as none.
        for entry in entries.map(<[u8]>::trim_ascii).filter(|entry| !entry.is_empty()) {
            let Some(ip) = address(entry) else { return own };
            client = Self { ip, port: None };
            if !trusted.contain(ip) {
                break;
            }
        }
        client
    }
}

impl fmt::Display for ClientAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => SocketAddr::new(self.ip, port).fmt(f),
            None => self.ip.fmt(f),
        }
    }
}

/// The address of an entry; some proxies write a port behind it, and IPv6 in brackets then.
fn address(entry: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(entry).ok()?;
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok().map(IpAddr::V6);
    let with_port = || text.parse().ok().map(|address: SocketAddr| address.ip());
    let ip: IpAddr = text.parse().ok().or_else(with_port).or_else(bracketed)?;
    Some(ip.to_canonical())
}

/// No RFC defines it; its entries are addresses, and each proxy appends the one that it was called from.
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    fn client(peer: &str, fields: &[&str]) -> String {
        let trusted = ["10.0.0.0/8", "2001:db8:1::/48"].map(|text| text.parse().expect("a network"));
        let mut headers = HeaderMap::new();
        for field in fields {
            headers.append(FORWARDED_FOR, HeaderValue::from_bytes(field.as_bytes()).expect("a value"));
        }
        let peer = peer.parse().expect("an address with a port");
        ClientAddress::of(peer, &headers, &trusted.into_iter().collect()).to_string()
    }

    #[test]
    fn a_trusted_proxy_names_the_client() {
        for (fields, expected) in [
            (&["198.51.100.1"][..], "198.51.100.1"),
            (&["192.0.2.9, 198.51.100.1,10.0.0.3"], "198.51.100.1"),
            (&["192.0.2.9", "198.51.100.1", "10.0.0.3 , 10.0.0.4"], "198.51.100.1"),
            (&["198.51.100.1, , "], "198.51.100.1"),
            (&["198.51.100.1:4711"], "198.51.100.1"),
            (&["2001:db8::7"], "2001:db8::7"),
            (&["[2001:db8::7]"], "2001:db8::7"),
            (&["[2001:db8::7]:4711, 2001:db8:1::1"], "2001:db8::7"),
            (&["::ffff:198.51.100.1, ::ffff:10.0.0.3"], "198.51.100.1"),
            (&["not an address, 198.51.100.1"], "198.51.100.1"),
            (&["10.0.0.7, 10.0.0.8"], "10.0.0.7"),
        ] {
            for peer in ["10.0.0.1:5000", "[::ffff:10.0.0.1]:5000", "[2001:db8:1::5]:5000"] {
                assert_eq!(client(peer, fields), expected, "{peer} {fields:?}");
            }
        }
    }

    #[test]
    fn the_peer_is_the_client_where_nobody_trustworthy_says_otherwise() {
        assert_eq!(client("192.0.2.1:5000", &["198.51.100.1"]), "192.0.2.1:5000");
        assert_eq!(client("[::ffff:192.0.2.1]:5000", &[]), "192.0.2.1:5000");
        assert_eq!(client("[2001:db8::1]:5000", &["198.51.100.1"]), "[2001:db8::1]:5000");
        let malformed =
            ["198.51.100.1, unknown", "198.51.100.1, 10.0.0.256", "\"198.51.100.1\"", "_hidden, 10.0.0.2"];
        for field in ["", ",", "[10.0.0.2]"].into_iter().chain(malformed) {
            assert_eq!(client("10.0.0.1:5000", &[field]), "10.0.0.1:5000", "{field}");
        }
    }
}

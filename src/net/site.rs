//! Hosts and origins, as browsers name them. A web page makes the browser call any address, loopback too, and with DNS
//! rebinding it calls one under a name of its own. The browser then names the page's site in `Origin` or in `Host`.

use std::net::IpAddr;

/// True if `host[:port]` is a name of this machine that no DNS server can give to another one: `localhost`, a name below
/// it (RFC 6761, 6.3), or a loopback address.
pub fn is_this_machine(authority: &[u8]) -> bool {
    host(authority).is_some_and(|host| match address(host) {
        Some(address) => address.to_canonical().is_loopback(),
        None => labels(host).next_back().is_some_and(|last| last.eq_ignore_ascii_case(b"localhost")),
    })
}

/// True if `host[:port]` is a name that the owner of a domain can give to any address, of this machine too. A name
/// without a dot is no domain.
pub fn may_be_rebound(authority: &[u8]) -> bool {
    let is_domain = |host| address(host).is_none() && labels(host).nth(1).is_some();
    !is_this_machine(authority) && host(authority).is_none_or(is_domain)
}

fn address(host: &[u8]) -> Option<IpAddr> {
    let bare = host.strip_prefix(b"[").and_then(|host| host.strip_suffix(b"]")).unwrap_or(host);
    str::from_utf8(bare).ok()?.parse().ok()
}

/// The labels of a name; the root's empty one, behind a last dot, is left out.
fn labels(host: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    host.strip_suffix(b".").unwrap_or(host).split(|byte| *byte == b'.')
}

/// The host in `host[:port]`: a name, an address, or an IPv6 address in brackets. `None` if it is anything else.
///
/// Every request's `Host` is judged, and a table takes 5 instructions a byte, where the classes of `u8` took 30.
pub fn host(authority: &[u8]) -> Option<&[u8]> {
    let ends = |byte: &u8| !IN_HOST[usize::from(*byte)];
    let end = match authority.strip_prefix(b"[") {
        Some(address) => address.iter().position(|byte| *byte == b']')? + 2,
        None => authority.iter().position(ends).unwrap_or(authority.len()),
    };
    let (host, port) = authority.split_at(end);
    let is_address = |address: &[u8]| address.iter().all(|byte| *byte == b':' || !ends(byte));
    let is_host =
        host.strip_prefix(b"[").map_or(!host.is_empty(), |host| is_address(&host[..host.len() - 1]));
    let is_port =
        port.split_first().is_none_or(|(colon, port)| *colon == b':' && port.iter().all(u8::is_ascii_digit));
    (is_host && is_port).then_some(host)
}

/// Bytes of a name or an IPv4 address.
const IN_HOST: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0_u8;
    loop {
        table[byte as usize] = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
        if byte == u8::MAX {
            break table;
        }
        byte += 1;
    }
};

/// `host[:port]` of an `Origin` (RFC 6454, 7.1). `None` for an opaque one, which is `null`.
pub fn of_origin(origin: &[u8]) -> Option<&[u8]> {
    let colon = origin.windows(SCHEME_END.len()).position(|bytes| bytes == SCHEME_END)?;
    Some(&origin[colon + SCHEME_END.len()..])
}

const SCHEME_END: &[u8] = b"://";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_this_machine_are_known() {
        for host in [
            "localhost",
            "LocalHost:8080",
            "app.localhost:1",
            "localhost.",
            "127.0.0.1",
            "127.8.9.1:8080",
            "[::1]",
            "[::1]:8080",
            "[::ffff:127.0.0.1]:80",
        ] {
            assert!(is_this_machine(host.as_bytes()), "{host}");
        }
    }

    #[test]
    fn any_other_host_is_not_this_machine() {
        for host in [
            "",
            ":8080",
            "evil.example",
            "evil.example:8080",
            "localhost.evil.example",
            "notlocalhost",
            "127.0.0.1.evil.example",
            "localhost:80@evil.example",
            "user@localhost",
            "localhost/",
            "127.1",
            "0.0.0.0",
            "2130706433",
            "10.0.0.1:8080",
            "[::2]:80",
            "[::1",
            "::1]",
            "[::1]x",
            "localhost:x",
            "localhost, evil.example",
            "null",
            "[localhost]:1]",
            "\u{ff4c}ocalhost",
        ] {
            assert!(!is_this_machine(host.as_bytes()), "{host}");
        }
    }

    #[test]
    fn a_domain_of_any_owner_may_lead_here() {
        for host in ["evil.example", "evil.example:8081", "127.0.0.1.evil.example", "a b", ""] {
            assert!(may_be_rebound(host.as_bytes()), "{host}");
        }
        for host in
            ["localhost:8081", "app.localhost", "127.0.0.1", "[::1]:1", "10.0.0.1", "gateway", "gateway.:80"]
        {
            assert!(!may_be_rebound(host.as_bytes()), "{host}");
        }
    }

    #[test]
    fn an_origin_names_a_host_and_a_port_or_nothing() {
        for (origin, expected) in [
            ("http://localhost:3000", Some("localhost:3000")),
            ("https://evil.example", Some("evil.example")),
            ("chrome-extension://abc", Some("abc")),
            ("null", None),
            ("", None),
        ] {
            assert_eq!(of_origin(origin.as_bytes()), expected.map(str::as_bytes), "{origin}");
        }
    }
}

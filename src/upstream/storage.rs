//! Object storage, which holds results and input files. Requests go only to hosts that the operator allows, only to
//! addresses that were checked, and never with a key.

use std::rc::Rc;
use std::time::Duration;

use hyper::Uri;
use hyper::header::HeaderValue;
use hyper::http::uri::PathAndQuery;

use super::Upstream;
use super::pool::{Connection, ConnectionPool, tls};
use crate::config::StorageHost;
use crate::net::dial::{AddressRule, ConnectFault, Destination};

/// Host and port of a storage URL.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct StorageOrigin {
    pub(super) tls: bool,
    /// The host without brackets.
    pub(super) host: Box<str>,
    pub(super) port: u16,
    /// The operator named the host to the letter, so it may have any address.
    pub(super) is_named: bool,
}

/// URL of an object or a bucket whose host is allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorageUrl {
    origin: StorageOrigin,
    pub target: PathAndQuery,
    /// Value of the `Host` field.
    pub host: HeaderValue,
}

impl StorageUrl {
    /// Reads an absolute URL; `None` if none of the hosts allows it, or it could be read in two ways.
    pub fn of(url: &str, hosts: &[StorageHost]) -> Option<Self> {
        let uri: Uri = url.parse().ok()?;
        let tls = match uri.scheme_str()? {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        let authority = uri.authority()?;
        let host = authority.host().to_ascii_lowercase();
        let after = authority.as_str().get(host.len()..)?;
        let port = match after.strip_prefix(':') {
            None if after.is_empty() => {
                if tls {
                    443
                } else {
                    80
                }
            }
            None => return None,
            Some(port) => port.parse().ok().filter(|port| *port != 0)?,
        };
        let plain = host.trim_start_matches('[').trim_end_matches(']');
        let allowing = hosts.iter().find(|known| known.allows(tls, plain, port))?;
        let is_named = matches!(allowing, StorageHost::Origin(_));
        let target = uri.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
        let host = HeaderValue::from_str(&authority.as_str().to_ascii_lowercase()).ok()?;
        Some(Self { origin: StorageOrigin { tls, host: plain.into(), port, is_named }, target, host })
    }

    /// The URL that a redirect from here leads to; `None` if none of the hosts allows it.
    pub fn follow(&self, location: &str, hosts: &[StorageHost]) -> Option<Self> {
        if location.starts_with('/') && !location.starts_with("//") {
            return Some(Self { target: location.parse().ok()?, ..self.clone() });
        }
        let next = Self::of(location, hosts)?;
        // A redirect must not lead from TLS to cleartext.
        (next.origin.tls || !self.origin.tls).then_some(next)
    }
}

impl Upstream {
    /// Takes a connection to storage, for one request.
    ///
    /// # Errors
    /// The [`ConnectFault`]; nothing was sent. `Forbidden` if the name leads to an internal address.
    pub(super) async fn storage(
        &self,
        place: &StorageUrl,
        patience: Duration,
    ) -> Result<Connection, ConnectFault> {
        let known = self.storage.borrow().get(&place.origin).cloned();
        let pool = match known {
            Some(pool) => pool,
            None => {
                let pool = ConnectionPool::to(self.destination(&place.origin)?, Rc::clone(&self.dialer));
                let mut pools = self.storage.borrow_mut();
                if pools.len() < MOST_ORIGINS {
                    pools.insert(place.origin.clone(), Rc::clone(&pool));
                }
                pool
            }
        };
        pool.connection(patience).await
    }

    fn destination(&self, origin: &StorageOrigin) -> Result<Destination, ConnectFault> {
        let StorageOrigin { tls: is_tls, host, port, is_named } = origin;
        let tls =
            tls(*is_tls, host, None).map_err(|error| ConnectFault::Tls(std::io::Error::other(error)))?;
        let rule = if *is_named { AddressRule::Any } else { AddressRule::PublicOnly };
        let proxy = self.proxies.of(*is_tls, host, *port).cloned();
        Ok(Destination { host: host.clone(), port: *port, tls, proxy, rule })
    }
}

/// Number of hosts whose idle connections are kept.
const MOST_ORIGINS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::BaseUrl;

    fn hosts() -> [StorageHost; 2] {
        let named = BaseUrl { tls: false, host: "127.0.0.1".into(), port: 8091, path: String::new() };
        [StorageHost::Pattern("*.oss.example".into()), StorageHost::Origin(named)]
    }

    fn origin(url: &str) -> Option<(bool, String, u16, bool)> {
        let StorageOrigin { tls, host, port, is_named } = StorageUrl::of(url, &hosts())?.origin;
        Some((tls, host.into(), port, is_named))
    }

    #[test]
    fn only_listed_hosts_are_places() {
        assert_eq!(origin("https://a.oss.example/x?y=%2F"), Some((true, "a.oss.example".into(), 443, false)));
        assert_eq!(origin("HTTPS://A.OSS.example:443"), Some((true, "a.oss.example".into(), 443, false)));
        assert_eq!(origin("http://127.0.0.1:8091/x"), Some((false, "127.0.0.1".into(), 8091, true)));
        for url in [
            "http://a.oss.example/x",
            "https://a.oss.example:8443/x",
            "https://a.oss.example:0/x",
            "https://a.oss.example:99999/x",
            "https://a.oss.example:/x",
            "https://user@a.oss.example/x",
            "https://evil.example/x",
            "https://evil.example#.oss.example",
            "https://evil.example?.oss.example",
            "https://evil.example\\.oss.example/",
            "https://127.0.0.1:8091/x",
            "http://127.0.0.1:8092/x",
            "http://localhost:8091/x",
            "http://[::1]:8091/x",
            "ftp://a.oss.example/x",
            "file:///etc/passwd",
            "//a.oss.example/x",
            "/x",
            "",
        ] {
            assert_eq!(origin(url), None, "{url}");
        }
    }

    #[test]
    fn a_place_keeps_its_target_to_the_letter() {
        let place = StorageUrl::of("https://a.oss.example/b%20c.mp4?Expires=1&Signature=a%2Bb%3D", &hosts())
            .expect("a place");
        assert_eq!(place.target.as_str(), "/b%20c.mp4?Expires=1&Signature=a%2Bb%3D");
        assert_eq!(place.host, "a.oss.example");
    }

    #[test]
    fn redirects_stay_on_the_list() {
        let place = StorageUrl::of("https://a.oss.example/x", &hosts()).expect("a place");
        let leads = |location| place.follow(location, &hosts()).is_some();
        assert!(leads("https://b.oss.example/y") && leads("/y?z"));
        for location in [
            "https://169.254.169.254/latest",
            "http://127.0.0.1:8091/y",
            "http://b.oss.example/y",
            "//evil.example/y",
            "https://evil.example/y",
            "y",
        ] {
            assert!(!leads(location), "{location}");
        }
    }
}

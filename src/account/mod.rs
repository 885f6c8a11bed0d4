//! Alibaba Cloud accounts: where their API lives and the keys that open it.

use std::fmt;
use std::sync::Arc;

use hyper::header::HeaderValue;

use crate::config::{self, BaseUrl, Secret};

/// One account: one namespace of tasks, one set of quotas, some upstream keys.
#[derive(Debug)]
pub struct Account {
    pub name: Arc<str>,
    pub base_url: BaseUrl,
    /// The `host` field of every request to it.
    pub host: HeaderValue,
    /// PEM of certificate authorities trusted beside the public ones.
    pub ca_pem: Option<Vec<u8>>,
    keys: Vec<UpstreamKey>,
}

impl Account {
    pub fn new(config: &config::Account) -> Self {
        let host = authority(&config.base_url);
        Self {
            name: Arc::clone(&config.name),
            base_url: config.base_url.clone(),
            host: HeaderValue::try_from(host).unwrap_or(HeaderValue::from_static("")),
            ca_pem: config.ca_pem.clone(),
            keys: config.keys.iter().filter_map(UpstreamKey::new).collect(),
        }
    }

    /// The key to sign with now.
    pub fn key(&self) -> Option<&UpstreamKey> {
        self.keys.first()
    }
}

/// A credential of ours at DashScope, ready to be sent.
#[derive(Clone)]
pub struct UpstreamKey {
    bearer: HeaderValue,
}

impl UpstreamKey {
    fn new(secret: &Secret) -> Option<Self> {
        let mut bearer = HeaderValue::try_from(format!("{BEARER}{}", secret.expose())).ok()?;
        bearer.set_sensitive(true);
        Some(Self { bearer })
    }

    /// The whole `authorization` field.
    pub fn bearer(&self) -> &HeaderValue {
        &self.bearer
    }

    /// Whether the secret stands anywhere in the bytes: what bears it must not reach a client.
    pub fn stands_in(&self, bytes: &[u8]) -> bool {
        let secret = &self.bearer.as_bytes()[BEARER.len()..];
        bytes.len() >= secret.len() && memchr::memmem::find(bytes, secret).is_some()
    }
}

impl fmt::Debug for UpstreamKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// `host` or `host:port`, as a `host` field spells it.
fn authority(url: &BaseUrl) -> String {
    let host = if url.host.contains(':') { format!("[{}]", url.host) } else { url.host.clone() };
    match (url.tls, url.port) {
        (true, 443) | (false, 80) => host,
        (_, port) => format!("{host}:{port}"),
    }
}

const BEARER: &str = "Bearer ";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_authority_names_a_port_only_where_it_must() {
        let url = |tls, host: &str, port| BaseUrl { tls, host: host.into(), port, path: String::new() };
        assert_eq!(authority(&url(true, "dashscope.aliyuncs.com", 443)), "dashscope.aliyuncs.com");
        assert_eq!(authority(&url(false, "127.0.0.1", 8090)), "127.0.0.1:8090");
        assert_eq!(authority(&url(false, "::1", 443)), "[::1]:443");
    }

    #[test]
    fn an_upstream_key_is_never_printed() {
        let key = UpstreamKey::new(&Secret::new("sk-upstream")).expect("a key");
        assert_eq!(format!("{key:?}{:?}", key.bearer()), "***Sensitive");
        assert!(key.stands_in(b"x sk-upstream y"));
    }
}

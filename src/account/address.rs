//! The address of an account's API.

use std::sync::Arc;
use std::time::Instant;

use hyper::header::HeaderValue;

use super::cooldown::Cooldown;
use crate::config::{self, BaseUrl};

/// Base URL of an account, and the certificate authorities trusted for it. A reload that changes neither keeps the
/// account's address, with the connections to it.
#[derive(Debug)]
pub struct Address {
    pub base_url: BaseUrl,
    /// The `host` field of every request to the account.
    pub host: HeaderValue,
    /// PEM of certificate authorities trusted beside the public ones.
    pub ca_pem: Option<Vec<u8>>,
    /// Rests while the host can't be reached.
    pub(super) cooldown: Arc<Cooldown>,
}

impl Address {
    pub(super) fn new(config: &config::AccountSettings, origin: Instant) -> Self {
        let host = HeaderValue::try_from(authority(&config.base_url));
        Self {
            base_url: config.base_url.clone(),
            host: host.unwrap_or(HeaderValue::from_static("")),
            ca_pem: config.ca_pem.clone(),
            cooldown: Arc::new(Cooldown::new(origin)),
        }
    }

    pub(super) fn is_of(&self, config: &config::AccountSettings) -> bool {
        self.base_url == config.base_url && self.ca_pem == config.ca_pem
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
}

//! The address of an account's API.

use std::sync::Arc;
use std::time::Instant;

use hyper::header::HeaderValue;

use super::cooldown::Cooldown;
use crate::config::{self, BaseUrl};
use crate::net::egress_proxy::EgressProxy;

/// Base URL of an account, the certificate authorities trusted for it, and the proxy on the way. A reload that changes
/// none of them keeps the account's address, with the connections to it.
#[derive(Debug)]
pub struct Address {
    pub base_url: BaseUrl,
    /// The `host` field of every request to the account.
    pub host: HeaderValue,
    /// PEM of certificate authorities trusted beside the public ones.
    pub ca_pem: Option<Vec<u8>>,
    pub proxy: Option<Arc<EgressProxy>>,
    /// Rests while the host can't be reached.
    pub(super) cooldown: Arc<Cooldown>,
}

impl Address {
    pub(super) fn new(config: &config::AccountSettings, origin: Instant) -> Self {
        let host = HeaderValue::try_from(config.base_url.authority());
        Self {
            base_url: config.base_url.clone(),
            host: host.unwrap_or(HeaderValue::from_static("")),
            ca_pem: config.ca_pem.clone(),
            proxy: config.proxy.clone(),
            cooldown: Arc::new(Cooldown::new(origin)),
        }
    }

    pub(super) fn is_of(&self, config: &config::AccountSettings) -> bool {
        self.base_url == config.base_url && self.ca_pem == config.ca_pem && self.proxy == config.proxy
    }
}

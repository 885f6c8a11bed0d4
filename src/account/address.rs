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
        let host = HeaderValue::try_from(config.base_url.authority());
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

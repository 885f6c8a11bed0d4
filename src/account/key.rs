//! Upstream keys: our credentials at DashScope.

use std::fmt;
use std::sync::Arc;

use hyper::header::HeaderValue;
use sha2::{Digest, Sha256};

use super::cooldown::Cooldown;
use super::health::Health;
use crate::config::Secret;
use crate::dashscope::headers::bears;

/// A credential of ours at DashScope, ready to be sent. Cheap to clone.
#[derive(Clone)]
pub struct UpstreamKey {
    bearer: HeaderValue,
    pub(super) cooldown: Arc<Cooldown>,
}

impl UpstreamKey {
    pub(super) fn new(secret: &Secret, health: &Health) -> Option<Self> {
        let mut bearer = HeaderValue::try_from(format!("{BEARER}{}", secret.expose())).ok()?;
        bearer.set_sensitive(true);
        Some(Self { bearer, cooldown: health.key(Sha256::digest(secret.expose()).into()) })
    }

    /// The whole `authorization` field.
    pub fn bearer(&self) -> &HeaderValue {
        &self.bearer
    }

    /// Whether the secret stands anywhere in the bytes: what bears it must not reach a client.
    pub fn stands_in(&self, bytes: &[u8]) -> bool {
        let secret = &self.bearer.as_bytes()[BEARER.len()..];
        bears(bytes, secret)
    }
}

impl fmt::Debug for UpstreamKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

const BEARER: &str = "Bearer ";

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn an_upstream_key_is_never_printed() {
        let health = Health::new(Instant::now());
        let key = UpstreamKey::new(&Secret::new("sk-upstream"), &health).expect("a key");
        assert_eq!(format!("{key:?}{:?}", key.bearer()), "***Sensitive");
        assert!(key.stands_in(b"x sk-upstream y"));
    }
}

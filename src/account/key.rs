//! Upstream keys: the gateway's credentials at DashScope.

use std::fmt;
use std::sync::Arc;

use hyper::header::HeaderValue;
use sha2::{Digest, Sha256};

use super::cooldown::Cooldown;
use super::health::AccountHealth;
use crate::config::Secret;
use crate::dashscope::headers::SecretFinder;

/// A credential of the gateway at DashScope, ready to be sent. Cheap to clone.
#[derive(Clone)]
pub struct UpstreamKey {
    bearer: HeaderValue,
    secret: SecretFinder<Arc<[u8]>>,
    pub(super) cooldown: Arc<Cooldown>,
}

impl UpstreamKey {
    pub(super) fn new(secret: &Secret, health: &AccountHealth) -> Option<Self> {
        let mut bearer = HeaderValue::try_from(format!("{BEARER}{}", secret.expose())).ok()?;
        bearer.set_sensitive(true);
        let cooldown = health.key(Sha256::digest(secret.expose()).into());
        Some(Self { bearer, secret: SecretFinder::new(secret.expose().as_bytes().into()), cooldown })
    }

    /// The whole `authorization` field.
    pub fn bearer(&self) -> &HeaderValue {
        &self.bearer
    }

    /// The secret to search for: a header or body with the secret must not reach a client.
    pub fn secret(&self) -> &SecretFinder<Arc<[u8]>> {
        &self.secret
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
        let health = AccountHealth::new(Instant::now());
        let key = UpstreamKey::new(&Secret::new("sk-upstream"), &health).expect("a key");
        assert_eq!(format!("{key:?}{:?}", key.bearer()), "***Sensitive");
        assert!(key.secret().stands_in(b"x sk-upstream y"));
    }
}

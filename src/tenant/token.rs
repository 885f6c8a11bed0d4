//! Tokens of the admin API.

use std::fmt;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::key::KeyDigest;
use crate::config::{AdminRole, AdminSettings, Secret};

/// One token, as its digest.
pub struct AdminToken {
    digest: KeyDigest,
    /// Name of its holder; `None` for the token without a name.
    pub name: Option<Arc<str>>,
    pub role: AdminRole,
}

impl AdminToken {
    /// All tokens of the configuration.
    pub fn all(settings: &AdminSettings) -> Vec<Self> {
        let unnamed = settings.token.iter().map(|secret| Self::new(secret, None, AdminRole::Operate));
        let named = settings.tokens.iter();
        unnamed
            .chain(named.map(|token| Self::new(&token.token, Some(Arc::clone(&token.name)), token.role)))
            .collect()
    }

    pub fn new(secret: &Secret, name: Option<Arc<str>>, role: AdminRole) -> Self {
        Self { digest: Sha256::digest(secret.expose()).into(), name, role }
    }

    /// Compares in constant time.
    pub fn is(&self, presented: &[u8]) -> bool {
        let presented: KeyDigest = Sha256::digest(presented).into();
        let pairs = self.digest.iter().zip(&presented);
        std::hint::black_box(pairs.fold(0, |unlike, (own, other)| unlike | (own ^ other))) == 0
    }

    /// Eight hex digits that distinguish tokens in logs. They come from a digest of the digest with a prefix of its
    /// own, so that no table of digests reveals the token.
    pub fn fingerprint(&self) -> String {
        let digest = Sha256::new().chain_update("dashgate admin token").chain_update(self.digest).finalize();
        digest[..4].iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

//! The admin token.

use std::fmt;

use sha2::{Digest, Sha256};

use super::key::KeyDigest;
use crate::config::Secret;

/// Digest of the configured token.
pub struct AdminToken(KeyDigest);

impl AdminToken {
    pub fn new(secret: &Secret) -> Self {
        Self(Sha256::digest(secret.expose()).into())
    }

    /// Compares in constant time.
    pub fn is(&self, presented: &[u8]) -> bool {
        let presented: KeyDigest = Sha256::digest(presented).into();
        let pairs = self.0.iter().zip(&presented);
        std::hint::black_box(pairs.fold(0, |unlike, (own, other)| unlike | (own ^ other))) == 0
    }

    /// Eight hex digits that distinguish tokens in logs. They come from a digest of the digest with a prefix of its
    /// own, so that no table of digests reveals the token.
    pub fn fingerprint(&self) -> String {
        let digest = Sha256::new().chain_update("dashgate admin token").chain_update(self.0).finalize();
        digest[..4].iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

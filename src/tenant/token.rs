//! The admin token.

use std::fmt;

use sha2::{Digest, Sha256};

use super::key::KeyDigest;
use crate::config::Secret;

/// The digest of the configured token.
pub struct AdminToken(KeyDigest);

impl AdminToken {
    pub fn new(secret: &Secret) -> Self {
        Self(Sha256::digest(secret.expose()).into())
    }

    /// Takes the same time whatever is presented.
    pub fn is(&self, presented: &[u8]) -> bool {
        let presented: KeyDigest = Sha256::digest(presented).into();
        let pairs = self.0.iter().zip(&presented);
        std::hint::black_box(pairs.fold(0, |unlike, (own, other)| unlike | (own ^ other))) == 0
    }

    /// Eight hex digits that tell one token from another in logs. They are a digest of the digest, and under a name of
    /// their own, so nobody can look them up.
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

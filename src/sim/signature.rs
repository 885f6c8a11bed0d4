//! Signatures of upload policies and of URLs.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

/// The secret behind the access key id that the simulator's OSS knows.
pub(super) struct SigningSecret([u8; 16]);

impl SigningSecret {
    pub(super) fn random() -> SigningSecret {
        SigningSecret(uuid::Uuid::new_v4().into_bytes())
    }

    /// HMAC-SHA-256 (RFC 2104) in Base64.
    pub(super) fn sign(&self, text: &str) -> String {
        let mut block = [0; 64];
        block[..self.0.len()].copy_from_slice(&self.0);
        let inner = Sha256::new().chain_update(block.map(|byte| byte ^ 0x36)).chain_update(text).finalize();
        let outer = Sha256::new().chain_update(block.map(|byte| byte ^ 0x5c)).chain_update(inner).finalize();
        STANDARD.encode(outer)
    }
}

pub(super) const ACCESS_KEY_ID: &str = "LTAI5tSimulator0000000000";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_hmac_sha_256() {
        let secret = SigningSecret([0x0b; 16]);
        // Computed with Python's hmac module.
        assert_eq!(secret.sign("Hi There"), "SSzgIP4lNKV4ncOEiAbHj09nETl/COfnoSylpEg8iqY=");
    }
}

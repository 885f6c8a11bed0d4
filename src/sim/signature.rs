//! Signatures of upload policies and of URLs.

use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
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

/// A signed URL for the result file `name`, valid until the given time.
pub(super) fn signed_url(secret: &SigningSecret, base: &str, name: &str, until: SystemTime) -> String {
    let expires = until.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs().to_string();
    let signature = secret.sign(&text_to_sign(name, &expires));
    let signature = utf8_percent_encode(&signature, NON_ALPHANUMERIC);
    format!(
        "{base}/dashscope-result/{name}?Expires={expires}&OSSAccessKeyId={ACCESS_KEY_ID}&Signature={signature}"
    )
}

pub(super) fn text_to_sign(name: &str, expires: &str) -> String {
    format!("GET\n\n\n{expires}\n/dashscope-result/{name}")
}

pub(super) const ACCESS_KEY_ID: &str = "LTAI5tSimulator0000000000";

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn signatures_are_hmac_sha_256() {
        let secret = SigningSecret([0x0b; 16]);
        // Computed with Python's hmac module.
        assert_eq!(secret.sign("Hi There"), "SSzgIP4lNKV4ncOEiAbHj09nETl/COfnoSylpEg8iqY=");
    }

    #[test]
    fn a_signed_url_names_its_end() {
        let url = signed_url(
            &SigningSecret::random(),
            "http://h",
            "a.mp4",
            SystemTime::UNIX_EPOCH + Duration::from_secs(7),
        );
        assert!(url.starts_with("http://h/dashscope-result/a.mp4?Expires=7&OSSAccessKeyId=LTAI"));
    }
}

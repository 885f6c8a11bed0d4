//! Signatures of deliveries: HMAC-SHA256 over id, time and body, as Standard Webhooks has it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::config::WebhookSecret;

/// The value of `webhook-signature`: a signature by each secret, so that a receiver may know either.
pub(super) fn signatures(secrets: &[WebhookSecret], id: &str, timestamp: u64, body: &[u8]) -> String {
    let sign = |secret: &WebhookSecret| {
        // Any length is a key.
        let mut mac = Hmac::<Sha256>::new_from_slice(secret.expose()).ok()?;
        mac.update(format!("{id}.{timestamp}.").as_bytes());
        mac.update(body);
        Some(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
    };
    secrets.iter().filter_map(sign).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, WebhookEndpoint};

    fn endpoint(secrets: &str) -> WebhookEndpoint {
        let text = format!(
            "accounts = [{{ name = \"a\", base_url = \"https://h\", keys = [\"sk-1\"] }}]\n[[tenants]]\nname = \"t\"\n\
             keys = [{{ id = \"i\", key = \"0123456789abcdef\" }}]\n\
             webhooks = [{{ url = \"https://acme.example\", secrets = [{secrets}] }}]"
        );
        let loaded = Config::parse(&text, std::path::Path::new("."), &|_| None).expect("a configuration");
        loaded.config.tenants[0].webhooks.endpoints[0].clone()
    }

    /// The signature was made by the specification's library for Python.
    #[test]
    fn a_signature_is_that_of_the_specification() {
        let secret = "\"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\"";
        let signed = |secrets: &str| {
            let body = br#"{"test": 2432232314}"#;
            signatures(&endpoint(secrets).secrets, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body)
        };
        let expected = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        assert_eq!(signed(secret), expected);
        let both = signed(&format!("{secret}, \"whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\""));
        let [first, second] = both.split(' ').collect::<Vec<_>>()[..] else { panic!("{both}") };
        assert_eq!(first, expected);
        assert!(second.starts_with("v1,") && second.len() == expected.len() && second != expected);
    }
}

//! Browser tokens: short-lived keys that a tenant's own server makes for the pages of its users.
//!
//! A token is kept nowhere. It names its key and its end, and bears a signature of both and of the key's secret, so that it
//! ends with the secret. The settings in force say what a token may do.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::key::{BROWSER_TOKEN, KeyDigest};
use crate::store::{EarlierSecrets, LONGEST_TOKEN, MOST_TOKEN_SECRETS, TokenSecret};

/// A token as a client presents it. Its signature is not checked yet.
pub(super) struct PresentedToken {
    /// Version, end and key id: all that is signed beside the key's secret.
    signed: Vec<u8>,
    signature: [u8; SIGNATURE_BYTES],
}

impl PresentedToken {
    /// Reads what follows the prefix of tokens; `None` if it has another form.
    pub(super) fn read(text: &[u8]) -> Option<Self> {
        let mut signed = URL_SAFE_NO_PAD.decode(text).ok()?;
        let signature = signed.split_off(signed.len().checked_sub(SIGNATURE_BYTES)?);
        let is_known = signed.first() == Some(&VERSION) && signed.len() > ID_BEGINS;
        is_known.then_some(())?;
        std::str::from_utf8(&signed[ID_BEGINS..]).ok()?;
        Some(Self { signed, signature: signature.try_into().ok()? })
    }

    /// The id of the key that made the token.
    pub(super) fn key_id(&self) -> &str {
        std::str::from_utf8(&self.signed[ID_BEGINS..]).unwrap_or_default()
    }

    /// End of the token.
    pub(super) fn ends_at(&self) -> SystemTime {
        let seconds = self.signed[1..ID_BEGINS].try_into().map_or(0, u32::from_be_bytes);
        UNIX_EPOCH + Duration::from_secs(seconds.into())
    }
}

/// The secrets that sign tokens, as the store has them. The first one signs.
#[derive(Debug, Default)]
pub struct TokenSigner(ArcSwap<Vec<TokenSecret>>);

impl TokenSigner {
    /// Takes over the secrets of the store, the one that signs first.
    pub(super) fn load(&self, secrets: Vec<TokenSecret>) {
        self.0.store(secrets.into());
    }

    /// Signs with this secret from now on.
    pub(super) fn add(&self, secret: &TokenSecret, earlier: EarlierSecrets) {
        self.0.rcu(|known| {
            let mut secrets = vec![*secret];
            if earlier == EarlierSecrets::End {
                return secrets;
            }
            let others = known.iter().filter(|other| other.bytes != secret.bytes);
            let retired = |other: &TokenSecret| TokenSecret {
                retires_at: other.retires_at.or(Some(secret.made_at + LONGEST_TOKEN)),
                ..*other
            };
            secrets.extend(others.map(retired).filter(|other| other.counts(secret.made_at)));
            secrets.truncate(MOST_TOKEN_SECRETS);
            secrets
        });
    }

    /// A token for a key, given by its id and the digest of its secret. It ends at a whole second. `None` if there is no
    /// secret to sign with yet.
    pub fn sign(&self, key_id: &str, digest: &KeyDigest, ends_at: SystemTime) -> Option<String> {
        let secrets = self.0.load();
        let seconds = ends_at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let mut token = vec![VERSION];
        token.extend(u32::try_from(seconds).unwrap_or(u32::MAX).to_be_bytes());
        token.extend(key_id.as_bytes());
        let signature = signature(secrets.first()?, &token, digest).finalize();
        token.extend(signature.into_bytes());
        Some(format!("{BROWSER_TOKEN}{}", URL_SAFE_NO_PAD.encode(token)))
    }

    /// True if the token was signed here for the key's secret with this digest.
    pub(super) fn verify(&self, token: &PresentedToken, digest: &KeyDigest, now: SystemTime) -> bool {
        let secrets = self.0.load();
        let mut counting = secrets.iter().filter(|secret| secret.counts(now));
        counting.any(|secret| signature(secret, &token.signed, digest).verify_slice(&token.signature).is_ok())
    }
}

fn signature(secret: &TokenSecret, signed: &[u8], digest: &KeyDigest) -> Hmac<Sha256> {
    // HMAC fills a key up to a block with zeros (RFC 2104, 2).
    let mut key = [0; 64];
    key[..secret.bytes.len()].copy_from_slice(&secret.bytes);
    let mut signature = Hmac::new(&key.into());
    signature.update(digest);
    signature.update(signed);
    signature
}

/// Version of the form of tokens.
const VERSION: u8 = 1;
/// Position of the key's id, behind the version and four bytes of the end in seconds since 1970.
const ID_BEGINS: usize = 5;
const SIGNATURE_BYTES: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn secret(byte: u8, made: u64) -> TokenSecret {
        TokenSecret { bytes: [byte; 32], made_at: at(made), retires_at: None }
    }

    fn read(token: &str) -> Option<PresentedToken> {
        PresentedToken::read(token.strip_prefix(BROWSER_TOKEN)?.as_bytes())
    }

    #[test]
    fn a_token_tells_its_key_and_its_end_and_holds_for_its_secret_alone() {
        let signer = TokenSigner::default();
        assert_eq!(signer.sign("acme-prod", &[7; 32], at(2_000)), None);
        signer.add(&secret(1, 1_000), EarlierSecrets::Retire);
        let token = signer.sign("acme-prod", &[7; 32], at(2_000)).expect("a token");
        // A WebSocket's subprotocol is a token of HTTP (RFC 6455, 4.1).
        assert!(token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)), "{token}");
        let presented = read(&token).expect("a token");
        assert_eq!((presented.key_id(), presented.ends_at()), ("acme-prod", at(2_000)));
        assert!(signer.verify(&presented, &[7; 32], at(1_000)));
        assert!(!signer.verify(&presented, &[8; 32], at(1_000)), "another secret of the key");
        let other = TokenSigner::default();
        other.add(&secret(2, 1_000), EarlierSecrets::Retire);
        assert!(!other.verify(&presented, &[7; 32], at(1_000)), "another gateway's");
    }

    #[test]
    fn no_byte_of_a_token_can_be_changed() {
        let signer = TokenSigner::default();
        signer.add(&secret(1, 1_000), EarlierSecrets::Retire);
        let token = signer.sign("a", &[7; 32], at(2_000)).expect("a token");
        let bytes = URL_SAFE_NO_PAD.decode(&token[BROWSER_TOKEN.len()..]).expect("base64");
        for place in 0..bytes.len() {
            let mut forged = bytes.clone();
            forged[place] ^= 1;
            let forged = PresentedToken::read(URL_SAFE_NO_PAD.encode(forged).as_bytes());
            assert!(!forged.is_some_and(|forged| signer.verify(&forged, &[7; 32], at(1_000))), "{place}");
        }
        for wrong in ["", "AQ", "!", &token[..token.len() - 1], &"A".repeat(60)] {
            assert!(PresentedToken::read(wrong.as_bytes()).is_none(), "{wrong}");
        }
    }

    #[test]
    fn what_an_earlier_secret_has_signed_counts_for_as_long_as_a_token_lives() {
        let signer = TokenSigner::default();
        signer.add(&secret(1, 1_000), EarlierSecrets::Retire);
        let token = read(&signer.sign("a", &[7; 32], at(9_000)).expect("a token")).expect("a token");
        signer.add(&secret(2, 1_500), EarlierSecrets::Retire);
        signer.add(&secret(2, 1_500), EarlierSecrets::Retire);
        signer.add(&secret(3, 1_600), EarlierSecrets::Retire);
        assert!(signer.verify(&token, &[7; 32], at(3_299)));
        assert!(!signer.verify(&token, &[7; 32], at(3_300)));
        assert_eq!(signer.0.load().len(), 3);
        for number in 0..20 {
            signer.add(&secret(10 + number, 1_700), EarlierSecrets::Retire);
        }
        assert_eq!(signer.0.load().len(), MOST_TOKEN_SECRETS);
        let last = read(&signer.sign("a", &[7; 32], at(9_000)).expect("a token")).expect("a token");
        assert!(signer.verify(&last, &[7; 32], at(1_800)));
        signer.add(&secret(99, 1_800), EarlierSecrets::End);
        assert!(!signer.verify(&last, &[7; 32], at(1_800)));
    }
}

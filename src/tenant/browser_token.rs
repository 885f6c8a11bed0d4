//! Browser tokens: short-lived keys that a tenant's own server makes for the pages of its users.
//!
//! A token is kept nowhere. It names its key and its end, and bears a signature of both and of the key's secret, so that it
//! ends with the secret. The settings in force say what a token may do.

use std::cmp::Reverse;
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

/// The secrets that sign tokens, as the store has them.
#[derive(Debug, Default)]
pub struct TokenSigner(ArcSwap<SigningSecrets>);

#[derive(Debug, Default, Clone)]
struct SigningSecrets {
    /// The first one, which was made last, signs.
    secrets: Vec<TokenSecret>,
    /// A secret that was made at this time or before counts only if it is in `secrets`.
    ended_until: Option<SystemTime>,
}

impl TokenSigner {
    /// Takes over the secrets of the store, the one that signs first.
    pub(super) fn load(&self, secrets: Vec<TokenSecret>) {
        let ended_until = secrets.first().map(|secret| secret.made_at);
        self.0.store(SigningSecrets { secrets, ended_until }.into());
    }

    /// Takes in a secret that the store has. Secrets count in the order in which they were made, which is that of the store;
    /// this replica may hear of them in another one.
    pub(super) fn add(&self, secret: &TokenSecret, earlier: EarlierSecrets) {
        self.0.rcu(|known| {
            let mut next = SigningSecrets::clone(known);
            let is_known = known.secrets.iter().any(|other| other.bytes == secret.bytes);
            if is_known || known.ended_until.is_some_and(|until| secret.made_at <= until) {
                return next;
            }
            if earlier == EarlierSecrets::End {
                next.ended_until = Some(secret.made_at);
                next.secrets.retain(|other| other.made_at > secret.made_at);
            }
            next.secrets.push(*secret);
            next.secrets.sort_by_key(|secret| Reverse(secret.made_at));
            let made: Vec<SystemTime> = next.secrets.iter().map(|secret| secret.made_at).collect();
            for (other, successor) in next.secrets.iter_mut().skip(1).zip(&made) {
                other.retires_at = other.retires_at.or(Some(*successor + LONGEST_TOKEN));
            }
            next.secrets.retain(|other| other.counts(made[0]));
            next.secrets.truncate(MOST_TOKEN_SECRETS);
            next
        });
    }

    /// The time at which a new secret is made: after all that are known here, whatever the clock says.
    pub fn next_made_at(&self, now: SystemTime) -> SystemTime {
        let last = self.0.load().secrets.first().map(|secret| secret.made_at + Duration::from_millis(1));
        last.map_or(now, |next| next.max(now))
    }

    /// A token for a key, given by its id and the digest of its secret. It ends at a whole second. `None` if there is no
    /// secret to sign with yet.
    pub fn sign(&self, key_id: &str, digest: &KeyDigest, ends_at: SystemTime) -> Option<String> {
        let secrets = self.0.load();
        let seconds = ends_at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let mut token = vec![VERSION];
        token.extend(u32::try_from(seconds).unwrap_or(u32::MAX).to_be_bytes());
        token.extend(key_id.as_bytes());
        let signature = signature(secrets.secrets.first()?, &token, digest).finalize();
        token.extend(signature.into_bytes());
        Some(format!("{BROWSER_TOKEN}{}", URL_SAFE_NO_PAD.encode(token)))
    }

    /// True if the token was signed here for the key's secret with this digest.
    pub(super) fn verify(&self, token: &PresentedToken, digest: &KeyDigest, now: SystemTime) -> bool {
        let secrets = self.0.load();
        let mut counting = secrets.secrets.iter().filter(|secret| secret.counts(now));
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
        assert_eq!(signer.0.load().secrets.len(), 3);
        for number in 0..20 {
            signer.add(&secret(10 + number, 1_700 + u64::from(number)), EarlierSecrets::Retire);
        }
        assert_eq!(signer.0.load().secrets.len(), MOST_TOKEN_SECRETS);
        let last = read(&signer.sign("a", &[7; 32], at(9_000)).expect("a token")).expect("a token");
        assert!(signer.verify(&last, &[7; 32], at(1_800)));
        signer.add(&secret(99, 1_800), EarlierSecrets::End);
        assert!(!signer.verify(&last, &[7; 32], at(1_800)));
    }

    /// Two operators rotate at the same instant, one of them with `now`: each replica hears of its own secret first.
    #[test]
    fn secrets_count_in_the_order_of_the_store_though_they_come_in_another() {
        let (first, ending, last) = (secret(1, 1_000), secret(2, 1_001), secret(3, 1_002));
        let all =
            [(first, EarlierSecrets::Retire), (ending, EarlierSecrets::End), (last, EarlierSecrets::Retire)];
        for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            let signer = TokenSigner::default();
            order.iter().for_each(|number| signer.add(&all[*number].0, all[*number].1));
            let secrets: Vec<[u8; 32]> = signer.0.load().secrets.iter().map(|secret| secret.bytes).collect();
            assert_eq!(secrets, [last.bytes, ending.bytes], "{order:?}");
            assert_eq!(signer.next_made_at(at(500)), at(1_002) + Duration::from_millis(1));
        }
        // A start reads the store, and then hears of changes that are in it already.
        let signer = TokenSigner::default();
        signer.load(vec![ending]);
        signer.add(&first, EarlierSecrets::Retire);
        assert_eq!(signer.0.load().secrets, [ending], "one that was ended counts again");
    }
}

//! Virtual keys: the secrets that tenants hold.

use std::fmt;

use flate2::Crc;
use sha2::{Digest, Sha256};

use crate::dashscope::headers::SecretFinder;

/// A virtual key as a client presents it. `Debug` prints `***`, and only the digest is kept.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct VirtualKey<'h>(&'h [u8]);

impl<'h> VirtualKey<'h> {
    pub const fn new(secret: &'h [u8]) -> Self {
        Self(secret)
    }

    /// SHA-256 of the secret. Keys are stored and looked up by their digests.
    pub fn digest(self) -> KeyDigest {
        Sha256::digest(self.0).into()
    }

    /// A copy of the secret to search for in headers that are rewritten: a header with the secret must not be passed
    /// on. `None` if the secret is so short that it could occur by chance.
    pub fn sought(self) -> Option<SecretFinder<Box<[u8]>>> {
        (self.0.len() >= SHORTEST).then(|| SecretFinder::new(self.0.into()))
    }

    /// Tells whether the secret occurs in the bytes.
    pub fn stands_in(self, bytes: &[u8]) -> bool {
        self.0.len() >= SHORTEST && SecretFinder::for_one_value(self.0).stands_in(bytes)
    }

    /// Tells whether the text has the prefix of a minted key and a wrong checksum: a mistyped key, or a part of a key.
    pub fn is_mistyped(self) -> bool {
        self.0.starts_with(PREFIX.as_bytes()) && !self.is_whole()
    }

    /// The text of a browser token behind its prefix; `None` for a key.
    pub(super) fn as_browser_token(self) -> Option<&'h [u8]> {
        self.0.strip_prefix(BROWSER_TOKEN.as_bytes())
    }

    fn is_whole(self) -> bool {
        let signed = PREFIX.len() + RANDOM_CHARACTERS;
        self.0.len() == signed + CHECKSUM_CHARACTERS && checksum(&self.0[..signed]) == self.0[signed..]
    }
}

impl fmt::Debug for VirtualKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

pub type KeyDigest = [u8; 32];

/// Why a key, or a certificate, does not let its bearer in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CredentialFault {
    /// No tenant has this key.
    Unknown,
    /// The key has the form of a minted key, and its checksum is wrong.
    Mistyped,
    Expired,
    Revoked,
    /// The key's tenant requires a certificate, and the connection has none.
    NoCertificate,
    /// The certificate belongs to another tenant than the key.
    OtherCertificate,
}

/// A minted secret: `sk-dg-`, 43 random characters of base62 (256 bits), and six characters with the CRC-32 of all the
/// characters before. A secret scanner finds a key by its prefix, and distinguishes it from an example by the checksum.
pub struct MintedKey(String);

impl MintedKey {
    /// # Errors
    /// The system gives no random bytes.
    pub fn mint() -> Result<Self, getrandom::Error> {
        let mut text = format!("{PREFIX}{}", random(&BASE62, RANDOM_CHARACTERS)?);
        let checksum = checksum(text.as_bytes());
        text.extend(checksum.into_iter().map(char::from));
        Ok(Self(text))
    }

    /// The secret, to be shown once.
    pub fn expose(&self) -> &str {
        &self.0
    }

    pub fn digest(&self) -> KeyDigest {
        VirtualKey::new(self.0.as_bytes()).digest()
    }
}

impl fmt::Debug for MintedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Makes an id for a key without an id of its own.
///
/// # Errors
/// The system gives no random bytes.
pub fn mint_id() -> Result<String, getrandom::Error> {
    // The id has only digits and small letters, as people read it aloud and type it.
    Ok(format!("key-{}", random(&BASE62[..36], ID_CHARACTERS)?))
}

/// Random characters of the alphabet, all with the same probability.
fn random(alphabet: &[u8], length: usize) -> Result<String, getrandom::Error> {
    let fair = 256 / alphabet.len() * alphabet.len();
    let mut text = String::with_capacity(length);
    let mut bytes = [0; 64];
    while text.len() < length {
        getrandom::fill(&mut bytes)?;
        let drawn = bytes.iter().map(|byte| usize::from(*byte)).filter(|byte| *byte < fair);
        let characters = drawn.map(|byte| char::from(alphabet[byte % alphabet.len()]));
        text.extend(characters.take(length - text.len()));
    }
    Ok(text)
}

/// CRC-32 of the bytes. It detects every change within four adjacent bytes, and so every single mistyped character.
fn checksum(bytes: &[u8]) -> [u8; CHECKSUM_CHARACTERS] {
    let mut crc = Crc::new();
    crc.update(bytes);
    let mut rest = crc.sum();
    let mut digits = [0; CHECKSUM_CHARACTERS];
    for digit in digits.iter_mut().rev() {
        *digit = BASE62[(rest % 62) as usize];
        rest /= 62;
    }
    digits
}

/// Prefix of browser tokens, which begin as DashScope's temporary keys do.
pub(super) const BROWSER_TOKEN: &str = "st-dg-";
const PREFIX: &str = "sk-dg-";
const BASE62: [u8; 62] = *b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
const RANDOM_CHARACTERS: usize = 43;
const CHECKSUM_CHARACTERS: usize = 6;
const ID_CHARACTERS: usize = 10;
/// Length in bytes. A shorter secret is not a key, and could occur anywhere by chance.
const SHORTEST: usize = 16;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_key_is_never_printed() {
        assert_eq!(format!("{:?}", VirtualKey::new(b"sk-secret")), "***");
        assert_eq!(format!("{:?}", MintedKey::mint().expect("randomness")), "***");
    }

    #[test]
    fn a_key_is_found_inside_other_text() {
        let key = VirtualKey::new(b"sk-0123456789abcdef");
        assert!(key.stands_in(b"a=sk-0123456789abcdef&b"));
        assert!(!key.stands_in(b"sk-0123456789abcde"));
        assert!(!VirtualKey::new(b"sk").stands_in(b"a task"));
    }

    #[test]
    fn a_minted_key_has_its_look_and_no_twin() {
        let one = MintedKey::mint().expect("randomness");
        let text = one.expose();
        assert!(text.starts_with("sk-dg-") && text.len() == 55, "its length is {}", text.len());
        assert!(text[6..].bytes().all(|byte| byte.is_ascii_alphanumeric()));
        assert!(!VirtualKey::new(text.as_bytes()).is_mistyped());
        assert_ne!(one.digest(), MintedKey::mint().expect("randomness").digest());
        assert_eq!(mint_id().expect("randomness").len(), "key-".len() + ID_CHARACTERS);
    }

    /// The checksum is the one that other programs compute: scanners rely on it.
    #[test]
    fn the_checksum_is_the_common_crc_32() {
        // CRC-32 of "123456789" is 0xcbf43926, the check value of its specification.
        let digits = checksum(b"123456789");
        let value = digits.iter().fold(0, |value, digit| {
            let at = BASE62.iter().position(|letter| letter == digit).expect("a digit");
            value * 62 + at as u64
        });
        assert_eq!(value, 0xcbf4_3926);
    }

    #[test]
    fn a_key_that_was_not_made_here_is_no_typo() {
        for other in ["sk-0123456789abcdef", "sk-d", "", "SK-DG-0123"] {
            assert!(!VirtualKey::new(other.as_bytes()).is_mistyped(), "{other}");
        }
        assert!(VirtualKey::new(b"sk-dg-").is_mistyped());
    }

    proptest! {
        #[test]
        fn every_wrong_character_is_caught(at in 6_usize..55, wrong in 0x21_u8..0x7f) {
            let mut text = MintedKey::mint().expect("randomness").expose().as_bytes().to_vec();
            prop_assume!(text[at] != wrong);
            text[at] = wrong;
            prop_assert!(VirtualKey::new(&text).is_mistyped());
        }

        #[test]
        fn a_lost_a_doubled_and_two_swapped_characters_are_caught(at in 6_usize..54) {
            let text = MintedKey::mint().expect("randomness").expose().as_bytes().to_vec();
            let mut lost = text.clone();
            lost.remove(at);
            prop_assert!(VirtualKey::new(&lost).is_mistyped());
            let mut doubled = text.clone();
            doubled.insert(at, text[at]);
            prop_assert!(VirtualKey::new(&doubled).is_mistyped());
            let mut swapped = text.clone();
            swapped.swap(at, at + 1);
            prop_assume!(swapped != text);
            prop_assert!(VirtualKey::new(&swapped).is_mistyped());
        }
    }
}

//! Virtual keys: the secrets that tenants hold.

use std::fmt;

use sha2::{Digest, Sha256};

/// A virtual key as a client presents it. It is never printed, and only its digest is ever kept.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct VirtualKey<'h>(&'h [u8]);

impl<'h> VirtualKey<'h> {
    pub const fn new(secret: &'h [u8]) -> Self {
        Self(secret)
    }

    /// A copy of the secret, for as long as its headers are being changed.
    pub fn to_vec(self) -> Vec<u8> {
        self.0.to_vec()
    }

    /// SHA-256, the form in which keys are stored and looked up.
    pub fn digest(self) -> KeyDigest {
        Sha256::digest(self.0).into()
    }

    /// Whether the secret stands anywhere in the bytes: what bears it must not be passed on.
    pub fn stands_in(self, bytes: &[u8]) -> bool {
        (SHORTEST..=bytes.len()).contains(&self.0.len()) && memchr::memmem::find(bytes, self.0).is_some()
    }
}

impl fmt::Debug for VirtualKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

pub type KeyDigest = [u8; 32];

/// In bytes: what is shorter is no key of ours, and could stand anywhere by chance.
const SHORTEST: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_never_printed() {
        assert_eq!(format!("{:?}", VirtualKey::new(b"sk-secret")), "***");
    }

    #[test]
    fn a_key_is_found_inside_other_text() {
        let key = VirtualKey::new(b"sk-0123456789abcdef");
        assert!(key.stands_in(b"a=sk-0123456789abcdef&b"));
        assert!(!key.stands_in(b"sk-0123456789abcde"));
        assert!(!VirtualKey::new(b"sk").stands_in(b"a task"));
    }
}

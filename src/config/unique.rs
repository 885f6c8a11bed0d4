//! What must not stand twice: names, prefixes, and secrets above all.

use std::collections::HashMap;
use std::hash::Hash;

use sha2::{Digest, Sha256};

use super::Secret;
use super::reader::{Place, Reading, Written};

/// Values of one kind, and where each stood first.
pub(super) struct Unique<T> {
    first: HashMap<T, Place>,
}

impl<T> Default for Unique<T> {
    fn default() -> Self {
        Self { first: HashMap::new() }
    }
}

impl<T: Eq + Hash> Unique<T> {
    /// Notes a value; the second one of its kind is a fault that points to the first.
    pub(super) fn note(&mut self, reading: &Reading<'_>, value: T, place: &Place, same: &str, hint: &str) {
        if let Some(first) = self.first.get(&value) {
            let line = reading.position(first).line;
            reading.fault(place, format!("{same} {} in line {line}", first.path), hint);
        } else {
            self.first.insert(value, place.clone());
        }
    }
}

/// Every secret of the file by its digest: each may have one use only.
#[derive(Default)]
pub(super) struct Secrets {
    first: HashMap<[u8; 32], (Use, Place)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    Upstream,
    Admin,
    Virtual,
}

impl Secrets {
    pub(super) fn note(&mut self, reading: &Reading<'_>, secret: &Written<Secret>, used: Use) -> [u8; 32] {
        let digest = Sha256::digest(secret.value.expose()).into();
        self.note_digest(reading, digest, &secret.place, used);
        digest
    }

    pub(super) fn note_digest(&mut self, reading: &Reading<'_>, digest: [u8; 32], place: &Place, used: Use) {
        let Some((first_use, first)) = self.first.get(&digest) else {
            self.first.insert(digest, (used, place.clone()));
            return;
        };
        let line = reading.position(first).line;
        let problem = format!("is the same secret as {} in line {line}", first.path);
        let hint = match (*first_use, used) {
            (Use::Upstream, Use::Virtual) => {
                "a tenant would hold the upstream key itself; make another with: openssl rand -hex 24"
            }
            (Use::Upstream, Use::Upstream) => "an upstream key is written once, in its own account",
            (Use::Admin, _) | (_, Use::Admin) => "the admin token opens every key; make one of its own",
            (Use::Virtual, _) => "each key has a secret of its own; make another with: openssl rand -hex 24",
        };
        reading.fault(place, problem, hint);
    }
}

//! Values that must be unique: names, prefixes, and above all secrets.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::Secret;
use super::reader::{ConfigReader, Located, Location};
use super::scalar;

/// Values of one kind, with the location of their first use.
#[derive(Default)]
pub(super) struct UniqueValues<T> {
    first: HashMap<T, Location>,
}

impl<T: Eq + Hash> UniqueValues<T> {
    /// Notes a value. A repeated value is a fault, which points to the first use.
    pub(super) fn note(
        &mut self,
        reader: &ConfigReader<'_>,
        value: T,
        location: &Location,
        same: &str,
        hint: &str,
    ) {
        if let Some(first) = self.first.get(&value) {
            let line = reader.position(first).line;
            reader.fault(location, format!("{same} {} in line {line}", first.path), hint);
        } else {
            self.first.insert(value, location.clone());
        }
    }
}

/// Checks a name, and that no other of its kind has the same name.
pub(super) fn unique_name(
    reader: &ConfigReader<'_>,
    name: &Located<String>,
    names: &mut UniqueValues<String>,
) -> Option<Arc<str>> {
    reader.check(name, scalar::name)?;
    names.note(reader, name.value.clone(), &name.location, "is the same as", "give each its own");
    Some(name.value.as_str().into())
}

/// Digests of all secrets of the file. Each secret may have one use only.
#[derive(Default)]
pub(super) struct UniqueSecrets {
    first: HashMap<[u8; 32], (SecretUse, Location)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SecretUse {
    Upstream,
    Admin,
    Virtual,
}

impl UniqueSecrets {
    pub(super) fn note(
        &mut self,
        reader: &ConfigReader<'_>,
        secret: &Located<Secret>,
        used: SecretUse,
    ) -> [u8; 32] {
        let digest = Sha256::digest(secret.value.expose()).into();
        self.note_digest(reader, digest, &secret.location, used);
        digest
    }

    pub(super) fn note_digest(
        &mut self,
        reader: &ConfigReader<'_>,
        digest: [u8; 32],
        location: &Location,
        used: SecretUse,
    ) {
        let Some((first_use, first)) = self.first.get(&digest) else {
            self.first.insert(digest, (used, location.clone()));
            return;
        };
        let line = reader.position(first).line;
        let problem = format!("is the same secret as {} in line {line}", first.path);
        let hint = match (*first_use, used) {
            (SecretUse::Upstream, SecretUse::Virtual) => {
                "a tenant would hold the upstream key itself; make another with: openssl rand -hex 24"
            }
            (SecretUse::Upstream, SecretUse::Upstream) => {
                "an upstream key is written once, in its own account"
            }
            (SecretUse::Admin, _) | (_, SecretUse::Admin) => {
                "the admin token opens every key; make one of its own"
            }
            (SecretUse::Virtual, SecretUse::Virtual | SecretUse::Upstream) => {
                "each key has a secret of its own; make another with: openssl rand -hex 24"
            }
        };
        reader.fault(location, problem, hint);
    }
}

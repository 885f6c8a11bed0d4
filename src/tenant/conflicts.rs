//! Warnings about keys made at run time that the configuration makes useless.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use super::directory::Directory;
use super::keyring::{KeyEnd, Keyring};

/// A key of the configuration and a key made at run time that can't be told apart. The key of the configuration counts.
enum KeyConflict {
    SameId { id: Arc<str>, configured: Arc<str>, issued: Arc<str> },
    SameSecret { configured: Arc<str>, issued: Box<str> },
}

/// Logs which keys made at run time are refused though nobody revoked them.
pub fn warn_of_refused_keys(directory: &Directory, keyring: &Keyring, now: SystemTime) {
    for conflict in conflicts(directory, keyring) {
        tracing::warn!("{conflict}");
    }
    let (mut count, mut ids) = (0_usize, Vec::new());
    keyring.each(|key| {
        if key.fault(now).is_none() && !directory.has_tenant(&key.tenant) {
            count += 1;
            if ids.len() < MOST_NAMED {
                ids.push(format!("`{}`", key.id));
            }
        }
    });
    if count > 0 {
        let (ids, more) = (ids.join(", "), if count > MOST_NAMED { ", ..." } else { "" });
        tracing::warn!(
            "{count} key(s) made at run time are refused, as their tenants are not configured: {ids}{more}; revoke \
             them, or configure their tenants"
        );
    }
}

fn conflicts(directory: &Directory, keyring: &Keyring) -> Vec<KeyConflict> {
    let mut conflicts = Vec::new();
    for (key, tenant) in directory.keys() {
        // A revoked key may share its id with a key of the configuration.
        let living = keyring.named(&key.id).filter(|issued| issued.ends() != KeyEnd::Revoked);
        if let Some(issued) = living {
            let (configured, issued) = (Arc::clone(&tenant.name), Arc::clone(&issued.tenant));
            conflicts.push(KeyConflict::SameId { id: Arc::clone(&key.id), configured, issued });
        }
        if let Some(issued) = key.digest.and_then(|digest| keyring.find(&digest)) {
            let (configured, issued) = (Arc::clone(&key.id), issued.id.clone());
            conflicts.push(KeyConflict::SameSecret { configured, issued });
        }
    }
    conflicts
}

/// A warning of the log.
impl fmt::Display for KeyConflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeyConflict::SameId { id, configured, issued } => write!(
                f,
                "two keys have the id `{id}`: one of the configuration, of the tenant `{configured}`, and one made \
                 at run time, of `{issued}`. The configuration's stands, the other is refused: revoke that with \
                 `dashgate keys revoke {id}`, or give the one in the configuration another id"
            ),
            KeyConflict::SameSecret { configured, issued } => write!(
                f,
                "the key `{configured}` of the configuration has the same secret as `{issued}`, which was made at \
                 run time. The configuration's stands, whatever becomes of the other: give it a secret of its own"
            ),
        }
    }
}

/// Keys that one line of the log names.
const MOST_NAMED: usize = 5;

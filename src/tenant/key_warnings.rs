//! Warnings about virtual keys, those of the configuration and those made at run time: keys that are refused, and
//! tenants as whom nobody can call.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use super::directory::Directory;
use super::keyring::{KeyEnd, Keyring};
use crate::config::{Config, NamedFew};

/// A key of the configuration and a key made at run time that can't be told apart. The key of the configuration counts.
enum KeyConflict {
    SameId { id: Arc<str>, configured: Arc<str>, issued: Arc<str> },
    SameSecret { configured: Arc<str>, issued: Box<str> },
}

/// Logs which keys made at run time are refused though nobody revoked them, and which tenants have no valid key of
/// either kind though keys can be made.
pub fn warn(directory: &Directory, keyring: &Keyring, now: SystemTime) {
    for conflict in conflicts(directory, keyring) {
        tracing::warn!("{conflict}");
    }
    let mut homeless = NamedFew::default();
    let mut has_key = directory.callable(now);
    keyring.each(|key| {
        if key.fault(now).is_none() {
            match directory.tenants_by_name.get(&*key.tenant) {
                Some(number) => has_key[*number] = true,
                None => homeless.note(format_args!("`{}`", key.id)),
            }
        }
    });
    if homeless.count > 0 {
        tracing::warn!(
            "{} key(s) made at run time are refused, as their tenants are not configured: {homeless}; revoke them, or \
             configure their tenants",
            homeless.count
        );
    }
    // Where no keys can be made at run time, the check of the configuration has told.
    if !directory.settings.admin.can_operate() {
        return;
    }
    let mut closed = NamedFew::default();
    let without = directory.tenants.iter().zip(has_key).filter(|(_, has_key)| !has_key);
    without.for_each(|(tenant, _)| closed.note(format_args!("`{}`", tenant.name)));
    if closed.count > 0 {
        tracing::warn!(
            "{} tenant(s) have no valid key, so nobody can call as them: {closed}; make keys with `dashgate keys create \
             --tenant NAME`",
            closed.count
        );
    }
}

/// Ids of keys of the next configuration that other keys have which were made at run time, but for ids that the present
/// one has already. The message for the operator names both keys.
pub fn taken_ids(present: &Directory, next: &Config, keyring: &Keyring) -> Vec<(Arc<str>, String)> {
    let mut taken = Vec::new();
    let keys = next.tenants.iter().flat_map(|tenant| tenant.keys.iter().map(move |key| (key, tenant)));
    for (key, tenant) in keys.filter(|(key, _)| present.key_named(&key.id).is_none()) {
        let living = keyring.named(&key.id).filter(|issued| issued.ends() != KeyEnd::Revoked);
        // A key that moves into the file with its secret is no other one.
        let other = living.filter(|issued| !issued.has_digest(&key.sha256));
        if let Some(issued) = other {
            let id = Arc::clone(&key.id);
            let (configured, issued) = (Arc::clone(&tenant.name), Arc::clone(&issued.tenant));
            taken.push((Arc::clone(&id), KeyConflict::SameId { id, configured, issued }.problem()));
        }
    }
    taken
}

impl KeyConflict {
    /// Both keys, without what becomes of them.
    fn problem(&self) -> String {
        match self {
            KeyConflict::SameId { id, configured, issued } => format!(
                "two keys have the id `{id}`: one of the configuration, of the tenant `{configured}`, and one made at \
                 run time, of `{issued}`"
            ),
            KeyConflict::SameSecret { configured, issued } => format!(
                "the key `{configured}` of the configuration has the same secret as `{issued}`, which was made at run time"
            ),
        }
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
            KeyConflict::SameId { id, configured: _, issued: _ } => write!(
                f,
                "{}. The configuration's stands, the other is refused: revoke that with `dashgate keys revoke {id}`, or \
                 give the one in the configuration another id",
                self.problem()
            ),
            KeyConflict::SameSecret { configured: _, issued: _ } => write!(
                f,
                "{}. The configuration's stands, whatever becomes of the other: give it a secret of its own",
                self.problem()
            ),
        }
    }
}

//! The keyring: keys that the admin API made at run time. All workers share one keyring.

use std::borrow::Borrow;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwapOption;
use dashmap::DashSet;
use foldhash::fast::RandomState;
use parking_lot::Mutex;

use super::browser_token::TokenSigner;
use super::key::{CredentialFault, KeyDigest};
use super::last_use::{ConfiguredUses, LastUse};
use crate::config::Limits;
use crate::store::{Change, KeyDetails, KeyRecord, KeyUse, Mirror, Store, StoreFault};

/// Keys made at run time. A lookup by digest takes constant time, and every worker sees a change at its next lookup.
///
/// A million keys must be cheap: each takes one allocation, its id, and a pointer in each of two sets.
#[derive(Default)]
pub struct Keyring {
    by_digest: DashSet<ByDigest, RandomState>,
    /// Newest secret of each id.
    by_id: DashSet<ById, RandomState>,
    /// Secrets with a successor, by the id of their key.
    retired: Mutex<RetiredSecrets>,
    /// Signs browser tokens of these keys, and of the configuration's.
    pub signer: TokenSigner,
    /// Last uses of the configuration's keys.
    pub configured_uses: Arc<ConfiguredUses>,
    /// Names of tenants, so that each name is in memory once.
    tenants: Mutex<HashSet<Arc<str>, RandomState>>,
}

type RetiredSecrets = HashMap<Box<str>, Vec<Arc<IssuedKey>>, RandomState>;

/// One secret of a key that was made at run time.
pub struct IssuedKey {
    digest: KeyDigest,
    /// Loggable name of the key, which is the same for all its secrets.
    pub id: Box<str>,
    pub tenant: Arc<str>,
    /// Seconds since 1970.
    created: u32,
    /// Seconds since 1970, or [`NEVER`], or [`REVOKED`].
    ends: AtomicU32,
    details: ArcSwapOption<KeyDetails>,
    pub last_use: LastUse,
}

/// A secret to be added to the keyring.
#[derive(Debug, Clone)]
pub struct NewKey<'a> {
    pub id: &'a str,
    pub tenant: &'a str,
    pub digest: KeyDigest,
    pub created: SystemTime,
    pub ends: KeyEnd,
    /// The secret has a successor.
    pub retired: bool,
    pub details: Option<Arc<KeyDetails>>,
}

/// End of a secret's validity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyEnd {
    Never,
    /// A moment in whole seconds.
    At(SystemTime),
    Revoked,
}

impl Mirror for Keyring {
    fn apply(&self, change: &Change) {
        match change {
            // `load` may have read the secret from the store already.
            Change::CreateKey(KeyRecord { sha256, .. }) if self.find(sha256).is_some() => {}
            Change::CreateKey(KeyRecord { id, tenant, sha256, created_at, expires, details, .. }) => {
                let ends = expires.map_or(KeyEnd::Never, KeyEnd::At);
                let (digest, created, details) = (*sha256, *created_at, details.clone());
                self.insert(&NewKey { id, tenant, digest, created, ends, retired: false, details });
            }
            Change::RotateKey { successor, .. } if self.find(&successor.sha256).is_some() => {}
            Change::RotateKey { successor, old_until } => {
                self.rotate(&successor.id, successor.sha256, *old_until, successor.created_at);
            }
            Change::ChangeKey { id, expires, details } => self.change(id, *expires, details.as_ref()),
            Change::RevokeKey { id, at: _ } => self.revoke(id),
            Change::KeepSecret { secret, earlier } => self.signer.add(secret, *earlier),
            Change::NoteUses(uses) => uses.iter().for_each(|last| self.note_stored_use(last)),
            Change::Claim { .. }
            | Change::Reserve(_)
            | Change::Free { .. }
            | Change::LoseHold { .. }
            | Change::Begin(_)
            | Change::Release(_)
            | Change::Lose(_)
            | Change::Adopt(_)
            | Change::Settle { .. }
            | Change::Deliver(_)
            | Change::Enter(_)
            | Change::Hide { .. }
            | Change::KeepUpload { .. }
            | Change::PutTenant(_)
            | Change::Audit(_) => {}
            // The directory knows former names of tenants, and a start reads the new ones.
            Change::Rename { .. } => {}
        }
    }
}

impl Keyring {
    /// Adds every key of the store. Blocks.
    ///
    /// # Errors
    /// The store can't be read.
    pub fn load(store: &Store) -> Result<Self, StoreFault> {
        let keyring = Self::default();
        keyring.signer.load(store.token_secrets()?);
        store.keys(|key| {
            let ends = match (key.revoked_at, key.expires, key.retires_at) {
                (Some(_), _, _) => KeyEnd::Revoked,
                (None, Some(expires), Some(retires)) => KeyEnd::At(expires.min(retires)),
                (None, Some(end), None) | (None, None, Some(end)) => KeyEnd::At(end),
                (None, None, None) => KeyEnd::Never,
            };
            keyring.insert(&NewKey {
                id: &key.id,
                tenant: &key.tenant,
                digest: key.sha256,
                created: key.created_at,
                ends,
                retired: key.retires_at.is_some(),
                details: key.details,
            });
        })?;
        store.key_uses(|last| keyring.note_stored_use(&last))?;
        Ok(keyring)
    }

    /// Notes a last use that the store has.
    fn note_stored_use(&self, KeyUse { key_id, at }: &KeyUse) {
        match self.named(key_id) {
            Some(key) => {
                key.last_use.note_stored(*at);
                // A key of the configuration may stand in its way.
                self.configured_uses.note_stored_of_known(key_id, *at);
            }
            None => self.configured_uses.note_stored(key_id, *at),
        }
    }

    /// The last use of a key that was made at run time, by any of its secrets.
    pub fn last_use(&self, id: &str) -> Option<SystemTime> {
        self.secrets(id).iter().filter_map(|secret| secret.last_use.at()).max()
    }

    /// Last uses that the store does not have, by key id: `most` at most.
    pub fn unstored_uses(&self, most: usize) -> Vec<(Arc<str>, SystemTime)> {
        // The newest secret of a key speaks for all.
        for (id, earlier) in self.retired.lock().iter() {
            let last = earlier.iter().filter_map(|secret| secret.last_use.at()).max();
            if let Some((key, last)) = self.named(id).zip(last) {
                key.last_use.note(last);
            }
        }
        let mut uses = self.configured_uses.unstored();
        self.each(|key| {
            if let Some(at) = key.last_use.unstored().filter(|_| uses.len() < most) {
                uses.push(((&*key.id).into(), at));
            }
        });
        uses.truncate(most);
        uses
    }

    /// Finds a secret by its digest, valid or not.
    pub fn find(&self, digest: &KeyDigest) -> Option<Arc<IssuedKey>> {
        self.by_digest.get(digest).map(|found| Arc::clone(&found.0))
    }

    /// The newest secret of the key.
    pub fn named(&self, id: &str) -> Option<Arc<IssuedKey>> {
        self.by_id.get(id).map(|found| Arc::clone(&found.0))
    }

    /// All secrets of the key, the newest first.
    pub fn secrets(&self, id: &str) -> Vec<Arc<IssuedKey>> {
        let newest = self.named(id);
        let retired = self.retired.lock();
        let earlier = retired.get(id).into_iter().flatten().rev().cloned();
        newest.into_iter().chain(earlier).collect()
    }

    /// Number of secrets.
    pub fn len(&self) -> usize {
        self.by_digest.len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_digest.is_empty()
    }

    /// Adds a secret of a key.
    pub fn insert(&self, issue: &NewKey<'_>) {
        let key = Arc::new(IssuedKey {
            digest: issue.digest,
            id: issue.id.into(),
            tenant: self.name_of(issue.tenant),
            created: KeyEnd::At(issue.created).seconds(),
            ends: AtomicU32::new(issue.ends.seconds()),
            details: ArcSwapOption::new(issue.details.clone()),
            last_use: LastUse::default(),
        });
        self.by_digest.insert(ByDigest(Arc::clone(&key)));
        if issue.retired {
            self.retired.lock().entry(issue.id.into()).or_default().push(key);
        } else {
            self.by_id.remove(issue.id);
            self.by_id.insert(ById(key));
        }
    }

    /// Gives the key a new secret. The old secrets are valid until `until`, unless they end sooner.
    pub fn rotate(&self, id: &str, digest: KeyDigest, until: SystemTime, now: SystemTime) {
        let Some(old) = self.named(id) else { return };
        let ends = old.ends();
        let details = old.details();
        self.insert(&NewKey { id, tenant: &old.tenant, digest, created: now, ends, retired: false, details });
        let mut retired = self.retired.lock();
        let secrets = retired.entry(id.into()).or_default();
        secrets.push(old);
        for secret in secrets {
            secret.ends.fetch_min(KeyEnd::At(until).seconds(), Ordering::Relaxed);
        }
    }

    /// Gives the key another end and other details. Secrets with a successor, and revoked ones, end no later for it.
    pub fn change(&self, id: &str, expires: Option<SystemTime>, details: Option<&Arc<KeyDetails>>) {
        let ends = expires.map_or(KeyEnd::Never, KeyEnd::At).seconds();
        if let Some(key) = self.named(id) {
            let changed = |now| (now != REVOKED).then_some(ends);
            let _ = key.ends.fetch_update(Ordering::Relaxed, Ordering::Relaxed, changed);
        }
        for secret in self.secrets(id) {
            secret.ends.fetch_min(ends, Ordering::Relaxed);
            secret.details.store(details.cloned());
        }
    }

    /// Revokes all secrets of the key.
    pub fn revoke(&self, id: &str) {
        if let Some(key) = self.named(id) {
            key.ends.store(REVOKED, Ordering::Relaxed);
        }
        for secret in self.retired.lock().get(id).into_iter().flatten() {
            secret.ends.store(REVOKED, Ordering::Relaxed);
        }
    }

    /// Drops a secret that the store has deleted.
    pub fn remove(&self, digest: &KeyDigest) {
        let Some(ByDigest(key)) = self.by_digest.remove(digest) else { return };
        self.by_id.remove_if(&*key.id, |newest| newest.0.digest == *digest);
        let mut retired = self.retired.lock();
        if let Some(secrets) = retired.get_mut(&key.id) {
            secrets.retain(|secret| secret.digest != *digest);
            if secrets.is_empty() {
                retired.remove(&key.id);
            }
        }
    }

    /// Ends of the key's secrets that have a successor and are still valid.
    pub fn retiring(&self, id: &str, now: SystemTime) -> Vec<SystemTime> {
        let retired = self.retired.lock();
        let secrets = retired.get(id).into_iter().flatten().filter(|secret| secret.fault(now).is_none());
        secrets.filter_map(|secret| secret.ends().moment()).collect()
    }

    /// Passes the newest secret of every key to `show`, in no order. Changes wait meanwhile, lookups do not.
    pub fn each(&self, mut show: impl FnMut(&IssuedKey)) {
        self.by_id.iter().for_each(|key| show(&key.0));
    }

    fn name_of(&self, tenant: &str) -> Arc<str> {
        let mut names = self.tenants.lock();
        if let Some(known) = names.get(tenant) {
            return Arc::clone(known);
        }
        let name: Arc<str> = tenant.into();
        names.insert(Arc::clone(&name));
        name
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyring").field("secrets", &self.len()).finish_non_exhaustive()
    }
}

impl IssuedKey {
    /// True for the digest of this secret.
    pub fn has_digest(&self, digest: &KeyDigest) -> bool {
        self.digest == *digest
    }

    /// Details that the operator gave the key.
    pub fn details(&self) -> Option<Arc<KeyDetails>> {
        self.details.load_full()
    }

    /// Limits of the key, where it has some of its own: each that it does not have is the one of its tenant's keys.
    pub fn limits_over(&self, of_tenant: &Limits) -> Option<Limits> {
        let details = self.details.load();
        Some(details.as_ref()?.limits.as_ref()?.over(of_tenant))
    }

    /// SHA-256 of the secret.
    pub fn digest(&self) -> &KeyDigest {
        &self.digest
    }

    pub fn created(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(self.created.into())
    }

    pub fn ends(&self) -> KeyEnd {
        KeyEnd::of_seconds(self.ends.load(Ordering::Relaxed))
    }

    /// Why the secret is not valid at `now`; `None` while it is valid.
    pub fn fault(&self, now: SystemTime) -> Option<CredentialFault> {
        match self.ends.load(Ordering::Relaxed) {
            NEVER => None,
            REVOKED => Some(CredentialFault::Revoked),
            ends if u64::from(ends) <= since_1970(now).as_secs() => Some(CredentialFault::Expired),
            _ => None,
        }
    }
}

impl fmt::Debug for IssuedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IssuedKey").field("id", &self.id).finish_non_exhaustive()
    }
}

impl KeyEnd {
    /// The moment of the end; `None` for a secret without one, and for a revoked one.
    pub fn moment(self) -> Option<SystemTime> {
        match self {
            KeyEnd::At(end) => Some(end),
            KeyEnd::Never | KeyEnd::Revoked => None,
        }
    }

    fn seconds(self) -> u32 {
        match self {
            KeyEnd::Never => NEVER,
            KeyEnd::Revoked => REVOKED,
            KeyEnd::At(time) => {
                let seconds = u32::try_from(since_1970(time).as_secs()).unwrap_or(NEVER);
                seconds.clamp(REVOKED + 1, NEVER - 1)
            }
        }
    }

    fn of_seconds(seconds: u32) -> Self {
        match seconds {
            NEVER => KeyEnd::Never,
            REVOKED => KeyEnd::Revoked,
            seconds => KeyEnd::At(UNIX_EPOCH + Duration::from_secs(seconds.into())),
        }
    }
}

fn since_1970(time: SystemTime) -> Duration {
    time.duration_since(UNIX_EPOCH).unwrap_or_default()
}

struct ByDigest(Arc<IssuedKey>);

impl Borrow<KeyDigest> for ByDigest {
    fn borrow(&self) -> &KeyDigest {
        &self.0.digest
    }
}

impl Hash for ByDigest {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.digest.hash(state);
    }
}

impl PartialEq for ByDigest {
    fn eq(&self, other: &Self) -> bool {
        self.0.digest == other.0.digest
    }
}

impl Eq for ByDigest {}

struct ById(Arc<IssuedKey>);

impl Borrow<str> for ById {
    fn borrow(&self) -> &str {
        &self.0.id
    }
}

impl Hash for ById {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.id.hash(state);
    }
}

impl PartialEq for ById {
    fn eq(&self, other: &Self) -> bool {
        self.0.id == other.0.id
    }
}

impl Eq for ById {}

/// No key gets an end after 2106, where the seconds overflow.
const NEVER: u32 = u32::MAX;
const REVOKED: u32 = 0;

#[cfg(test)]
#[path = "keyring_tests.rs"]
mod tests;

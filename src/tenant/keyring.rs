//! The keys that were made at run time, by the admin API: one ring, which all workers share.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use dashmap::DashSet;
use foldhash::fast::RandomState;

use super::directory::Stranger;
use super::key::KeyDigest;

/// Found by digest in constant time. A change is seen by every worker at its next look.
///
/// A million keys must be cheap: one allocation and an id each, and two slots of a pointer.
#[derive(Default)]
pub struct Keyring {
    by_digest: DashSet<ByDigest, RandomState>,
    /// The newest secret of each id.
    by_id: DashSet<ById, RandomState>,
    /// Secrets that have a successor, by their id.
    retired: Mutex<HashMap<Box<str>, Vec<Arc<IssuedKey>>, RandomState>>,
    /// Names, at the numbers that keys hold. It only grows.
    tenants: ArcSwap<Vec<Arc<str>>>,
}

/// One secret of a key that was made at run time.
pub struct IssuedKey {
    digest: KeyDigest,
    /// The loggable name: that of the key, whichever of its secrets this is.
    pub id: Box<str>,
    tenant: u32,
    /// In seconds since 1970, or [`NEVER`], or [`REVOKED`].
    ends: AtomicU32,
}

/// Until when a secret opens anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ends {
    Never,
    /// In whole seconds.
    At(SystemTime),
    Revoked,
}

impl Keyring {
    /// Who the secret belongs to, dead or alive.
    pub fn find(&self, digest: &KeyDigest) -> Option<Arc<IssuedKey>> {
        self.by_digest.get(digest).map(|found| Arc::clone(&found.0))
    }

    /// The newest secret of the key.
    pub fn named(&self, id: &str) -> Option<Arc<IssuedKey>> {
        self.by_id.get(id).map(|found| Arc::clone(&found.0))
    }

    pub fn tenant_of(&self, key: &IssuedKey) -> Arc<str> {
        Arc::clone(&self.tenants.load()[key.tenant as usize])
    }

    /// How many secrets there are.
    pub fn len(&self) -> usize {
        self.by_digest.len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_digest.is_empty()
    }

    /// Takes in a key's secret; `retired` if it has a successor.
    pub fn insert(&self, id: &str, tenant: &str, digest: KeyDigest, ends: Ends, retired: bool) {
        let (tenant, ends) = (self.number(tenant), AtomicU32::new(ends.seconds()));
        let key = Arc::new(IssuedKey { digest, id: id.into(), tenant, ends });
        self.by_digest.insert(ByDigest(Arc::clone(&key)));
        if retired {
            let mut retired = self.retired.lock().unwrap_or_else(PoisonError::into_inner);
            retired.entry(id.into()).or_default().push(key);
        } else {
            self.by_id.remove(id);
            self.by_id.insert(ById(key));
        }
    }

    /// Gives the key a new secret. The old ones work until `until`, unless their end comes sooner.
    pub fn rotate(&self, id: &str, digest: KeyDigest, until: SystemTime, now: SystemTime) {
        let Some(old) = self.named(id) else { return };
        let ends = Ends::of_seconds(old.ends.load(Ordering::Relaxed));
        self.insert(id, &self.tenant_of(&old), digest, ends, false);
        let mut retired = self.retired.lock().unwrap_or_else(PoisonError::into_inner);
        let secrets = retired.entry(id.into()).or_default();
        secrets.retain(|secret| {
            let stays = secret.fault(now).is_none();
            if !stays {
                self.by_digest.remove(&secret.digest);
            }
            stays
        });
        secrets.push(old);
        for secret in secrets {
            secret.ends.fetch_min(Ends::At(until).seconds(), Ordering::Relaxed);
        }
    }

    /// From now on no secret of the key opens anything.
    pub fn revoke(&self, id: &str) {
        if let Some(key) = self.named(id) {
            key.ends.store(REVOKED, Ordering::Relaxed);
        }
        let retired = self.retired.lock().unwrap_or_else(PoisonError::into_inner);
        for secret in retired.get(id).into_iter().flatten() {
            secret.ends.store(REVOKED, Ordering::Relaxed);
        }
    }

    fn number(&self, tenant: &str) -> u32 {
        let known = |names: &[Arc<str>]| names.iter().rposition(|name| **name == *tenant);
        if let Some(at) = known(&self.tenants.load()) {
            return at as u32;
        }
        self.tenants.rcu(|names| {
            let mut names = Vec::clone(names);
            if known(&names).is_none() {
                names.push(tenant.into());
            }
            names
        });
        known(&self.tenants.load()).map_or(0, |at| at as u32)
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyring").field("secrets", &self.len()).finish_non_exhaustive()
    }
}

impl IssuedKey {
    /// Why it opens nothing now; None while it does.
    pub fn fault(&self, now: SystemTime) -> Option<Stranger> {
        match self.ends.load(Ordering::Relaxed) {
            NEVER => None,
            REVOKED => Some(Stranger::Revoked),
            ends if u64::from(ends) <= since_1970(now).as_secs() => Some(Stranger::Expired),
            _ => None,
        }
    }
}

impl fmt::Debug for IssuedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IssuedKey").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Ends {
    fn seconds(self) -> u32 {
        match self {
            Ends::Never => NEVER,
            Ends::Revoked => REVOKED,
            Ends::At(time) => {
                let seconds = u32::try_from(since_1970(time).as_secs()).unwrap_or(NEVER);
                seconds.clamp(REVOKED + 1, NEVER - 1)
            }
        }
    }

    fn of_seconds(seconds: u32) -> Self {
        match seconds {
            NEVER => Ends::Never,
            REVOKED => Ends::Revoked,
            seconds => Ends::At(UNIX_EPOCH + Duration::from_secs(seconds.into())),
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

/// Past 2106, where the seconds end, no key is given.
const NEVER: u32 = u32::MAX;
const REVOKED: u32 = 0;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn fault(ring: &Keyring, digest: u8, now: u64) -> Option<Stranger> {
        ring.find(&[digest; 32]).expect("a key").fault(at(now))
    }

    #[test]
    fn a_key_ends_at_its_second() {
        let ring = Keyring::default();
        ring.insert("a", "one", [1; 32], Ends::At(at(1000)), false);
        ring.insert("b", "two", [2; 32], Ends::Never, false);
        assert_eq!(fault(&ring, 1, 999), None);
        assert_eq!(fault(&ring, 1, 1000), Some(Stranger::Expired));
        assert_eq!(fault(&ring, 2, u64::from(u32::MAX) * 2), None);
        let key = ring.named("b").expect("a key");
        assert_eq!((&*ring.tenant_of(&key), ring.len()), ("two", 2));
        assert!(ring.find(&[3; 32]).is_none() && ring.named("c").is_none());
    }

    #[test]
    fn in_the_grace_period_both_work_and_then_the_new_one() {
        let ring = Keyring::default();
        ring.insert("a", "one", [1; 32], Ends::At(at(9000)), false);
        ring.rotate("a", [2; 32], at(2000), at(1000));
        assert_eq!((fault(&ring, 1, 1999), fault(&ring, 2, 1999)), (None, None));
        assert_eq!((fault(&ring, 1, 2000), fault(&ring, 2, 2000)), (Some(Stranger::Expired), None));
        assert_eq!(fault(&ring, 2, 9000), Some(Stranger::Expired), "a successor keeps the key's own end");
        // A longer grace gives no secret a longer life.
        ring.rotate("a", [3; 32], at(5000), at(1500));
        assert_eq!((fault(&ring, 1, 2000), fault(&ring, 2, 4999)), (Some(Stranger::Expired), None));
        // What opens nothing any more is forgotten at the next rotation.
        ring.rotate("a", [4; 32], at(6000), at(5500));
        assert!(ring.find(&[1; 32]).is_none() && ring.find(&[2; 32]).is_none());
        assert_eq!(ring.len(), 2);
    }

    #[test]
    fn a_revoked_key_has_no_secret_left() {
        let ring = Keyring::default();
        ring.insert("a", "one", [1; 32], Ends::Never, true);
        ring.insert("a", "one", [2; 32], Ends::Never, false);
        ring.insert("b", "one", [3; 32], Ends::Never, false);
        ring.revoke("a");
        assert_eq!(fault(&ring, 1, 1), Some(Stranger::Revoked));
        assert_eq!(fault(&ring, 2, 1), Some(Stranger::Revoked));
        assert_eq!(fault(&ring, 3, 1), None);
    }

    /// A key's share that no allocator can hide; the rest is measured on the running program.
    #[test]
    fn a_key_is_small() {
        assert!(size_of::<IssuedKey>() <= 56, "{}", size_of::<IssuedKey>());
    }
}

//! The health of accounts, of their keys and of their models. A reload replaces the directory, and the health stays.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Instant;

use parking_lot::Mutex;

use super::address::Address;
use super::cooldown::{Availability, Cooldown};
use super::pace::{ModelPaces, SubmitPace};
use crate::config;

/// Health of all accounts, by name. The health of an account is dropped when no directory has the account any more.
#[derive(Debug)]
pub struct AccountRegistry {
    origin: Instant,
    accounts: Mutex<HashMap<Arc<str>, Weak<AccountHealth>>>,
    turn: AtomicU64,
}

impl AccountRegistry {
    pub fn new(now: Instant) -> Self {
        Self { origin: now, accounts: Mutex::default(), turn: AtomicU64::new(0) }
    }

    pub(super) fn account(&self, name: &Arc<str>) -> Arc<AccountHealth> {
        let mut accounts = self.accounts.lock();
        if let Some(health) = accounts.get(name).and_then(Weak::upgrade) {
            return health;
        }
        accounts.retain(|_, health| health.strong_count() > 0);
        let health = Arc::new(AccountHealth::new(self.origin));
        accounts.insert(Arc::clone(name), Arc::downgrade(&health));
        health
    }

    /// The `turn` of [`choose`](super::choice::choose). Multiples of the golden ratio are spread evenly even when there
    /// are few, so that the shares follow the weights from the beginning and not only in the long run.
    pub fn turn(&self) -> u64 {
        self.turn.fetch_add(GOLDEN_RATIO, Ordering::Relaxed)
    }
}

/// Health of one account. Keys are known by their digests.
#[derive(Debug)]
pub(super) struct AccountHealth {
    origin: Instant,
    pub(super) account: Arc<Cooldown>,
    /// Address as last configured.
    address: Mutex<Weak<Address>>,
    keys: Mutex<HashMap<[u8; 32], Weak<Cooldown>>>,
    /// Throttled models. A model is removed once it is known to be available again.
    models: Mutex<HashMap<Box<str>, Arc<Cooldown>>>,
    has_models: AtomicBool,
    paces: ModelPaces,
}

impl AccountHealth {
    pub(super) fn new(origin: Instant) -> Self {
        Self {
            origin,
            account: Arc::new(Cooldown::new(origin)),
            address: Mutex::default(),
            keys: Mutex::default(),
            models: Mutex::default(),
            has_models: AtomicBool::new(false),
            paces: ModelPaces::default(),
        }
    }

    /// The address of the account, which stays the same object while its settings are unchanged.
    pub(super) fn address(&self, config: &config::AccountSettings) -> Arc<Address> {
        let mut last = self.address.lock();
        if let Some(address) = last.upgrade().filter(|address| address.is_of(config)) {
            return address;
        }
        let address = Arc::new(Address::new(config, self.origin));
        *last = Arc::downgrade(&address);
        address
    }

    pub(super) fn key(&self, digest: [u8; 32]) -> Arc<Cooldown> {
        let mut keys = self.keys.lock();
        if let Some(cooldown) = keys.get(&digest).and_then(Weak::upgrade) {
            return cooldown;
        }
        keys.retain(|_, cooldown| cooldown.strong_count() > 0);
        let cooldown = Arc::new(Cooldown::new(self.origin));
        keys.insert(digest, Arc::downgrade(&cooldown));
        cooldown
    }

    /// Tells whether any model is throttled. If not, the model of a request need not be known.
    pub(super) fn has_models(&self) -> bool {
        self.has_models.load(Ordering::Acquire)
    }

    /// Pace of the submits of a model.
    pub(super) fn pace(&self, model: &str, now: Instant) -> Arc<SubmitPace> {
        self.paces.of(bounded(model), now)
    }

    /// Cooldown of a model that was throttled.
    pub(super) fn model(&self, model: &str) -> Option<Arc<Cooldown>> {
        if !self.has_models() {
            return None;
        }
        self.models.lock().get(bounded(model)).cloned()
    }

    /// Cooldown of a model, made if there is none yet.
    pub(super) fn throttled_model(&self, model: &str, now: Instant) -> Arc<Cooldown> {
        let model = bounded(model);
        let mut models = self.models.lock();
        if let Some(cooldown) = models.get(model) {
            return Arc::clone(cooldown);
        }
        if models.len() >= MOST_MODELS {
            models.retain(|_, cooldown| matches!(cooldown.availability(now), Availability::Resting(_)));
        }
        let cooldown = Arc::new(Cooldown::new(self.origin));
        // A throttled model beyond the limit is not noted: its next request is sent, and may be refused again.
        if models.len() < MOST_MODELS {
            models.insert(model.into(), Arc::clone(&cooldown));
            self.has_models.store(true, Ordering::Release);
        }
        cooldown
    }

    /// Notes that the model is available again.
    pub(super) fn forget_model(&self, model: &str) {
        let mut models = self.models.lock();
        models.remove(bounded(model));
        self.has_models.store(!models.is_empty(), Ordering::Release);
    }

    /// Throttled models, sorted by name.
    pub(super) fn models(&self) -> Vec<(Box<str>, Arc<Cooldown>)> {
        let models =
            self.models.lock().iter().map(|(model, cooldown)| (model.clone(), cooldown.clone())).collect();
        let mut models: Vec<(Box<str>, Arc<Cooldown>)> = models;
        models.sort_by(|one, other| one.0.cmp(&other.0));
        models
    }
}

/// The name of a model, or an empty name for all names that are longer than DashScope's.
fn bounded(model: &str) -> &str {
    if model.len() <= LONGEST_MODEL { model } else { "" }
}

const GOLDEN_RATIO: u64 = 0x9E37_79B9_7F4A_7C15;
const MOST_MODELS: usize = 256;
const LONGEST_MODEL: usize = 128;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::dashscope::refusal::{RefusalCause, Throttling};

    #[test]
    fn an_account_keeps_its_health_as_long_as_somebody_knows_it() {
        let registry = AccountRegistry::new(Instant::now());
        let (main, other) = (Arc::from("main"), Arc::from("other"));
        let before = registry.account(&main);
        let after = registry.account(&main);
        assert!(Arc::ptr_eq(&before, &after));
        let key = before.key([1; 32]);
        assert!(Arc::ptr_eq(&key, &after.key([1; 32])));
        assert!(!Arc::ptr_eq(&key, &after.key([2; 32])));
        drop((before, after));
        registry.account(&other);
        assert_eq!(registry.accounts.lock().len(), 1);
    }

    #[test]
    fn only_so_many_models_are_noted() {
        let now = Instant::now();
        let health = AccountHealth::new(now);
        let throttled = RefusalCause::Throttled(Throttling::RateQuota);
        for number in 0..MOST_MODELS + 10 {
            health.throttled_model(&format!("m{number}"), now).rest(throttled, None, false, now);
        }
        assert_eq!(health.models().len(), MOST_MODELS);
        assert!(health.model("m0").is_some());
        let later = now + Duration::from_secs(61);
        health.throttled_model("new", later);
        assert_eq!(health.models().len(), 1);
        health.forget_model("new");
        assert!(!health.has_models());
        assert!(Arc::ptr_eq(
            &health.throttled_model(&"a".repeat(200), now),
            &health.throttled_model("", now)
        ));
    }
}

//! Alibaba Cloud accounts: their address, upstream keys, health, choice, pace and uploads.

mod address;
mod cooldown;
mod health;
mod key;
mod rules;

pub mod choice;
pub mod model_lists;
pub mod pace;
pub mod shared_pace;
pub mod uploads;

use std::sync::Arc;
use std::time::{Duration, Instant};

pub use address::Address;
pub use health::AccountRegistry;
pub use key::UpstreamKey;

use crate::config::{self, AccountErrors, Rates};
use crate::dashscope::refusal::RefusalCause;
use crate::dashscope::submit_rules::SubmitRule;
use crate::telemetry::metrics::{AccountSeries, Metrics};
use cooldown::{Cooldown, CooldownScope, scope};
use health::AccountHealth;
use pace::SubmitPace;
use rules::PaceRules;

/// One account: one namespace of tasks, one set of quotas, some upstream keys.
#[derive(Debug)]
pub struct Account {
    pub name: Arc<str>,
    pub address: Arc<Address>,
    keys: Vec<UpstreamKey>,
    weight: u32,
    rules: PaceRules,
    rates: Rates,
    errors: AccountErrors,
    /// Nobody else uses the account, so that a task on its list is one of our tenants'.
    pub is_exclusive: bool,
    health: Arc<AccountHealth>,
    pub series: Arc<AccountSeries>,
}

impl Account {
    /// An account with the health that the registry has of it.
    pub fn new(config: &config::AccountSettings, registry: &AccountRegistry, metrics: &Metrics) -> Self {
        let health = registry.account(&config.name);
        Self {
            name: Arc::clone(&config.name),
            address: health.address(config),
            keys: config.keys.iter().filter_map(|secret| UpstreamKey::new(secret, &health)).collect(),
            weight: config.weight,
            rules: PaceRules::new(&config.pace, &config.base_url.host),
            rates: config.rates,
            errors: config.errors,
            is_exclusive: config.exclusive,
            health,
            series: metrics.account(&config.name),
        }
    }

    /// Calls per second that the account takes on its task API.
    pub fn rates(&self) -> Rates {
        self.rates
    }

    /// Tells whether the account takes requests that may go to any account.
    pub fn takes_new(&self) -> bool {
        self.weight > 0
    }

    /// Tells whether clients must not see a refusal for this cause: it lies with a key or a bill of the account, and the
    /// account's errors are neutral.
    pub fn hides(&self, cause: RefusalCause) -> bool {
        match scope(cause) {
            CooldownScope::Key | CooldownScope::Account => self.errors == AccountErrors::Neutral,
            CooldownScope::Address | CooldownScope::Model => false,
        }
    }

    /// Tells whether the account rests for a fault that clients must not see: for its bill, or with all its keys.
    pub fn rests_for_hidden_fault(&self, now: Instant) -> bool {
        let rests = |cooldown: &Cooldown| cooldown.state(now).is_some();
        let is_at_fault = || rests(&self.health.account) || self.keys.iter().all(|key| rests(&key.cooldown));
        self.errors == AccountErrors::Neutral && is_at_fault()
    }

    /// Tells whether another key can be tried after one was refused.
    pub fn has_spare_keys(&self) -> bool {
        self.keys.len() > 1
    }

    /// Tells whether the model of a request matters to [`choice::choose`].
    pub fn has_throttled_models(&self) -> bool {
        self.health.has_models()
    }

    /// Tells whether submits of any model are paced.
    pub fn paces(&self) -> bool {
        self.rules.any()
    }

    pub fn is_paced(&self, model: &str) -> bool {
        self.rules.of(model).is_some()
    }

    /// Pace and rule of the model's submits; `None` if they are not paced.
    pub fn pace(&self, model: &str, now: Instant) -> Option<(Arc<SubmitPace>, SubmitRule)> {
        let rule = self.rules.of(model)?;
        Some((self.health.pace(model, now), rule))
    }

    /// Tells whether the account is available for such a request at `now`.
    pub fn is_fit(&self, need: &choice::ChoiceNeeds<'_>, now: Instant) -> bool {
        choice::is_fit(self, need, now)
    }

    /// Status of the account, for the operator.
    pub fn status(&self, now: Instant) -> AccountStatus {
        let keys = self.keys.iter().map(|key| Resting::of(key.cooldown.state(now))).collect();
        let models = self.health.models().into_iter().filter_map(|(model, cooldown)| {
            let resting = Resting::of(cooldown.state(now))?;
            Some((model, resting))
        });
        AccountStatus {
            name: Arc::clone(&self.name),
            weight: self.weight,
            resting: Resting::of(self.address.cooldown.state(now).or_else(|| self.health.account.state(now))),
            keys,
            models: models.collect(),
        }
    }
}

/// Status of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountStatus {
    pub name: Arc<str>,
    pub weight: u32,
    /// `None` if the account is available.
    pub resting: Option<Resting>,
    /// Keys in the order of the configuration; an available key is `None`.
    pub keys: Vec<Option<Resting>>,
    /// Models that rest.
    pub models: Vec<(Box<str>, Resting)>,
}

impl AccountStatus {
    /// Number of things that rest for this cause: the account itself, its keys, and models.
    pub fn resting_for(&self, cause: RefusalCause) -> usize {
        let models = self.models.iter().map(|(_, resting)| Some(*resting));
        let all = [self.resting].into_iter().chain(self.keys.iter().copied()).chain(models);
        all.flatten().filter(|resting| resting.cause == cause).count()
    }
}

/// The cause of a rest, and the time until the next probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resting {
    pub cause: RefusalCause,
    /// Zero if the next request probes.
    pub left: Duration,
}

impl Resting {
    fn of(state: Option<(RefusalCause, Duration)>) -> Option<Self> {
        state.map(|(cause, left)| Self { cause, left })
    }
}

//! Alibaba Cloud accounts: where their API lives, the keys that open it, and how they are.

mod address;
mod cooldown;
mod health;
mod key;
mod rules;
mod turns;
mod window;

pub mod choice;
pub mod pace;
pub mod uploads;

use std::sync::Arc;
use std::time::{Duration, Instant};

pub use address::Address;
pub use health::AccountRegistry;
pub use key::UpstreamKey;

use crate::config::{self, Rates};
use crate::dashscope::refusal::RefusalCause;
use crate::dashscope::submit_rules::SubmitRule;
use crate::telemetry::metrics::{AccountSeries, Metrics};
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
    health: Arc<AccountHealth>,
    /// What is counted of it.
    pub series: Arc<AccountSeries>,
}

impl Account {
    /// With the health that it had, if the registry knows it.
    pub fn new(config: &config::AccountSettings, registry: &AccountRegistry, metrics: &Metrics) -> Self {
        let health = registry.account(&config.name);
        Self {
            name: Arc::clone(&config.name),
            address: health.address(config),
            keys: config.keys.iter().filter_map(|secret| UpstreamKey::new(secret, &health)).collect(),
            weight: config.weight,
            rules: PaceRules::new(&config.pace, &config.base_url.host),
            rates: config.rates,
            health,
            series: metrics.account(&config.name),
        }
    }

    /// How often its task API may be asked.
    pub fn rates(&self) -> Rates {
        self.rates
    }

    /// Whether it takes what may go to any account.
    pub fn takes_new(&self) -> bool {
        self.weight > 0
    }

    /// Whether a request that one key was refused for has another to try.
    pub fn has_spare_keys(&self) -> bool {
        self.keys.len() > 1
    }

    /// Whether it matters to [`choice::choose`] which model a request is for.
    pub fn has_throttled_models(&self) -> bool {
        self.health.has_models()
    }

    /// Whether submits are paced, for any model.
    pub fn paces(&self) -> bool {
        self.rules.any()
    }

    pub fn is_paced(&self, model: &str) -> bool {
        self.rules.of(model).is_some()
    }

    /// How submits of the model are paced, if they are.
    pub fn pace(&self, model: &str, now: Instant) -> Option<(Arc<SubmitPace>, SubmitRule)> {
        let rule = self.rules.of(model)?;
        Some((self.health.pace(model, now), rule))
    }

    /// Whether a request of this kind would be sent to it now.
    pub fn is_fit(&self, need: &choice::ChoiceNeeds<'_>, now: Instant) -> bool {
        choice::is_fit(self, need, now)
    }

    /// How the account is, for its operator.
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

/// How an account is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountStatus {
    pub name: Arc<str>,
    pub weight: u32,
    /// `None`: it is well.
    pub resting: Option<Resting>,
    /// In the order of the config; a key that is well is `None`.
    pub keys: Vec<Option<Resting>>,
    /// Those that are not well.
    pub models: Vec<(Box<str>, Resting)>,
}

impl AccountStatus {
    /// How many things rest for this cause: the account itself, its keys, models.
    pub fn resting_for(&self, cause: RefusalCause) -> usize {
        let models = self.models.iter().map(|(_, resting)| Some(*resting));
        let all = [self.resting].into_iter().chain(self.keys.iter().copied()).chain(models);
        all.flatten().filter(|resting| resting.cause == cause).count()
    }
}

/// Why something is not used now, and when it will be tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resting {
    pub cause: RefusalCause,
    /// Zero: the next request tries it.
    pub left: Duration,
}

impl Resting {
    fn of(state: Option<(RefusalCause, Duration)>) -> Option<Self> {
        state.map(|(cause, left)| Self { cause, left })
    }
}

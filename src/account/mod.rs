//! Alibaba Cloud accounts: where their API lives, the keys that open it, and how they are.

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

use hyper::header::HeaderValue;

pub use health::Registry;
pub use key::UpstreamKey;

use crate::config::{self, BaseUrl, Rates};
use crate::dashscope::pace::Rule;
use crate::dashscope::refusal::Cause;
use health::Health;
use pace::Pace;
use rules::Rules;

/// One account: one namespace of tasks, one set of quotas, some upstream keys.
#[derive(Debug)]
pub struct Account {
    pub name: Arc<str>,
    pub base_url: BaseUrl,
    /// The `host` field of every request to it.
    pub host: HeaderValue,
    /// PEM of certificate authorities trusted beside the public ones.
    pub ca_pem: Option<Vec<u8>>,
    keys: Vec<UpstreamKey>,
    weight: u32,
    rules: Rules,
    rates: Rates,
    health: Arc<Health>,
}

impl Account {
    /// With the health that it had, if the registry knows it.
    pub fn new(config: &config::Account, registry: &Registry) -> Self {
        let host = authority(&config.base_url);
        let health = registry.account(&config.name);
        Self {
            name: Arc::clone(&config.name),
            base_url: config.base_url.clone(),
            host: HeaderValue::try_from(host).unwrap_or(HeaderValue::from_static("")),
            ca_pem: config.ca_pem.clone(),
            keys: config.keys.iter().filter_map(|secret| UpstreamKey::new(secret, &health)).collect(),
            weight: config.weight,
            rules: Rules::new(&config.pace, &config.base_url.host),
            rates: config.rates,
            health,
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
    pub fn pace(&self, model: &str, now: Instant) -> Option<(Arc<Pace>, Rule)> {
        let rule = self.rules.of(model)?;
        Some((self.health.pace(model, now), rule))
    }

    /// Whether a request of this kind would be sent to it now.
    pub fn is_fit(&self, need: &choice::Need<'_>, now: Instant) -> bool {
        choice::is_fit(self, need, now)
    }

    /// How the account is, for its operator.
    pub fn status(&self, now: Instant) -> Status {
        let keys = self.keys.iter().map(|key| Resting::of(key.cooldown.state(now))).collect();
        let models = self.health.models().into_iter().filter_map(|(model, cooldown)| {
            let resting = Resting::of(cooldown.state(now))?;
            Some((model, resting))
        });
        Status {
            name: Arc::clone(&self.name),
            weight: self.weight,
            resting: Resting::of(self.health.account.state(now)),
            keys,
            models: models.collect(),
        }
    }
}

/// How an account is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    pub name: Arc<str>,
    pub weight: u32,
    /// `None`: it is well.
    pub resting: Option<Resting>,
    /// In the order of the config; a key that is well is `None`.
    pub keys: Vec<Option<Resting>>,
    /// Those that are not well.
    pub models: Vec<(Box<str>, Resting)>,
}

/// Why something is not used now, and when it will be tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resting {
    pub cause: Cause,
    /// Zero: the next request tries it.
    pub left: Duration,
}

impl Resting {
    fn of(state: Option<(Cause, Duration)>) -> Option<Self> {
        state.map(|(cause, left)| Self { cause, left })
    }
}

/// `host` or `host:port`, as a `host` field spells it.
fn authority(url: &BaseUrl) -> String {
    let host = if url.host.contains(':') { format!("[{}]", url.host) } else { url.host.clone() };
    match (url.tls, url.port) {
        (true, 443) | (false, 80) => host,
        (_, port) => format!("{host}:{port}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_authority_names_a_port_only_where_it_must() {
        let url = |tls, host: &str, port| BaseUrl { tls, host: host.into(), port, path: String::new() };
        assert_eq!(authority(&url(true, "dashscope.aliyuncs.com", 443)), "dashscope.aliyuncs.com");
        assert_eq!(authority(&url(false, "127.0.0.1", 8090)), "127.0.0.1:8090");
        assert_eq!(authority(&url(false, "::1", 443)), "[::1]:443");
    }
}

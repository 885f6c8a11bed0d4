//! The choice of an account and an upstream key for a request, and the feedback of its answer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::cooldown::{Availability, Cooldown, CooldownScope, Probe, scope};
use super::{Account, UpstreamKey};
use crate::dashscope::refusal::RefusalCause;
use crate::dashscope::region;

/// Properties of a request that matter to the choice.
#[derive(Debug, Clone, Copy)]
pub struct ChoiceNeeds<'r> {
    /// `None` if the model is unknown or does not matter.
    pub model: Option<&'r str>,
    /// The answer proves whether an account that rested is available again.
    pub proves_recovery: bool,
    /// The request can be sent again, so that it may probe a key that was refused.
    pub is_repeatable: bool,
}

/// Everything that decides about one account: the request, its earlier attempts, and the time.
#[derive(Clone, Copy)]
struct Conditions<'r> {
    need: &'r ChoiceNeeds<'r>,
    tried: &'r TriedAccounts,
    now: Instant,
}

/// Accounts, and keys of accounts, that a request has tried without success.
#[derive(Debug, Clone, Default)]
pub struct TriedAccounts {
    accounts: Vec<usize>,
    keys: Vec<(usize, usize)>,
}

/// A chosen account, by its index in the directory, and a chosen key of the account.
#[derive(Debug)]
pub struct Pick<'d> {
    pub index: usize,
    pub account: &'d Account,
    pub key: &'d UpstreamKey,
    probes: Probes,
}

/// Probes that the request makes. If it is dropped without an answer, another request may probe.
#[derive(Debug)]
pub struct Probes {
    index: usize,
    key: usize,
    address_probe: Option<Probe>,
    key_probe: Option<Probe>,
    account_probe: Option<Probe>,
    model_probe: Option<Probe>,
}

/// No account is available, and none will be for the given time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoneAvailable(pub Duration);

/// The part of an answer that concerns the account.
#[derive(Debug, Clone, Copy)]
pub struct AccountFeedback<'r> {
    pub is_success: bool,
    /// DashScope took the key; what else it says is not of the key.
    pub takes_key: bool,
    pub cause: Option<RefusalCause>,
    pub retry_after: Option<Duration>,
    /// `None` for a call outside the limits that DashScope counts by model, and if the model is not known: then a 429 for
    /// a model makes nothing rest, as each model has a limit of its own.
    pub model: Option<&'r str>,
}

/// Chooses one of the accounts with the indices `among`, by weight among the available ones; `turn` decides. A single
/// account that takes new requests is always chosen, and the upstream itself refuses what it can't serve. Where no
/// account can be reached, one of them is tried, as nothing is lost by that.
///
/// # Errors
/// [`NoneAvailable`] if no account is available.
pub fn choose<'d>(
    accounts: &'d [Account],
    among: &[usize],
    need: &ChoiceNeeds<'_>,
    tried: &TriedAccounts,
    turn: u64,
    now: Instant,
) -> Result<Pick<'d>, NoneAvailable> {
    let given = Conditions { need, tried, now };
    let mut taking = among.iter().filter(|index| accounts[**index].takes_new());
    if let (Some(only), None) = (taking.next(), taking.next()) {
        return choose_key(accounts, *only, need, tried, now);
    }
    // Accounts whose probe another request took after they were found due.
    let mut lost = Vec::new();
    // A request that proves nothing goes to an account that is due for a probe only if there is no other.
    let mut takes_due = need.proves_recovery;
    loop {
        let weight = |index: usize| {
            let account = &accounts[index];
            let is_excluded = lost.contains(&index) || tried.accounts.contains(&index);
            let is_fit = !is_excluded
                && match account.availability(index, given) {
                    Availability::Available => true,
                    Availability::ProbeDue => takes_due,
                    Availability::Resting(_) => false,
                };
            if is_fit { u64::from(account.weight) } else { 0 }
        };
        let total: u64 = among.iter().map(|index| weight(*index)).sum();
        if total == 0 {
            if takes_due {
                let unreached = unreached(accounts, among, given, turn);
                return match unreached.filter(|_| tried.accounts.is_empty() && tried.keys.is_empty()) {
                    Some(index) => choose_key(accounts, index, need, tried, now),
                    None => Err(all_out(accounts, among, need, now)),
                };
            }
            takes_due = true;
            continue;
        }
        let mut left = ((u128::from(turn) * u128::from(total)) >> 64) as u64;
        let drawn = among.iter().copied().find(|index| {
            let weight = weight(*index);
            let is_drawn = left < weight;
            left = left.saturating_sub(weight);
            is_drawn
        });
        // The health of an account can change at any time, so that none may be drawn.
        let drawn = drawn.or_else(|| among.iter().copied().find(|index| weight(*index) > 0));
        let Some(index) = drawn else { continue };
        match accounts[index].enter(index, given) {
            Some((key, probes)) => return Ok(Pick { index, account: &accounts[index], key, probes }),
            None => lost.push(index),
        }
    }
}

/// Chooses a key of the account `index`, which has the request's task or file, or is the only account. A key that is
/// available or due for a probe comes first, and in the end any key that was not tried.
///
/// # Errors
/// [`NoneAvailable`] if the account is excluded, or if each of its keys was tried.
pub fn choose_key<'d>(
    accounts: &'d [Account],
    index: usize,
    need: &ChoiceNeeds<'_>,
    tried: &TriedAccounts,
    now: Instant,
) -> Result<Pick<'d>, NoneAvailable> {
    let account = &accounts[index];
    if tried.accounts.contains(&index) {
        return Err(all_out(accounts, &[index], need, now));
    }
    let found = account.key(index, Conditions { need, tried, now }).or_else(|| {
        let mut untried = account.untried(index, tried);
        let (number, key) = untried.next()?;
        Some((number, key, key.cooldown.look(now)))
    });
    let (key_number, key, key_probe) = found.ok_or_else(|| all_out(accounts, &[index], need, now))?;
    let look = |cooldown: &Arc<Cooldown>| if need.proves_recovery { cooldown.look(now) } else { None };
    let model = need.model.and_then(|model| account.health.model(model));
    let probes = Probes {
        index,
        key: key_number,
        address_probe: account.address.cooldown.look(now),
        key_probe,
        account_probe: look(&account.health.account),
        model_probe: model.as_ref().and_then(look),
    };
    Ok(Pick { index, account, key, probes })
}

/// Tells whether the account is available for such a request.
pub(super) fn is_fit(account: &Account, need: &ChoiceNeeds<'_>, now: Instant) -> bool {
    let given = Conditions { need, tried: &TriedAccounts::default(), now };
    account.availability(0, given) == Availability::Available
}

/// One of the accounts, if all of them rest only because they can't be reached.
fn unreached(accounts: &[Account], among: &[usize], given: Conditions<'_>, turn: u64) -> Option<usize> {
    let taking: Vec<usize> = among.iter().copied().filter(|index| accounts[*index].takes_new()).collect();
    let is_unreached = |index: &usize| {
        let account = &accounts[*index];
        let rest = account.health_availability(*index, given);
        matches!(account.address.cooldown.availability(given.now), Availability::Resting(_))
            && !matches!(rest, Availability::Resting(_))
    };
    let place = ((u128::from(turn) * taking.len() as u128) >> 64) as usize;
    taking.get(place).copied().filter(|_| taking.iter().all(is_unreached))
}

fn all_out(accounts: &[Account], among: &[usize], need: &ChoiceNeeds<'_>, now: Instant) -> NoneAvailable {
    let given = Conditions { need, tried: &TriedAccounts::default(), now };
    let wait = |index: &usize| match accounts[*index].availability(*index, given) {
        Availability::Available | Availability::ProbeDue => Duration::ZERO,
        Availability::Resting(left) => left,
    };
    let taking = among.iter().filter(|index| accounts[**index].takes_new());
    NoneAvailable(taking.map(wait).min().unwrap_or_default().max(SHORTEST_WAIT))
}

impl TriedAccounts {
    /// Excludes the account, as if it had refused.
    pub fn exclude(&mut self, index: usize) {
        self.accounts.push(index);
    }

    /// Also excludes all accounts of `among` but `index`.
    pub fn excluding_all_but(&self, index: usize, among: impl Iterator<Item = usize>) -> Self {
        let mut tried = self.clone();
        tried.accounts.extend(among.filter(|other| *other != index));
        tried
    }
}

impl Account {
    /// The worst availability of the address and of the account behind it.
    fn availability(&self, index: usize, given: Conditions<'_>) -> Availability {
        self.address.cooldown.availability(given.now).max(self.health_availability(index, given))
    }

    /// The worst availability of the account, the model and the best key.
    fn health_availability(&self, index: usize, given: Conditions<'_>) -> Availability {
        let Conditions { need, tried, now } = given;
        let model = need.model.and_then(|model| self.health.model(model));
        let model = model.map_or(Availability::Available, |cooldown| cooldown.availability(now));
        let keys = self.untried(index, tried).map(|(_, key)| key.cooldown.availability(now)).min();
        let keys = keys.unwrap_or(Availability::Resting(SHORTEST_WAIT));
        self.health.account.availability(now).max(model).max(keys)
    }

    fn untried<'d>(
        &'d self,
        index: usize,
        tried: &TriedAccounts,
    ) -> impl Iterator<Item = (usize, &'d UpstreamKey)> {
        let numbered = self.keys.iter().enumerate();
        numbered.filter(move |(number, _)| !tried.keys.contains(&(index, *number)))
    }

    /// The first available key in the order of the configuration. If the request can be sent again, a key that is due
    /// for a probe comes before it.
    fn key(&self, index: usize, given: Conditions<'_>) -> Option<(usize, &UpstreamKey, Option<Probe>)> {
        let Conditions { need, tried, now } = given;
        let probe = || {
            self.untried(index, tried)
                .find_map(|(number, key)| Some((number, key, Some(key.cooldown.probe(now)?))))
        };
        let is_fit = |key: &UpstreamKey| key.cooldown.availability(now) == Availability::Available;
        let fit = || {
            let (number, key) = self.untried(index, tried).find(|(_, key)| is_fit(key))?;
            Some((number, key, None))
        };
        if need.is_repeatable { probe().or_else(fit) } else { fit().or_else(probe) }
    }

    /// Takes the probes for this request; `None` if another request was faster.
    fn enter(&self, index: usize, given: Conditions<'_>) -> Option<(&UpstreamKey, Probes)> {
        let Conditions { need, now, .. } = given;
        let model = need.model.and_then(|model| self.health.model(model));
        let take = |cooldown: &Arc<Cooldown>, tells: bool| match cooldown.availability(now) {
            Availability::Available => Some(None),
            Availability::ProbeDue if !tells => Some(None),
            Availability::ProbeDue => cooldown.probe(now).map(Some),
            Availability::Resting(_) => None,
        };
        // Any answer at all proves that the address can be reached.
        let address_probe = take(&self.address.cooldown, true)?;
        let account_probe = take(&self.health.account, need.proves_recovery)?;
        let model_probe = model.as_ref().map_or(Some(None), |model| take(model, need.proves_recovery))?;
        let (number, key, key_probe) = self.key(index, given)?;
        Some((key, Probes { index, key: number, address_probe, key_probe, account_probe, model_probe }))
    }

    /// Notes the feedback of an answer.
    fn learn(&self, probes: Probes, answer: &AccountFeedback<'_>, now: Instant) {
        let Probes { key: number, address_probe, key_probe, account_probe, model_probe, .. } = probes;
        let key = &self.keys[number].cooldown;
        let AccountFeedback { cause, retry_after, .. } = *answer;
        let recover = |probe: Option<Probe>| {
            let ended = probe.and_then(Probe::succeed);
            ended.into_iter().for_each(|cause| self.tell_recovery(cause, number, answer.model));
        };
        let recover_key = |probe: Option<Probe>| recover(probe.filter(|_| answer.takes_key));
        recover(address_probe);
        let (concerned, probe) = match cause.map(|cause| (cause, scope(cause))) {
            // No answer has this cause: it stands for a missing connection.
            Some((_, CooldownScope::Address)) => return,
            Some((cause, CooldownScope::Key)) => (Some((cause, Arc::clone(key))), key_probe),
            Some((cause, CooldownScope::Account)) => {
                recover_key(key_probe);
                (Some((cause, Arc::clone(&self.health.account))), account_probe)
            }
            Some((cause, CooldownScope::Model)) => {
                recover_key(key_probe);
                let model = answer.model.map(|model| self.health.throttled_model(model, now));
                (model.map(|model| (cause, model)), model_probe)
            }
            None => {
                recover_key(key_probe);
                // Only a success proves that the account and the model are available.
                if answer.is_success {
                    recover(account_probe);
                    if model_probe.is_some() {
                        recover(model_probe);
                        answer.model.into_iter().for_each(|model| self.health.forget_model(model));
                    }
                }
                return;
            }
        };
        let Some((cause, cooldown)) = concerned else { return };
        let news = match probe {
            Some(probe) => probe.fail(cause, retry_after, now),
            None => cooldown.rest(cause, retry_after, false, now),
        };
        if let Some(rest) = news {
            self.tell(cause, number, answer.model, rest);
        }
    }

    /// Logs that an account, a key or a model rests. A key is named by its number in the configuration.
    fn tell(&self, cause: RefusalCause, number: usize, model: Option<&str>, rest: Duration) {
        let (account, cause_name, seconds) = (&*self.name, cause.name(), rest.as_secs());
        match scope(cause) {
            CooldownScope::Key => {
                tracing::warn!(
                    account,
                    key = number + 1,
                    cause = cause_name,
                    seconds,
                    "upstream key ejected: {}",
                    region::refused_key_causes(&self.address.base_url.host)
                );
            }
            CooldownScope::Account | CooldownScope::Address => {
                tracing::warn!(account, cause = cause_name, seconds, "account ejected");
            }
            CooldownScope::Model => {
                let model = model.unwrap_or_default();
                tracing::warn!(account, model, cause = cause_name, seconds, "account cools down for a model");
            }
        }
    }

    /// Logs that what rested for `cause` is available again.
    fn tell_recovery(&self, cause: RefusalCause, number: usize, model: Option<&str>) {
        let (account, cause_name) = (&*self.name, cause.name());
        match scope(cause) {
            CooldownScope::Address => tracing::info!(account, cause = cause_name, "upstream reachable again"),
            CooldownScope::Account => tracing::info!(account, cause = cause_name, "account works again"),
            CooldownScope::Key => {
                tracing::info!(account, key = number + 1, cause = cause_name, "upstream key works again");
            }
            CooldownScope::Model => {
                let model = model.unwrap_or_default();
                tracing::info!(account, model, cause = cause_name, "account takes a model again");
            }
        }
    }
}

impl Pick<'_> {
    /// Notes the feedback of the answer. The same request need not be tried again with what refused it.
    pub fn answered(self, answer: &AccountFeedback<'_>, tried: &mut TriedAccounts, now: Instant) {
        match answer.cause.map(scope) {
            Some(CooldownScope::Key) => tried.keys.push((self.index, self.probes.key)),
            Some(CooldownScope::Account | CooldownScope::Model | CooldownScope::Address) => {
                tried.accounts.push(self.probes.index)
            }
            None => {}
        }
        self.account.learn(self.probes, answer, now);
    }

    /// Notes that no connection was made, so that nothing was sent.
    pub fn unreached(self, tried: &mut TriedAccounts, now: Instant) {
        let Probes { index, key, address_probe, .. } = self.probes;
        let news = match address_probe {
            Some(probe) => probe.fail(RefusalCause::Unreachable, None, now),
            None => self.account.address.cooldown.rest(RefusalCause::Unreachable, None, false, now),
        };
        if let Some(rest) = news {
            self.account.tell(RefusalCause::Unreachable, key, None, rest);
        }
        tried.accounts.push(index);
    }

    /// Gives the pick up, for no fault of the account.
    pub fn leave(self, tried: &mut TriedAccounts) {
        tried.accounts.push(self.index);
    }
}

const SHORTEST_WAIT: Duration = Duration::from_secs(1);

#[cfg(test)]
#[path = "choice_tests.rs"]
mod tests;

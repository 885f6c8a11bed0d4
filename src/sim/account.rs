//! Simulated Alibaba accounts: keys, overdue bills and rates of calls.

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::str::FromStr;
use std::time::SystemTime;

use super::errors::{ErrorAnswer, ErrorCause, ThrottlingKind};
use super::meter::SimulatedMeter;

/// An upstream key and the account it belongs to: `ACCOUNT=KEY`, or `KEY` of the account `main`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SimulatedKey {
    pub account: String,
    pub key: String,
}

impl FromStr for SimulatedKey {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<SimulatedKey, Infallible> {
        let (account, key) = match text.split_once('=') {
            Some((account, key)) if !account.starts_with("sk-") => (account, key),
            Some(_) | None => (DEFAULT_ACCOUNT, text),
        };
        Ok(SimulatedKey { account: account.to_owned(), key: key.to_owned() })
    }
}

/// Account and key of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SimulatedCaller {
    pub(super) account: String,
    pub(super) key: String,
}

/// A kind of call that has a rate limit for each account.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum MeteredCall {
    Query,
    List,
    Cancel,
    /// Submits of one model.
    Submit(String),
    /// Upload policies for one model.
    Policy(String),
}

pub(super) struct SimulatedAccounts {
    /// True when each `sk-...` is a key of the account `main`.
    open: bool,
    by_key: HashMap<String, String>,
    /// Temporary keys, each with its account and the time of its end.
    temporary: HashMap<String, (String, SystemTime)>,
    overdue: HashSet<String>,
    meters: HashMap<(String, MeteredCall), SimulatedMeter>,
}

impl SimulatedAccounts {
    pub(super) fn new(credentials: &[SimulatedKey], overdue: &[String]) -> SimulatedAccounts {
        let by_key = credentials.iter().map(|known| (known.key.clone(), known.account.clone())).collect();
        SimulatedAccounts {
            open: credentials.is_empty(),
            by_key,
            temporary: HashMap::new(),
            overdue: overdue.iter().cloned().collect(),
            meters: HashMap::new(),
        }
    }

    pub(super) fn authenticate(
        &self,
        key: Option<&str>,
        now: SystemTime,
    ) -> Result<SimulatedCaller, ErrorAnswer> {
        let Some(key) = key.filter(|key| !key.is_empty()) else {
            return Err(ErrorAnswer::new(ErrorCause::InvalidApiKey, "No API-key provided."));
        };
        let known = self.by_key.get(key).or_else(|| {
            let (account, end) = self.temporary.get(key)?;
            (now < *end).then_some(account)
        });
        match known {
            Some(account) => Ok(SimulatedCaller { account: account.clone(), key: key.to_owned() }),
            None if self.open && key.starts_with("sk-") => {
                Ok(SimulatedCaller { account: DEFAULT_ACCOUNT.to_owned(), key: key.to_owned() })
            }
            None => Err(ErrorAnswer::new(ErrorCause::InvalidApiKey, "Invalid API-key provided.")),
        }
    }

    pub(super) fn issue(&mut self, SimulatedKey { account, key }: SimulatedKey) {
        self.by_key.insert(key, account);
    }

    pub(super) fn revoke(&mut self, key: &str) {
        self.by_key.remove(key);
    }

    /// Makes a temporary key, which has every right of the account.
    pub(super) fn mint(&mut self, account: &str, key: String, end: SystemTime) {
        self.temporary.insert(key, (account.to_owned(), end));
    }

    pub(super) fn standing(&self, account: &str) -> Result<(), ErrorAnswer> {
        if self.overdue.contains(account) {
            let message = "Access denied, please make sure your account is in good standing.";
            return Err(ErrorAnswer::new(ErrorCause::Arrearage, message));
        }
        Ok(())
    }

    pub(super) fn set_overdue(&mut self, account: &str, overdue: bool) {
        if overdue {
            self.overdue.insert(account.to_owned());
        } else {
            self.overdue.remove(account);
        }
    }

    /// Counts one call, and refuses it when it is over the limit.
    pub(super) fn meter(
        &mut self,
        account: &str,
        metered: MeteredCall,
        per_second: u32,
        now: SystemTime,
    ) -> Result<(), ErrorAnswer> {
        let meter = self.meters.entry((account.to_owned(), metered)).or_default();
        if meter.admit(per_second, now) {
            Ok(())
        } else {
            Err(ErrorAnswer::throttled(ThrottlingKind::RateQuota))
        }
    }

    /// The meters of all accounts.
    pub(super) fn meters(&self) -> impl Iterator<Item = (&str, &MeteredCall, &SimulatedMeter)> {
        self.meters.iter().map(|((account, metered), meter)| (account.as_str(), metered, meter))
    }
}

pub(super) const DEFAULT_ACCOUNT: &str = "main";

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(millis: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(millis)
    }

    #[test]
    fn a_credential_may_name_its_account() {
        let credential: SimulatedKey = "east=sk-1".parse().unwrap();
        assert_eq!((credential.account.as_str(), credential.key.as_str()), ("east", "sk-1"));
        let credential: SimulatedKey = "sk-ab==".parse().unwrap();
        assert_eq!((credential.account.as_str(), credential.key.as_str()), ("main", "sk-ab=="));
    }

    #[test]
    fn a_key_is_good_until_it_is_revoked() {
        let mut accounts = SimulatedAccounts::new(&["east=sk-1".parse().unwrap()], &[]);
        accounts.issue("east=sk-2".parse().unwrap());
        accounts.revoke("sk-1");
        assert!(accounts.authenticate(Some("sk-1"), at(0)).is_err());
        assert_eq!(accounts.authenticate(Some("sk-2"), at(0)).unwrap().account, "east");
    }

    #[test]
    fn a_temporary_key_ends() {
        let mut accounts = SimulatedAccounts::new(&["east=sk-1".parse().unwrap()], &[]);
        accounts.mint("east", "st-1".into(), at(60_000));
        assert_eq!(accounts.authenticate(Some("st-1"), at(59_999)).unwrap().account, "east");
        assert!(accounts.authenticate(Some("st-1"), at(60_000)).is_err());
        assert!(accounts.authenticate(Some("sk-2"), at(0)).is_err());
        assert!(accounts.authenticate(None, at(0)).is_err());
    }

    #[test]
    fn an_account_calls_so_often_in_any_second() {
        let mut accounts = SimulatedAccounts::new(&[], &[]);
        let mut call =
            |account: &str, metered, millis| accounts.meter(account, metered, 2, at(millis)).is_ok();
        assert!(call("a", MeteredCall::Query, 0));
        assert!(call("a", MeteredCall::Query, 900));
        assert!(!call("a", MeteredCall::Query, 999));
        assert!(call("a", MeteredCall::List, 999));
        assert!(call("b", MeteredCall::Query, 999));
        assert!(call("a", MeteredCall::Query, 1000));
        assert!(!call("a", MeteredCall::Query, 1500));
    }
}

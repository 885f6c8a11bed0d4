//! Alibaba accounts: their keys, their standing and how often they may call.

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::str::FromStr;
use std::time::SystemTime;

use super::errors::{Cause, Refusal, Throttling};
use super::meter::Meter;

/// An upstream key and the account it belongs to: `ACCOUNT=KEY`, or `KEY` of the account `main`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    pub account: String,
    pub key: String,
}

impl FromStr for Credential {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Credential, Infallible> {
        let (account, key) = match text.split_once('=') {
            Some((account, key)) if !account.starts_with("sk-") => (account, key),
            Some(_) | None => (DEFAULT_ACCOUNT, text),
        };
        Ok(Credential { account: account.to_owned(), key: key.to_owned() })
    }
}

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Caller {
    pub(super) account: String,
    pub(super) key: String,
}

/// What an account may do only so often.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Metered {
    Query,
    List,
    Cancel,
    /// Submits of one model.
    Submit(String),
    /// Upload policies for one model.
    Policy(String),
}

pub(super) struct Accounts {
    /// Any `sk-...` is a key of the account `main`.
    open: bool,
    by_key: HashMap<String, String>,
    /// Minted keys, with their account and their end.
    temporary: HashMap<String, (String, SystemTime)>,
    overdue: HashSet<String>,
    meters: HashMap<(String, Metered), Meter>,
}

impl Accounts {
    pub(super) fn new(credentials: &[Credential], overdue: &[String]) -> Accounts {
        let by_key = credentials.iter().map(|known| (known.key.clone(), known.account.clone())).collect();
        Accounts {
            open: credentials.is_empty(),
            by_key,
            temporary: HashMap::new(),
            overdue: overdue.iter().cloned().collect(),
            meters: HashMap::new(),
        }
    }

    pub(super) fn authenticate(&self, key: Option<&str>, now: SystemTime) -> Result<Caller, Refusal> {
        let Some(key) = key.filter(|key| !key.is_empty()) else {
            return Err(Refusal::new(Cause::InvalidApiKey, "No API-key provided."));
        };
        let known = self.by_key.get(key).or_else(|| {
            let (account, end) = self.temporary.get(key)?;
            (now < *end).then_some(account)
        });
        match known {
            Some(account) => Ok(Caller { account: account.clone(), key: key.to_owned() }),
            None if self.open && key.starts_with("sk-") => {
                Ok(Caller { account: DEFAULT_ACCOUNT.to_owned(), key: key.to_owned() })
            }
            None => Err(Refusal::new(Cause::InvalidApiKey, "Invalid API-key provided.")),
        }
    }

    pub(super) fn issue(&mut self, Credential { account, key }: Credential) {
        self.by_key.insert(key, account);
    }

    pub(super) fn revoke(&mut self, key: &str) {
        self.by_key.remove(key);
    }

    /// A temporary key with every right of the account.
    pub(super) fn mint(&mut self, account: &str, key: String, end: SystemTime) {
        self.temporary.insert(key, (account.to_owned(), end));
    }

    pub(super) fn standing(&self, account: &str) -> Result<(), Refusal> {
        if self.overdue.contains(account) {
            let message = "Access denied, please make sure your account is in good standing.";
            return Err(Refusal::new(Cause::Arrearage, message));
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

    /// Counts one call; over the limit it is refused.
    pub(super) fn meter(
        &mut self,
        account: &str,
        what: Metered,
        per_second: u32,
        now: SystemTime,
    ) -> Result<(), Refusal> {
        let meter = self.meters.entry((account.to_owned(), what)).or_default();
        if meter.admit(per_second, now) { Ok(()) } else { Err(Refusal::throttled(Throttling::RateQuota)) }
    }

    /// What was counted so far.
    pub(super) fn meters(&self) -> impl Iterator<Item = (&str, &Metered, &Meter)> {
        self.meters.iter().map(|((account, what), meter)| (account.as_str(), what, meter))
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
        let credential: Credential = "east=sk-1".parse().unwrap();
        assert_eq!((credential.account.as_str(), credential.key.as_str()), ("east", "sk-1"));
        let credential: Credential = "sk-ab==".parse().unwrap();
        assert_eq!((credential.account.as_str(), credential.key.as_str()), ("main", "sk-ab=="));
    }

    #[test]
    fn a_key_is_good_until_it_is_revoked() {
        let mut accounts = Accounts::new(&["east=sk-1".parse().unwrap()], &[]);
        accounts.issue("east=sk-2".parse().unwrap());
        accounts.revoke("sk-1");
        assert!(accounts.authenticate(Some("sk-1"), at(0)).is_err());
        assert_eq!(accounts.authenticate(Some("sk-2"), at(0)).unwrap().account, "east");
    }

    #[test]
    fn a_temporary_key_ends() {
        let mut accounts = Accounts::new(&["east=sk-1".parse().unwrap()], &[]);
        accounts.mint("east", "st-1".into(), at(60_000));
        assert_eq!(accounts.authenticate(Some("st-1"), at(59_999)).unwrap().account, "east");
        assert!(accounts.authenticate(Some("st-1"), at(60_000)).is_err());
        assert!(accounts.authenticate(Some("sk-2"), at(0)).is_err());
        assert!(accounts.authenticate(None, at(0)).is_err());
    }

    #[test]
    fn an_account_calls_so_often_in_any_second() {
        let mut accounts = Accounts::new(&[], &[]);
        let mut call = |account: &str, what, millis| accounts.meter(account, what, 2, at(millis)).is_ok();
        assert!(call("a", Metered::Query, 0));
        assert!(call("a", Metered::Query, 900));
        assert!(!call("a", Metered::Query, 999));
        assert!(call("a", Metered::List, 999));
        assert!(call("b", Metered::Query, 999));
        assert!(call("a", Metered::Query, 1000));
        assert!(!call("a", Metered::Query, 1500));
    }
}

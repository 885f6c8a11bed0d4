//! Tenants and their keys.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::SystemTime;

use super::defaults::WEIGHT;
use super::file::{self, RawConfig, RawSecret};
use super::moment::RawMoment;
use super::named_few::NamedFew;
use super::price_coverage;
use super::prices::PriceLists;
use super::reader::{ConfigReader, Located, Location, Text, number};
use super::secret::{check_length, shown};
use super::unique::{SecretUse, UniqueSecrets, UniqueValues, unique_name};
use super::{
    AsyncHeader, Config, KeySettings, TenantSettings, UsageOption, networks, scalar, tokens, webhooks,
};
use crate::dashscope::operation::{Group, Groups};

pub(super) fn check(
    reader: &ConfigReader<'_>,
    file: &RawConfig,
    prices: &PriceLists,
    now: SystemTime,
    secrets: &mut UniqueSecrets,
) -> Option<Vec<TenantSettings>> {
    warn_of_keyless(reader, file);
    let mut check = Check {
        reader,
        now,
        secrets,
        prices,
        accounts: file.accounts.iter().map(|account| Some(account.name.as_ref()?.value.as_str())).collect(),
        takes_new: file.accounts.iter().map(|account| !is_zero(account)).collect(),
        asks_clients: file.server.tls.as_ref().is_some_and(|tls| tls.asks_clients),
        names: UniqueValues::default(),
        standing: file
            .tenants
            .iter()
            .filter_map(|tenant| Some(tenant.name.as_ref()?.value.as_str()))
            .collect(),
        former_names: UniqueValues::default(),
        key_ids: UniqueValues::default(),
        certificates: UniqueValues::default(),
    };
    let checked: Vec<Option<TenantSettings>> =
        file.tenants.iter().map(|tenant| check.tenant(tenant)).collect();
    checked.into_iter().collect()
}

/// Checks one tenant that is not of the configuration's file.
pub(super) fn check_one(
    reader: &ConfigReader<'_>,
    written: &file::RawTenant,
    config: &Config,
    now: SystemTime,
) -> Option<TenantSettings> {
    let mut check = Check {
        reader,
        now,
        secrets: &mut UniqueSecrets::default(),
        prices: &config.prices,
        accounts: config.accounts.iter().map(|account| Some(&*account.name)).collect(),
        takes_new: config.accounts.iter().map(|account| account.weight > 0).collect(),
        asks_clients: config.settings.server.tls.as_ref().is_some_and(|tls| tls.clients.is_some()),
        names: UniqueValues::default(),
        standing: HashSet::new(),
        former_names: UniqueValues::default(),
        key_ids: UniqueValues::default(),
        certificates: UniqueValues::default(),
    };
    check.tenant(written)
}

fn is_zero(account: &file::RawAccount) -> bool {
    account.weight.as_ref().is_some_and(|weight| weight.value == 0)
}

/// State of the check of all tenants of a file.
struct Check<'a, 'r> {
    reader: &'a ConfigReader<'r>,
    now: SystemTime,
    secrets: &'a mut UniqueSecrets,
    prices: &'a PriceLists,
    /// Names of accounts in the order of the file; `None` where a name could not be read.
    accounts: Vec<Option<&'a str>>,
    takes_new: Vec<bool>,
    /// Clients may present certificates.
    asks_clients: bool,
    names: UniqueValues<String>,
    /// Names of all tenants of the file.
    standing: HashSet<&'a str>,
    former_names: UniqueValues<String>,
    key_ids: UniqueValues<String>,
    certificates: UniqueValues<String>,
}

impl Check<'_, '_> {
    fn tenant(&mut self, file: &file::RawTenant) -> Option<TenantSettings> {
        let reader = self.reader;
        let name = file.name.as_ref().and_then(|name| unique_name(reader, name, &mut self.names));
        let renamed_from = match &file.renamed_from {
            Some(written) => self.former_name(written).map(Some),
            None => Some(None),
        };
        let keys: Vec<Option<KeySettings>> =
            file.keys.iter().map(|key| self.key(key, &shown(&file.name, "tenant"))).collect();
        let async_header = reader.setting(&file.async_header, scalar::async_header, AsyncHeader::Require);
        let stream_usage = reader.setting(&file.stream_usage, scalar::stream_usage, UsageOption::AsSent);
        let accounts = match &file.accounts {
            Some(written) => self.references(written),
            None => Some((0..self.accounts.len()).collect()),
        };
        let takes_new = |index: &usize| self.takes_new[*index];
        if accounts.as_ref().is_some_and(|accounts| !accounts.is_empty() && !accounts.iter().any(takes_new)) {
            let location = file.accounts.as_ref().map_or(&file.location, |written| &written.location);
            let who = shown(&file.name, "tenant");
            let problem =
                format!("all accounts of {who} have the weight 0, so that it can call on old tasks only");
            reader.warn(location, problem, "give one of them a weight above 0");
        }
        let allow = match &file.allow {
            Some(written) => self.groups(written),
            None => Some(Groups::ALL),
        };
        let client_certificates = match &file.client_certificates {
            Some(written) => self.certificates(written),
            None => Some(Vec::new()),
        };
        let addresses = networks::addresses(reader, &file.addresses);
        let tokens = file.tokens.as_ref().map(|written| tokens::check(reader, written, allow));
        let billing = self.prices.billing(reader, &file.billing);
        let webhooks = webhooks::check(reader, &file.webhooks);
        if let (Some(billing), Some(prices)) = (&billing, &file.billing.prices) {
            let models = file.models.as_deref().unwrap_or_default();
            price_coverage::warn(reader, &shown(&file.name, "tenant"), models, prices, billing);
            let streams = allow.is_some_and(|allow| allow.contains(Group::Compatible));
            if billing.has_limit() && streams && stream_usage == UsageOption::AsSent {
                let location =
                    file.stream_usage.as_ref().map_or(&prices.location, |written| &written.location);
                let whose = shown(&file.name, "tenant");
                let problem = format!(
                    "OpenAI-compatible streams without `include_usage` are estimated, though the money of {whose} is limited"
                );
                reader.warn(location, problem, "write stream_usage = \"add\", so that they tell their use");
            }
        }
        Some(TenantSettings {
            name: name?,
            renamed_from: renamed_from?,
            enabled: file.enabled.as_ref().is_none_or(|written| written.value),
            keys: keys.into_iter().collect::<Option<_>>()?,
            async_header,
            stream_usage,
            accounts: accounts?,
            models: file.models.clone().unwrap_or_default(),
            allow: allow?,
            weight: number(&file.weight, WEIGHT),
            limits: file.limits.clone().unwrap_or_default(),
            tenant_limits: file.tenant_limits.clone().unwrap_or_default(),
            client_certificates: client_certificates?,
            addresses: addresses?,
            tokens: match tokens {
                Some(checked) => Some(checked?),
                None => None,
            },
            billing: billing?,
            webhooks: webhooks?,
        })
    }

    /// The name that a tenant had before, which no tenant may have now.
    fn former_name(&mut self, written: &Text) -> Option<Arc<str>> {
        self.reader.check(written, scalar::name)?;
        let hint = "one tenant alone can have had the name";
        let name = written.value.clone();
        self.former_names.note(self.reader, name, &written.location, "is the same as", hint);
        if self.standing.contains(written.value.as_str()) {
            let hint = "rename that tenant, whose tasks and entries this one is to have; or leave this out";
            self.reader.fault(&written.location, "a tenant of this file still has the name", hint);
        }
        Some(written.value.as_str().into())
    }

    /// The names of certificates; each stands for one tenant.
    fn certificates(&mut self, written: &Located<Vec<Text>>) -> Option<Vec<Arc<str>>> {
        self.not_empty(written, "leave it out where the tenant has keys alone")?;
        if !self.asks_clients {
            let hint = "give `client_ca` in `tls` of [server], whose authorities sign them";
            self.reader.fault(&written.location, "no client is asked for a certificate", hint);
        }
        let names = written.value.iter().map(|text| {
            let name = self.reader.check(text, scalar::certificate_name)?;
            let hint = "give each tenant names of its own";
            self.certificates.note(self.reader, name.clone(), &text.location, "is the same as", hint);
            Some(name.into())
        });
        names.collect()
    }

    /// `whose` names the tenant in warnings.
    fn key(&mut self, file: &file::RawKey, whose: &str) -> Option<KeySettings> {
        let id = file.id.as_ref().and_then(|id| unique_name(self.reader, id, &mut self.key_ids));
        let sha256 = file.material.as_ref().and_then(|material| self.digest(material));
        let expires = match &file.expires {
            Some(expires) => Some(self.expires(expires, &shown(&file.id, "key"), whose)?),
            None => None,
        };
        let addresses = networks::addresses(self.reader, &file.addresses);
        Some(KeySettings { id: id?, sha256: sha256?, expires, addresses: addresses? })
    }

    fn digest(&mut self, material: &RawSecret) -> Option<[u8; 32]> {
        match material {
            RawSecret::Secret(secret) => {
                self.reader.check(secret, check_length);
                Some(self.secrets.note(self.reader, secret, SecretUse::Virtual))
            }
            RawSecret::Sha256(text) => {
                let digest = self.reader.check(text, scalar::sha256)?;
                self.secrets.note_digest(self.reader, digest, &text.location, SecretUse::Virtual);
                Some(digest)
            }
        }
    }

    fn expires(&self, written: &RawMoment, key: &str, whose: &str) -> Option<SystemTime> {
        let moment = written.check(self.reader)?;
        if moment <= self.now {
            let problem = format!("{key} of {whose} has expired");
            self.reader.warn(written.location(), problem, "remove the key, or give it a later date");
        }
        Some(moment)
    }

    fn references(&self, written: &Located<Vec<Text>>) -> Option<Vec<usize>> {
        self.not_empty(written, "leave it out to allow all accounts")?;
        let mut once = UniqueValues::default();
        let found: Vec<Option<usize>> =
            written.value.iter().map(|name| self.reference(name, &mut once)).collect();
        found.into_iter().collect()
    }

    fn reference(&self, name: &Text, once: &mut UniqueValues<String>) -> Option<usize> {
        once.note(self.reader, name.value.clone(), &name.location, "is the same as", "keep one of them");
        let known = || self.accounts.iter().enumerate();
        let found = known().find(|(_, account)| **account == Some(name.value.as_str()));
        // An account whose name could not be read may be the one that is meant.
        if found.is_none() && !self.reader.torn && self.accounts.iter().all(Option::is_some) {
            let likeness = |account: &str| strsim::normalized_damerau_levenshtein(account, &name.value);
            let near = known().find(|(_, account)| account.is_some_and(|account| likeness(account) >= 0.6));
            let hint = match near {
                // The hint shows the index, as no value is shown.
                Some((index, _)) => format!("did you mean the name of accounts[{index}]?"),
                None => "write the name of one of [[accounts]]".to_owned(),
            };
            self.reader.fault(&name.location, "no account has this name", hint);
        }
        found.map(|(index, _)| index)
    }

    fn groups(&self, written: &Located<Vec<Text>>) -> Option<Groups> {
        self.not_empty(written, "leave it out to allow all groups")?;
        written.value.iter().map(|group| self.reader.check(group, scalar::group)).collect()
    }

    fn not_empty(&self, written: &Located<Vec<Text>>, hint: &str) -> Option<()> {
        if written.value.is_empty() {
            self.reader.fault(&written.location, "is empty", hint);
            return None;
        }
        Some(())
    }
}

/// Warns of tenants without keys where none can be made at run time either. Where a gateway has an admin token, only a
/// gateway that runs knows which tenants have keys.
fn warn_of_keyless(reader: &ConfigReader<'_>, file: &RawConfig) {
    let is_keyless = |tenant: &&file::RawTenant| !tenant.has_keys && tenant.client_certificates.is_none();
    let keyless = || file.tenants.iter().filter(is_keyless);
    let Some(first) = keyless().next().filter(|_| file.admin.token.is_none() && file.admin.tokens.is_empty())
    else {
        return;
    };
    let mut names = NamedFew::default();
    keyless().for_each(|tenant| names.note(shown(&tenant.name, "tenant")));
    let location = Location { path: "tenants".to_owned(), ..first.location.clone() };
    let problem = format!("no keys are given for {names}, and none can be made without `token` in [admin]");
    reader.warn(&location, problem, "add `keys`, or give [admin] a token");
}

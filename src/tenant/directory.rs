//! The directory: one immutable snapshot of everything that a request is checked against.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use foldhash::fast::RandomState;

use super::certificate::CertificateIndex;
use super::key::{CredentialFault, KeyDigest};
use super::last_use::{ConfiguredUses, LastUse};
use super::models::ModelLabels;
use super::token::AdminToken;
use crate::account::{Account, AccountRegistry};
use crate::config::{
    AsyncHeader, Billing, Config, GlobalSettings, Limits, Mount, TenantSettings, TokenSettings, UsageOption,
    WebhookSettings,
};
use crate::dashscope::operation::Groups;
use crate::net::networks::Networks;
use crate::store::{Entry, FormerNames};
use crate::telemetry::metrics::{
    DeliveryResult, Metrics, ModelSeries, MountSeries, RunningRequests, TenantSeries,
};

/// Settings, mounts, accounts, tenants and the keys of the configuration. A request loads the directory once and keeps
/// it until the request ends.
#[derive(Debug)]
pub struct Directory {
    /// Mounts, the longest prefix first.
    pub mounts: Vec<Mount>,
    /// Metrics of the mounts, in the order of `mounts`.
    pub mount_series: Vec<Arc<MountSeries>>,
    pub accounts: Vec<Account>,
    pub settings: GlobalSettings,
    /// Without a token the admin listener serves health only.
    pub admin_tokens: Vec<AdminToken>,
    models: ModelLabels,
    no_tenant: Arc<TenantSeries>,
    /// Tenants in the order of the configuration. The fields below hold indices into them and into `keys`.
    pub(super) tenants: Vec<Tenant>,
    pub(super) tenants_by_name: HashMap<Arc<str>, usize, RandomState>,
    pub(super) keys: Vec<ConfiguredKey>,
    pub(super) by_digest: HashMap<KeyDigest, usize, RandomState>,
    pub(super) by_id: HashMap<Arc<str>, usize, RandomState>,
    pub(super) certificates: CertificateIndex,
    /// Index of the key that stands for every caller of a sidecar: callers on the same host need no key.
    pub(super) sidecar_key: Option<usize>,
}

/// A tenant's settings and metrics.
#[derive(Debug)]
pub struct Tenant {
    pub name: Arc<str>,
    pub series: Arc<TenantSeries>,
    /// Requests that run in this process.
    pub running: Arc<RunningRequests>,
    /// False: all calls of the tenant are refused.
    pub enabled: bool,
    pub async_header: AsyncHeader,
    pub stream_usage: UsageOption,
    /// Indices into [`Directory::accounts`].
    pub accounts: Vec<usize>,
    pub allow: Groups,
    /// The tenant's share where submits of several tenants wait.
    pub weight: u32,
    /// Allowed models, as names or patterns with `*`. An empty list allows all models.
    pub models: Vec<String>,
    /// Limits of each key of the tenant.
    pub limits: Limits,
    /// Limits of all keys of the tenant together.
    pub tenant_limits: Limits,
    /// From where callers may call who have no addresses of their key's own; empty: from anywhere.
    pub addresses: Networks,
    /// Prices and limits of the tenant's money.
    pub billing: Billing,
    pub webhooks: WebhookSettings,
    /// The browser tokens that its keys may make.
    pub tokens: Option<BrowserTokens>,
    /// True for a tenant as its browser tokens may call.
    pub is_for_browsers: bool,
    /// Models that its browser tokens may use, beside `models`; empty: all of them.
    pub browser_models: Vec<String>,
}

/// The browser tokens of a tenant.
#[derive(Debug)]
pub struct BrowserTokens {
    pub rules: TokenSettings,
    /// The tenant, narrowed to what its tokens may do.
    pub scope: Box<Tenant>,
}

/// A key of the configuration.
#[derive(Debug)]
pub struct ConfiguredKey {
    /// The key's loggable name.
    pub id: Arc<str>,
    pub expires: Option<SystemTime>,
    pub last_use: Arc<LastUse>,
    /// Addresses that the key is good from, in place of the tenant's; empty: the tenant's count.
    pub(super) addresses: Networks,
    /// `None` for the sidecar's key, which nobody presents.
    pub(super) digest: Option<KeyDigest>,
    /// Index into [`Directory::tenants`].
    pub(super) tenant: usize,
}

impl Directory {
    /// Builds the directory of a configuration, and of tenants that were made at run time. Accounts keep their health from
    /// `registry`, keys their last uses, and metrics go on counting: these outlive every directory.
    pub fn build(
        config: &Config,
        made: &[Arc<TenantSettings>],
        registry: &AccountRegistry,
        metrics: &Metrics,
        uses: &ConfiguredUses,
    ) -> Self {
        let mut mounts = config.mounts.clone();
        mounts.sort_by_key(|mount| std::cmp::Reverse(mount.prefix.len()));
        let mut directory = Directory {
            mount_series: mounts.iter().map(|mount| metrics.mount(&mount.prefix)).collect(),
            mounts,
            accounts: config
                .accounts
                .iter()
                .map(|account| Account::new(account, registry, metrics))
                .collect(),
            settings: config.settings.clone(),
            admin_tokens: AdminToken::all(&config.settings.admin),
            models: ModelLabels::new(config, metrics),
            no_tenant: Arc::clone(&metrics.no_tenant),
            tenants: Vec::with_capacity(config.tenants.len() + made.len()),
            tenants_by_name: HashMap::default(),
            keys: Vec::new(),
            by_digest: HashMap::default(),
            by_id: HashMap::default(),
            certificates: CertificateIndex::default(),
            sidecar_key: None,
        };
        directory.certificates.verifier =
            config.settings.server.tls.as_ref().and_then(|tls| tls.clients.clone());
        for tenant in config.tenants.iter().chain(made.iter().map(Arc::as_ref)) {
            let number = directory.tenants.len();
            directory.tenants_by_name.insert(Arc::clone(&tenant.name), number);
            for key in &tenant.keys {
                let (id, digest) = (Arc::clone(&key.id), Some(key.sha256));
                directory.by_digest.insert(key.sha256, directory.keys.len());
                directory.by_id.insert(Arc::clone(&id), directory.keys.len());
                let addresses = key.addresses.clone();
                directory.keys.push(ConfiguredKey {
                    last_use: uses.of(&id),
                    id,
                    expires: key.expires,
                    addresses,
                    digest,
                    tenant: number,
                });
            }
            for name in &tenant.client_certificates {
                directory.certificates.note(name, number);
            }
            if config.sidecar {
                directory.sidecar_key = Some(directory.keys.len());
                let id = Arc::clone(&tenant.name);
                directory.keys.push(ConfiguredKey {
                    last_use: Arc::default(),
                    id,
                    expires: None,
                    addresses: Networks::default(),
                    digest: None,
                    tenant: number,
                });
            }
            let series = metrics.tenant(&tenant.name, number);
            directory.tenants.push(Tenant::new(tenant, &series, &metrics.running(&tenant.name)));
        }
        directory
    }

    /// Finds tenants by the names that they had before too: keys, tasks and requests may still have these.
    pub fn with_former_names(mut self, names: &FormerNames) -> Self {
        for (former, name) in names.iter() {
            if let Some(number) = self.tenants_by_name.get(name).copied() {
                self.tenants_by_name.entry(Arc::clone(former)).or_insert(number);
            }
        }
        self
    }

    /// The metrics of a model.
    pub fn model_series(&self, model: &str) -> &Arc<ModelSeries> {
        self.models.series(model)
    }

    /// Counts what an entry of the ledger says was used. Each entry is counted once, when it is durable or on its way to
    /// the store.
    pub fn count_use(&self, entry: &Entry) {
        let model = self.model_series(&entry.model);
        let tenant = self.tenants_by_name.get(&entry.tenant).map(|number| &self.tenants[*number]);
        let series = tenant.map_or(&self.no_tenant, |tenant| &tenant.series);
        series.count_use(model, &entry.units, &entry.class);
        let has_prices = tenant.is_some_and(|tenant| tenant.billing.prices.is_some());
        if let Some(amount) = entry.charge.amount {
            series.count_spend(amount.nanos());
        }
        if has_prices && entry.charge.leaves_out(&entry.units, &entry.class) {
            model.count_unpriced_use();
        }
        if entry.flags.is_unread {
            model.count_unread_use();
        }
    }

    /// Counts a try to deliver a webhook of a tenant.
    pub fn count_delivery(&self, tenant: &str, result: DeliveryResult) {
        self.tenant(tenant).map_or(&self.no_tenant, |tenant| &tenant.series).count_delivery(result);
    }

    /// The index of the account with this name, if it is still configured.
    pub fn account_index(&self, name: &str) -> Option<usize> {
        self.accounts.iter().position(|account| *account.name == *name)
    }

    pub fn tenants(&self) -> &[Tenant] {
        &self.tenants
    }

    /// The tenant's share of turns; 1 for a tenant that is not configured any more.
    pub fn weight_of(&self, tenant: &str) -> u32 {
        self.tenants_by_name.get(tenant).map_or(1, |number| self.tenants[*number].weight)
    }

    /// The tenant that has the name, or had it before.
    pub fn tenant(&self, name: &str) -> Option<&Tenant> {
        self.tenants_by_name.get(name).map(|number| &self.tenants[*number])
    }

    /// A tenant of an earlier directory as it stands in this one.
    pub fn successor(&self, earlier: &Tenant) -> Option<&Tenant> {
        let tenant = self.tenant(&earlier.name)?;
        if earlier.is_for_browsers { Some(&tenant.tokens.as_ref()?.scope) } else { Some(tenant) }
    }

    /// True if a tenant has the name now.
    pub fn has_tenant(&self, name: &str) -> bool {
        self.tenant(name).is_some_and(|tenant| *tenant.name == *name)
    }

    /// The key of the configuration with this id, and its tenant.
    pub fn key_named(&self, id: &str) -> Option<(&ConfiguredKey, &Tenant)> {
        let key = &self.keys[*self.by_id.get(id)?];
        Some((key, &self.tenants[key.tenant]))
    }

    /// The tenant of a caller that the configuration knows by this name: a key id, the name in a certificate, or the name
    /// of a sidecar's key.
    pub fn tenant_of_caller(&self, name: &str) -> Option<&Tenant> {
        let of_key = self.by_id.get(name).map(|index| self.keys[*index].tenant);
        let of_sidecar = || self.sidecar_key.map(|index| self.keys[index].tenant);
        let tenant = of_key.or_else(|| self.certificates.tenant_of(name)).or_else(of_sidecar)?;
        Some(&self.tenants[tenant])
    }

    /// For each tenant, whether the configuration lets anybody call as it at `now`: with a key, with a certificate, or
    /// as the sidecar's caller.
    pub(super) fn callable(&self, now: SystemTime) -> Vec<bool> {
        let mut callable: Vec<bool> =
            (0..self.tenants.len()).map(|number| self.certificates.requires(number)).collect();
        for key in self.keys.iter().filter(|key| key.fault(now).is_none()) {
            callable[key.tenant] = true;
        }
        callable
    }

    /// The keys of the configuration, in no order, each with its tenant.
    pub fn keys(&self) -> impl Iterator<Item = (&ConfiguredKey, &Tenant)> {
        let written = self.keys.iter().filter(|key| key.digest.is_some());
        written.map(|key| (key, &self.tenants[key.tenant]))
    }
}

impl Tenant {
    fn new(settings: &TenantSettings, series: &Arc<TenantSeries>, running: &Arc<RunningRequests>) -> Self {
        let tokens = settings.tokens.as_ref().map(|rules| {
            let narrowed = Self {
                allow: settings.allow.and(rules.allow),
                is_for_browsers: true,
                browser_models: rules.models.clone(),
                ..Self::without_tokens(settings, series, running)
            };
            BrowserTokens { rules: rules.clone(), scope: Box::new(narrowed) }
        });
        Self { tokens, ..Self::without_tokens(settings, series, running) }
    }

    fn without_tokens(
        settings: &TenantSettings,
        series: &Arc<TenantSeries>,
        running: &Arc<RunningRequests>,
    ) -> Self {
        Self {
            name: Arc::clone(&settings.name),
            series: Arc::clone(series),
            running: Arc::clone(running),
            enabled: settings.enabled,
            async_header: settings.async_header,
            stream_usage: settings.stream_usage,
            accounts: settings.accounts.clone(),
            allow: settings.allow,
            weight: settings.weight,
            models: settings.models.clone(),
            limits: settings.limits.clone(),
            tenant_limits: settings.tenant_limits.clone(),
            addresses: settings.addresses.clone(),
            billing: settings.billing.clone(),
            webhooks: settings.webhooks.clone(),
            tokens: None,
            is_for_browsers: false,
            browser_models: Vec::new(),
        }
    }
}

impl ConfiguredKey {
    /// Addresses that the key is good from, in place of the tenant's; empty: the tenant's count.
    pub fn addresses(&self) -> &Networks {
        &self.addresses
    }

    /// SHA-256 of the secret; `None` for the sidecar's key.
    pub(super) fn digest(&self) -> Option<&KeyDigest> {
        self.digest.as_ref()
    }

    /// Why the key lets nobody in at `now`; `None` while the key is valid.
    pub(super) fn fault(&self, now: SystemTime) -> Option<CredentialFault> {
        self.expires.is_some_and(|expires| expires <= now).then_some(CredentialFault::Expired)
    }
}

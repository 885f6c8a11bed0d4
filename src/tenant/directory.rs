//! Everything that a request is checked against, as one immutable snapshot.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use foldhash::fast::RandomState;

use super::certificate::{CertificateHolder, CertificateIndex, ClientCertificate};
use super::key::{CredentialFault, KeyDigest, VirtualKey};
use super::keyring::{IssuedKey, KeyEnd, Keyring};
use super::models::ModelLabels;
use super::token::AdminToken;
use crate::account::{Account, AccountRegistry};
use crate::config::{AsyncHeader, Config, GlobalSettings, Limits, Mount};
use crate::dashscope::operation::Groups;
use crate::telemetry::metrics::{Metrics, ModelSeries, MountSeries, TenantSeries};

/// Mounts, accounts, tenants and their keys. A request loads it once and keeps it to its end.
#[derive(Debug)]
pub struct Directory {
    /// The longest prefix first.
    pub mounts: Vec<Mount>,
    /// What is counted of them, in the same order.
    pub mount_series: Vec<Arc<MountSeries>>,
    pub accounts: Vec<Account>,
    pub settings: GlobalSettings,
    /// The digest of the configured token. Without a token the admin listener serves health only.
    pub admin_token: Option<AdminToken>,
    models: ModelLabels,
    tenants: Vec<Tenant>,
    tenants_by_name: HashMap<Arc<str>, usize, RandomState>,
    keys: Vec<ConfiguredKey>,
    by_digest: HashMap<KeyDigest, usize, RandomState>,
    by_id: HashMap<Arc<str>, usize, RandomState>,
    certificates: CertificateIndex,
    /// The key of callers on the same host who need none.
    local: Option<usize>,
}

#[derive(Debug)]
pub struct Tenant {
    pub name: Arc<str>,
    /// What is counted of it.
    pub series: Arc<TenantSeries>,
    pub async_header: AsyncHeader,
    /// Indices into [`Directory::accounts`].
    pub accounts: Vec<usize>,
    pub allow: Groups,
    /// Its share of the turns, where submits wait.
    pub weight: u32,
    /// Patterns with `*`; empty stands for all models.
    pub models: Vec<String>,
    /// Of each of its keys.
    pub limits: Limits,
    /// Of all its keys together.
    pub tenant_limits: Limits,
}

/// A key of the configuration.
#[derive(Debug)]
pub struct ConfiguredKey {
    /// The loggable name.
    pub id: Arc<str>,
    pub expires: Option<SystemTime>,
    /// None for callers who need no key.
    digest: Option<KeyDigest>,
    tenant: usize,
}

/// A key of the configuration and one made at run time that can't be told apart. The configuration's stands.
enum KeyConflict {
    SameId { id: Arc<str>, configured: Arc<str>, issued: Arc<str> },
    SameSecret { configured: Arc<str>, issued: Box<str> },
}

impl Directory {
    /// The accounts are as the registry knows them, and what is counted goes on: both outlive every directory.
    pub fn build(config: &Config, registry: &AccountRegistry, metrics: &Metrics) -> Self {
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
            admin_token: config.settings.admin.token.as_ref().map(AdminToken::new),
            models: ModelLabels::new(config, metrics),
            tenants: Vec::with_capacity(config.tenants.len()),
            tenants_by_name: HashMap::default(),
            keys: Vec::new(),
            by_digest: HashMap::default(),
            by_id: HashMap::default(),
            certificates: CertificateIndex::default(),
            local: None,
        };
        directory.certificates.verifier =
            config.settings.server.tls.as_ref().and_then(|tls| tls.clients.clone());
        for tenant in &config.tenants {
            let number = directory.tenants.len();
            directory.tenants_by_name.insert(Arc::clone(&tenant.name), number);
            for key in &tenant.keys {
                let (id, digest) = (Arc::clone(&key.id), Some(key.sha256));
                directory.by_digest.insert(key.sha256, directory.keys.len());
                directory.by_id.insert(Arc::clone(&id), directory.keys.len());
                directory.keys.push(ConfiguredKey { id, expires: key.expires, digest, tenant: number });
            }
            for name in &tenant.client_certificates {
                directory.certificates.note(name, number);
            }
            if config.sidecar {
                directory.local = Some(directory.keys.len());
                let id = Arc::clone(&tenant.name);
                directory.keys.push(ConfiguredKey { id, expires: None, digest: None, tenant: number });
            }
            directory.tenants.push(Tenant {
                name: Arc::clone(&tenant.name),
                series: metrics.tenant(&tenant.name, number),
                async_header: tenant.async_header,
                accounts: tenant.accounts.clone(),
                allow: tenant.allow,
                weight: tenant.weight,
                models: tenant.models.clone(),
                limits: tenant.limits.clone(),
                tenant_limits: tenant.tenant_limits.clone(),
            });
        }
        directory
    }

    /// Who calls, by a key, a certificate, or both; `None` where there is neither.
    ///
    /// # Errors
    /// The [`CredentialFault`] that it is.
    pub fn identify(
        self: &Arc<Self>,
        keyring: &Keyring,
        key: Option<VirtualKey<'_>>,
        certificate: Option<&Arc<ClientCertificate>>,
        now: SystemTime,
    ) -> Result<Option<Caller>, CredentialFault> {
        let holder = self.certificates.holder(certificate, now)?;
        let certificate = certificate.cloned().filter(|_| holder.is_some());
        let caller = match (key, holder) {
            (None, None) => return Ok(None),
            (None, Some(CertificateHolder { tenant, name })) => Caller {
                directory: Arc::clone(self),
                tenant,
                holds: Credential::Certificate(name),
                certificate,
            },
            (Some(key), holder) => {
                let caller = self.holder_of(keyring, key, now)?;
                self.certificates.check(caller.tenant, holder.as_ref())?;
                Caller { certificate, ..caller }
            }
        };
        Ok(Some(caller))
    }

    /// Who holds the key: one of the configuration, else one of the ring.
    fn holder_of(
        self: &Arc<Self>,
        keyring: &Keyring,
        key: VirtualKey<'_>,
        now: SystemTime,
    ) -> Result<Caller, CredentialFault> {
        let digest = key.digest();
        if let Some(at) = self.by_digest.get(&digest) {
            return match self.keys[*at].fault(now) {
                Some(stranger) => Err(stranger),
                None => Ok(self.configured(*at)),
            };
        }
        let Some(issued) = keyring.find(&digest) else {
            return Err(if key.is_mistyped() { CredentialFault::Mistyped } else { CredentialFault::Unknown });
        };
        let tenant = self.tenant_of(&issued).ok_or(CredentialFault::Unknown)?;
        match issued.fault(now) {
            Some(stranger) => Err(stranger),
            None => Ok(self.holding(tenant, Credential::Issued(issued))),
        }
    }

    /// Who a caller on the same host is, where that is all it takes.
    pub fn local_caller(self: &Arc<Self>) -> Option<Caller> {
        self.local.map(|at| self.configured(at))
    }

    fn configured(self: &Arc<Self>, at: usize) -> Caller {
        self.holding(self.keys[at].tenant, Credential::Configured(at))
    }

    fn holding(self: &Arc<Self>, tenant: usize, holds: Credential) -> Caller {
        Caller { directory: Arc::clone(self), tenant, holds, certificate: None }
    }

    /// None where the tenant is not configured any more, or a key of the configuration has the same id.
    fn tenant_of(&self, issued: &IssuedKey) -> Option<usize> {
        let tenant = self.tenants_by_name.get(&issued.tenant).copied();
        tenant.filter(|_| !self.by_id.contains_key(&*issued.id))
    }

    /// The place of the mount with this prefix.
    pub fn mount(&self, prefix: &Arc<str>) -> Option<usize> {
        self.mounts.iter().position(|mount| Arc::ptr_eq(&mount.prefix, prefix))
    }

    /// What is counted of the model.
    pub fn model_series(&self, model: &str) -> &Arc<ModelSeries> {
        self.models.series(model)
    }

    /// The index of the account with this name, if it is still configured.
    pub fn account_index(&self, name: &str) -> Option<usize> {
        self.accounts.iter().position(|account| *account.name == *name)
    }

    pub fn tenants(&self) -> &[Tenant] {
        &self.tenants
    }

    pub fn has_tenant(&self, name: &str) -> bool {
        self.tenants_by_name.contains_key(name)
    }

    /// The key of the configuration with this id, and its tenant.
    pub fn key_named(&self, id: &str) -> Option<(&ConfiguredKey, &Tenant)> {
        let key = &self.keys[*self.by_id.get(id)?];
        Some((key, &self.tenants[key.tenant]))
    }

    /// The keys of the configuration, in no order, each with its tenant.
    pub fn keys(&self) -> impl Iterator<Item = (&ConfiguredKey, &Tenant)> {
        let written = self.keys.iter().filter(|key| key.digest.is_some());
        written.map(|key| (key, &self.tenants[key.tenant]))
    }

    /// Says which keys made at run time open nothing, though they were not revoked.
    pub fn tell_shut_out(&self, keyring: &Keyring, now: SystemTime) {
        for clash in self.clashes(keyring) {
            tracing::warn!("{clash}");
        }
        let (mut count, mut ids) = (0_usize, Vec::new());
        keyring.each(|key| {
            if key.fault(now).is_none() && !self.has_tenant(&key.tenant) {
                count += 1;
                if ids.len() < MOST_NAMED {
                    ids.push(format!("`{}`", key.id));
                }
            }
        });
        if count > 0 {
            let (ids, more) = (ids.join(", "), if count > MOST_NAMED { ", ..." } else { "" });
            tracing::warn!(
                "{count} key(s) made at run time are refused, as their tenants are not configured: {ids}{more}; \
                 revoke them, or configure their tenants"
            );
        }
    }

    /// What stands both in the configuration and on the ring.
    fn clashes(&self, keyring: &Keyring) -> Vec<KeyConflict> {
        let mut clashes = Vec::new();
        for (key, tenant) in self.keys() {
            // One that is revoked is in nobody's way.
            let living = keyring.named(&key.id).filter(|issued| issued.ends() != KeyEnd::Revoked);
            if let Some(issued) = living {
                let (configured, issued) = (Arc::clone(&tenant.name), Arc::clone(&issued.tenant));
                clashes.push(KeyConflict::SameId { id: Arc::clone(&key.id), configured, issued });
            }
            if let Some(issued) = key.digest.and_then(|digest| keyring.find(&digest)) {
                clashes.push(KeyConflict::SameSecret {
                    configured: Arc::clone(&key.id),
                    issued: issued.id.clone(),
                });
            }
        }
        clashes
    }
}

/// For the operator's log.
impl fmt::Display for KeyConflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeyConflict::SameId { id, configured, issued } => write!(
                f,
                "two keys have the id `{id}`: one of the configuration, of the tenant `{configured}`, and one made \
                 at run time, of `{issued}`. The configuration's stands, the other is refused: revoke that with \
                 `dashgate keys revoke {id}`, or give the one in the configuration another id"
            ),
            KeyConflict::SameSecret { configured, issued } => write!(
                f,
                "the key `{configured}` of the configuration has the same secret as `{issued}`, which was made at \
                 run time. The configuration's stands, whatever becomes of the other: give it a secret of its own"
            ),
        }
    }
}

impl ConfiguredKey {
    fn fault(&self, now: SystemTime) -> Option<CredentialFault> {
        self.expires.is_some_and(|expires| expires <= now).then_some(CredentialFault::Expired)
    }
}

/// A tenant, by one of its keys or certificates. Keeps the snapshot in which it was found.
#[derive(Debug, Clone)]
pub struct Caller {
    directory: Arc<Directory>,
    tenant: usize,
    holds: Credential,
    /// Its tenant's, beside the key or in its place.
    certificate: Option<Arc<ClientCertificate>>,
}

#[derive(Debug, Clone)]
enum Credential {
    /// Index of a key of the configuration.
    Configured(usize),
    Issued(Arc<IssuedKey>),
    /// No key: the name in its certificate.
    Certificate(Arc<str>),
}

impl Caller {
    /// The loggable name of its key, or of its certificate where it has none. No key's has `:` or `=` in it.
    pub fn key_id(&self) -> &str {
        match &self.holds {
            Credential::Configured(at) => &self.directory.keys[*at].id,
            Credential::Issued(key) => &key.id,
            Credential::Certificate(name) => name,
        }
    }

    pub fn tenant(&self) -> &Tenant {
        &self.directory.tenants[self.tenant]
    }

    pub fn directory(&self) -> &Arc<Directory> {
        &self.directory
    }

    /// Why its key or certificate opens nothing now, though it did; None while it does. `current` is today's
    /// directory.
    pub fn fault(&self, current: &Arc<Directory>, now: SystemTime) -> Option<CredentialFault> {
        self.key_fault(current, now).or_else(|| self.certificate_fault(current, now))
    }

    fn key_fault(&self, current: &Arc<Directory>, now: SystemTime) -> Option<CredentialFault> {
        let unchanged = Arc::ptr_eq(current, &self.directory);
        match &self.holds {
            Credential::Configured(at) if unchanged => self.directory.keys[*at].fault(now),
            Credential::Configured(at) => {
                let digest = self.directory.keys[*at].digest?;
                let written = current.by_digest.get(&digest).map(|at| &current.keys[*at]);
                let own = |key: &&ConfiguredKey| current.tenants[key.tenant].name == self.tenant().name;
                written.filter(own).map_or(Some(CredentialFault::Revoked), |key| key.fault(now))
            }
            Credential::Issued(key) => {
                let stays = unchanged
                    || current.has_tenant(&self.tenant().name) && !current.by_id.contains_key(&*key.id);
                if stays { key.fault(now) } else { Some(CredentialFault::Revoked) }
            }
            Credential::Certificate(_) => None,
        }
    }

    fn certificate_fault(&self, current: &Arc<Directory>, now: SystemTime) -> Option<CredentialFault> {
        let unchanged = Arc::ptr_eq(current, &self.directory);
        if self.certificate.is_none() && (unchanged || current.certificates.is_empty()) {
            return None;
        }
        let holder = match current.certificates.holder(self.certificate.as_ref(), now) {
            Ok(holder) => holder,
            Err(stranger) => return Some(stranger),
        };
        let tenant = current.tenants_by_name.get(&self.tenant().name).copied();
        match (&self.holds, tenant) {
            (Credential::Certificate(_), tenant) => {
                let stays = tenant.is_some() && holder.map(|holder| holder.tenant) == tenant;
                (!stays).then_some(CredentialFault::Revoked)
            }
            (Credential::Configured(_) | Credential::Issued(_), tenant) => {
                current.certificates.check(tenant?, holder.as_ref()).err()
            }
        }
    }
}

/// Of keys that are told of together.
const MOST_NAMED: usize = 5;

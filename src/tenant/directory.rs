//! Everything that a request is checked against, as one immutable snapshot.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use super::key::{KeyDigest, VirtualKey};
use crate::account::{Account, Registry};
use crate::config::{AsyncHeader, Config, Mount};
use crate::dashscope::operation::Groups;

/// Mounts, accounts, tenants and their keys. A request loads it once and keeps it to its end.
#[derive(Debug)]
pub struct Directory {
    /// The longest prefix first.
    pub mounts: Vec<Mount>,
    pub accounts: Vec<Account>,
    tenants: Vec<Tenant>,
    keys: Vec<Key>,
    by_digest: HashMap<KeyDigest, usize, foldhash::fast::RandomState>,
    /// The key of callers on the same host who need none.
    local: Option<usize>,
}

#[derive(Debug)]
pub struct Tenant {
    pub name: Arc<str>,
    pub async_header: AsyncHeader,
    /// Indices into [`Directory::accounts`].
    pub accounts: Vec<usize>,
    pub allow: Groups,
}

#[derive(Debug)]
pub struct Key {
    /// The loggable name.
    pub id: Arc<str>,
    expires: Option<SystemTime>,
    tenant: usize,
}

/// Why a presented key opens nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stranger {
    Unknown,
    Expired,
}

impl Directory {
    /// The accounts are as the registry knows them: that outlives every directory.
    pub fn build(config: &Config, registry: &Registry) -> Self {
        let mut mounts = config.mounts.clone();
        mounts.sort_by_key(|mount| std::cmp::Reverse(mount.prefix.len()));
        let mut directory = Directory {
            mounts,
            accounts: config.accounts.iter().map(|account| Account::new(account, registry)).collect(),
            tenants: Vec::with_capacity(config.tenants.len()),
            keys: Vec::new(),
            by_digest: HashMap::default(),
            local: None,
        };
        for tenant in &config.tenants {
            for key in &tenant.keys {
                directory.by_digest.insert(key.sha256, directory.keys.len());
                let (id, expires) = (Arc::clone(&key.id), key.expires);
                directory.keys.push(Key { id, expires, tenant: directory.tenants.len() });
            }
            if config.sidecar {
                directory.local = Some(directory.keys.len());
                let id = Arc::clone(&tenant.name);
                directory.keys.push(Key { id, expires: None, tenant: directory.tenants.len() });
            }
            directory.tenants.push(Tenant {
                name: Arc::clone(&tenant.name),
                async_header: tenant.async_header,
                accounts: tenant.accounts.clone(),
                allow: tenant.allow,
            });
        }
        directory
    }

    /// Who holds the key.
    ///
    /// # Errors
    /// The [`Stranger`] that it is.
    pub fn caller(self: &Arc<Self>, key: VirtualKey<'_>, now: SystemTime) -> Result<Caller, Stranger> {
        let at = *self.by_digest.get(&key.digest()).ok_or(Stranger::Unknown)?;
        match self.keys[at].expires {
            Some(expires) if expires <= now => Err(Stranger::Expired),
            Some(_) | None => Ok(Caller { directory: Arc::clone(self), key: at }),
        }
    }

    /// Who a caller on the same host is, where that is all it takes.
    pub fn local_caller(self: &Arc<Self>) -> Option<Caller> {
        self.local.map(|key| Caller { directory: Arc::clone(self), key })
    }
}

/// A tenant, by one of its keys. Keeps the snapshot in which it was found.
#[derive(Debug, Clone)]
pub struct Caller {
    directory: Arc<Directory>,
    key: usize,
}

impl Caller {
    pub fn key(&self) -> &Key {
        &self.directory.keys[self.key]
    }

    pub fn tenant(&self) -> &Tenant {
        &self.directory.tenants[self.key().tenant]
    }

    pub fn directory(&self) -> &Arc<Directory> {
        &self.directory
    }
}

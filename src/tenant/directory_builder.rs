//! The builder of directories: of the configuration in use, and of the tenants that were made at run time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use super::directory::Directory;
use super::last_use::ConfiguredUses;
use super::runtime_tenants::RuntimeTenants;
use crate::account::AccountRegistry;
use crate::config::Config;
use crate::store::Store;
use crate::telemetry::metrics::Metrics;

/// Builds the directory anew after each change of the configuration or of a tenant.
#[derive(Debug)]
pub struct DirectoryBuilder {
    directory: Arc<ArcSwap<Directory>>,
    /// The configuration in use.
    config: ArcSwap<Config>,
    tenants: Arc<RuntimeTenants>,
    accounts: Arc<AccountRegistry>,
    metrics: Arc<Metrics>,
    /// Last uses of keys.
    uses: Arc<ConfiguredUses>,
    store: Store,
    /// [`RuntimeTenants::generation`] of the directory in use.
    built: AtomicU64,
    /// Held while a directory is built. Holds old directories that exchanges still use: they are dropped by
    /// [`DirectoryBuilder::drop_retired`], as the drop of a large one would hold up a worker.
    retired: Mutex<Vec<Arc<Directory>>>,
}

impl DirectoryBuilder {
    pub fn new(
        config: &Config,
        store: Store,
        tenants: Arc<RuntimeTenants>,
        accounts: Arc<AccountRegistry>,
        metrics: Arc<Metrics>,
        uses: Arc<ConfiguredUses>,
    ) -> Self {
        let config = Arc::new(config.clone());
        let built = tenants.generation();
        let directory = build(&config, &tenants, &accounts, &metrics, &uses, &store);
        Self {
            directory: Arc::new(ArcSwap::from_pointee(directory)),
            config: ArcSwap::new(config),
            tenants,
            accounts,
            metrics,
            uses,
            store,
            built: AtomicU64::new(built),
            retired: Mutex::default(),
        }
    }

    pub fn directory(&self) -> &Arc<ArcSwap<Directory>> {
        &self.directory
    }

    /// The configuration in use.
    pub fn config(&self) -> Arc<Config> {
        self.config.load_full()
    }

    /// Takes another configuration into use.
    pub fn take_config(&self, config: &Config) -> Arc<Directory> {
        let mut retired = self.retired.lock();
        self.config.store(Arc::new(config.clone()));
        self.swap(&mut retired)
    }

    /// Takes changes of tenants into use, if there are any.
    pub fn take_tenants(&self) {
        let mut retired = self.retired.lock();
        if self.built.load(Ordering::Acquire) != self.tenants.generation() {
            self.swap(&mut retired);
        }
    }

    /// Builds the directory anew, as tenants have new names.
    pub fn rebuild(&self) {
        self.swap(&mut self.retired.lock());
    }

    fn swap(&self, retired: &mut Vec<Arc<Directory>>) -> Arc<Directory> {
        let generation = self.tenants.generation();
        let config = self.config.load_full();
        let next =
            Arc::new(build(&config, &self.tenants, &self.accounts, &self.metrics, &self.uses, &self.store));
        retired.push(self.directory.swap(Arc::clone(&next)));
        self.built.store(generation, Ordering::Release);
        next
    }

    /// Drops old directories that nobody uses any more. Not to be called by a worker.
    pub fn drop_retired(&self) {
        self.retired.lock().retain(|directory| Arc::strong_count(directory) > 1);
    }
}

fn build(
    config: &Arc<Config>,
    tenants: &RuntimeTenants,
    accounts: &AccountRegistry,
    metrics: &Metrics,
    uses: &ConfiguredUses,
    store: &Store,
) -> Directory {
    let made = tenants.settings(config);
    store.subscribe(config.tenants.iter().chain(made.iter().map(|tenant| &**tenant)));
    let former_names = store.tenant_names().load();
    Directory::build(config, &made, accounts, metrics, uses).with_former_names(&former_names)
}

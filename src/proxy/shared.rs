//! State of the process that workers, the admin listener, reloads and housekeeping share.

use std::io;
use std::sync::{Arc, Weak};
use std::time::{Instant, SystemTime};

use arc_swap::ArcSwap;
use governor::clock::MonotonicClock;
use tokio::sync::mpsc;

use super::replicas;
use crate::account::AccountRegistry;
use crate::account::model_lists::ModelLists;
use crate::account::shared_pace::SharedPaces;
use crate::account::uploads::UploadDirectories;
use crate::config::{Config, LostTasks};
use crate::limits::{self, AuthFailures, CallHolds};
use crate::polling::hub::PollHub;
use crate::polling::{AccountPoller, TaskEndSubscribers};
use crate::reports::{BudgetStanding, ReportTurns};
use crate::store::{GossipListener, Mirror, Standing, Store, StoreFault};
use crate::tasks::index::TaskIndex;
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::metrics::Metrics;
use crate::tenant::directory::{Directory, Tenant};
use crate::tenant::directory_builder::DirectoryBuilder;
use crate::tenant::key_warnings;
use crate::tenant::keyring::Keyring;
use crate::tenant::runtime_tenants::RuntimeTenants;
use crate::upstream::BufferBudget;
use crate::usage::Amount;

/// State that all threads share; a clone is another handle on the same state.
#[derive(Clone)]
pub struct Shared {
    pub directory: Arc<ArcSwap<Directory>>,
    /// Builds the directory anew.
    pub directories: Arc<DirectoryBuilder>,
    /// Tenants that were made at run time.
    pub tenants: Arc<RuntimeTenants>,
    pub store: Store,
    pub keyring: Arc<Keyring>,
    pub hub: Arc<PollHub>,
    pub uploads: Arc<UploadDirectories>,
    pub accounts: Arc<AccountRegistry>,
    pub model_lists: Arc<ModelLists>,
    pub limits: Arc<limits::Registry>,
    /// The pace of submits over several replicas; `None` where the process shares its store with no other.
    pub paces: Option<SharedPaces>,
    pub auth_failures: Arc<AuthFailures>,
    /// Money of tenants that is held for their calls that run.
    pub call_holds: Arc<CallHolds>,
    /// Memory for bodies that are held.
    pub buffer_budget: Arc<BufferBudget>,
    /// Turns of tenants' reports.
    pub report_turns: Arc<ReportTurns>,
    pub metrics: Arc<Metrics>,
    pub access_log: Arc<AccessLog>,
}

impl Shared {
    /// Loads the store's mirrors, and builds the rest by the configuration. The receiver gets the poller
    /// of each account. Blocks.
    ///
    /// # Errors
    /// Why the store can't be read, or the access log can't be opened.
    pub fn load(
        config: &Config,
        store: Store,
    ) -> io::Result<(Self, mpsc::UnboundedReceiver<Arc<AccountPoller>>)> {
        store.charge_lost_tasks(config.settings.usage.lost == LostTasks::Hold);
        let because = |fault: StoreFault| io::Error::other(fault.to_string());
        let now = SystemTime::now();
        let keyring = Arc::new(Keyring::load(&store).map_err(because)?);
        let (limits, paces) = match store.exchange().replica() {
            None => (Arc::default(), None),
            Some(replica) => {
                let limits = Arc::new(limits::Registry::among_replicas(
                    MonotonicClock,
                    store.exchange().starts_alone(),
                ));
                let paces = replicas::start(store.exchange(), replica, &limits)?;
                (limits, Some(paces))
            }
        };
        let index = TaskIndex::load(store.clone(), Arc::clone(&limits)).map_err(because)?;
        let uploads = Arc::new(UploadDirectories::load(&store).map_err(because)?);
        let accounts = Arc::new(AccountRegistry::new(Instant::now()));
        let metrics = Arc::<Metrics>::default();
        let tenants = Arc::new(RuntimeTenants::load(&store).map_err(because)?);
        let directories = Arc::new(DirectoryBuilder::new(
            config,
            store.clone(),
            Arc::clone(&tenants),
            Arc::clone(&accounts),
            Arc::clone(&metrics),
            Arc::clone(&keyring.configured_uses),
        ));
        let directory = Arc::clone(directories.directory());
        key_warnings::warn(&directory.load(), &keyring, now);
        let (opening, opened) = mpsc::unbounded_channel();
        let ends = TaskEndSubscribers::new(Arc::new(index), Arc::clone(&metrics), Arc::clone(&directory));
        let hub = Arc::new(PollHub::new(ends, opening, Instant::now()));
        let mirrors: [Weak<dyn Mirror>; 4] = [
            Arc::downgrade(&hub) as _,
            Arc::downgrade(&keyring) as _,
            Arc::downgrade(&uploads) as _,
            Arc::downgrade(&tenants) as _,
        ];
        store.register(mirrors.into());
        let listeners: [Weak<dyn GossipListener>; 2] =
            [Arc::downgrade(&limits) as _, Arc::downgrade(&hub) as _];
        store.exchange().listen(listeners.into());
        let call_holds = Arc::clone(limits.call_holds());
        let shared = Self {
            directory,
            directories,
            tenants,
            store,
            keyring,
            hub,
            uploads,
            accounts,
            model_lists: Arc::default(),
            limits,
            paces,
            auth_failures: Arc::default(),
            call_holds,
            buffer_budget: BufferBudget::new(BUFFERED_BYTES),
            report_turns: Arc::default(),
            metrics,
            access_log: Arc::new(AccessLog::start(&config.settings.log)?),
        };
        Ok((shared, opened))
    }
}

impl Shared {
    /// The money of a tenant, with what is held for its calls in this process. Cheap.
    pub fn standing(&self, tenant: &str) -> Standing {
        let standing = self.store.standing(tenant);
        Standing { held: standing.held.saturating_add(self.call_holds.of_calls(tenant)), ..standing }
    }

    /// The budgets of a tenant as they stand. Cheap.
    pub fn budgets(&self, tenant: &Tenant, now: SystemTime) -> Vec<BudgetStanding> {
        let (standing, zone) = (self.standing(&tenant.name), self.store.zone());
        let stands = |budget| BudgetStanding::new(budget, &standing, now, zone);
        tenant.billing.budgets.iter().map(stands).collect()
    }

    /// The money of a prepaid tenant. `None` for any other, and for one that has neither paid in nor used anything yet.
    /// Cheap.
    pub fn prepaid(&self, tenant: &Tenant) -> Option<Standing> {
        let has_begun = |standing: &Standing| {
            [standing.credits, standing.total_spent(), standing.held].iter().any(|sum| *sum != Amount::ZERO)
        };
        tenant.billing.prepaid.then(|| self.standing(&tenant.name)).filter(has_begun)
    }
}

/// Memory for all bodies that are read ahead, read whole, or kept so that they can be sent again.
const BUFFERED_BYTES: u64 = 256 * 1024 * 1024;

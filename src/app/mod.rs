//! Wiring: a configuration goes in; bound addresses and a handle that drains come out.

mod listeners;
mod running;
mod threads;

use std::cell::RefCell;
use std::io;
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub use self::running::RunningGateway;
use self::threads::Alive;
use crate::admin::{self, Admin, Refusals};
use crate::config::{self, Config, Files, Loaded, StoreSettings};
use crate::lifecycle::handover::Inheritance;
use crate::lifecycle::liveness::ThreadWatch;
use crate::lifecycle::readiness::{Readiness, Requirement};
use crate::lifecycle::reload::Reloader;
use crate::lifecycle::renames;
use crate::net::descriptors;
use crate::proxy::Shared;
use crate::server::drain;
use crate::store::{Store, StoreBounds, StoreCause, StoreFault};
use crate::telemetry::diagnostics;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::traces::{self, Exporter, Tracer};
use crate::webhooks::WaitingFigures;

/// Starts a gateway whose configuration never changes.
///
/// # Errors
/// Why an address can't be bound, or the store can't be used.
pub fn start(config: &Config) -> io::Result<RunningGateway> {
    run(config, None, None)
}

/// Starts a gateway whose configuration was read from these files, and is loaded anew when they change.
///
/// # Errors
/// Why an address can't be bound, or the store can't be used.
pub fn start_from(loaded: &Loaded, files: Files) -> io::Result<RunningGateway> {
    succeed(loaded, files, None)
}

/// Starts a gateway in the place of another process, which accepts nothing more when this returns. After an error the
/// other process goes on.
///
/// # Errors
/// Why an address can't be bound, or the store can't be used.
pub fn succeed(loaded: &Loaded, files: Files, inherited: Option<Inheritance>) -> io::Result<RunningGateway> {
    run(&loaded.config, Some((loaded, files)), inherited)
}

fn run(
    config: &Config,
    read: Option<(&Loaded, Files)>,
    mut inherited: Option<Inheritance>,
) -> io::Result<RunningGateway> {
    let shares = listeners::bind(&config.settings.server, inherited.as_mut())?;
    let address =
        shares.iter().flatten().next().map_or(Ok(config.settings.server.listen), TcpListener::local_addr)?;
    let admin_listener = listeners::bind_admin(config.settings.admin.listen, inherited.as_mut())?;
    let sockets = listeners::copies(&shares, &admin_listener)?;
    let store = match (&config.settings.store, &inherited) {
        (StoreSettings::Embedded { path }, Some(inherited)) => {
            Store::inherit(path, inherited.lock.try_clone()?, bounds(config))
        }
        (StoreSettings::Embedded { path }, None) => open_store(path, config),
        (StoreSettings::Shared(shared), _) => {
            let name = std::env::var("HOSTNAME").unwrap_or_default();
            Store::open_replica(shared, &name, bounds(config))
        }
    };
    let store = store.map_err(|fault| io::Error::other(fault.to_string()))?;
    if let Some(name) = store.replica_name() {
        diagnostics::name_replica(name);
    }
    if inherited.is_none() {
        rename_tenants(config, &store)?;
    }
    let (shared, opened) = Shared::load(config, store)?;
    shared.store.observe_commits(shared.metrics.store_commit.clone());
    let (tracer, exporter) = start_traces(&shared.metrics)?.unzip();
    if let Some(inherited) = &mut inherited {
        inherited.follow(&shared.store)?;
        // The other process, which serves under the former names, is told of renames by then.
        rename_tenants(config, &shared.store)?;
        shared.directories.rebuild();
    }
    let reloader = read.and_then(|(loaded, files)| Reloader::new(files, loaded, shared.clone()));
    let reloads = reloader.map(Reloader::start).transpose()?;
    let (handle, drain) = drain::channel();
    let (alive, ended) = mpsc::unbounded_channel();
    let readiness = Readiness::new(shares.len());
    let mut threads = ThreadWatch::default();
    let pulses: Vec<_> = (0..shares.len()).map(|number| threads.watch(format!("worker {number}"))).collect();
    let querier_pulse = threads.watch("the querier");
    let webhooks = Arc::<WaitingFigures>::default();
    let admin = Admin {
        shared: shared.clone(),
        reloads: reloads.clone(),
        readiness: Arc::clone(&readiness),
        threads: RefCell::new(threads),
        changing: tokio::sync::Mutex::default(),
        refusals: Refusals::default(),
        scans: Arc::new(tokio::sync::Semaphore::new(admin::MOST_SCANS)),
        webhooks: Arc::clone(&webhooks),
    };
    let admin = Some(admin::start(admin_listener, admin, Alive(alive.clone()))?);
    let shares = shares.into_iter().zip(pulses);
    let most_connections = descriptors::most_clients(descriptors::limit());
    shared
        .metrics
        .connections_limit
        .store(most_connections.try_into().unwrap_or(i64::MAX), Ordering::Relaxed);
    let mut running = RunningGateway {
        address,
        most_connections,
        workers: threads::start_workers(
            shares,
            most_connections,
            &shared,
            tracer,
            &readiness,
            &drain,
            &alive,
        )?,
        drain: handle,
        serving: Mutex::new(Some(readiness.hold(Requirement::Serving))),
        _configured: readiness.hold(Requirement::Config),
        shared,
        querier: None,
        webhooks: None,
        admin,
        exporter,
        reloads,
        ended,
        sockets,
        predecessor: None,
    };
    running.shared.search_for_lost_submits();
    if let Some(inherited) = inherited {
        let accounts = config.accounts.iter().map(|account| Arc::clone(&account.name));
        running.shared.hub.distrust_until(SystemTime::now() + LONGEST_SUBMIT, accounts);
        running.predecessor = Some(inherited.ready()?);
        running.shared.store.sign_lock()?;
    }
    running.webhooks = Some(threads::start_webhooks(&running.shared, webhooks, Alive(alive.clone()))?);
    // The querier starts after the hand-over, as both processes share an account's query budget.
    let stop = CancellationToken::new();
    let held = (Alive(alive), readiness.hold(Requirement::Querier));
    let querier = threads::start_querier(&running.shared, opened, stop.clone(), querier_pulse, held)?;
    running.querier = Some((querier, stop));
    Ok(running)
}

/// Time after which no submit of the process runs whose place this one takes.
const LONGEST_SUBMIT: Duration = Duration::from_secs(3600);

/// Opens the store of the configuration. Two throw-away gateways go on with a temporary store and a warning: a sidecar
/// that can't write there, as it has no file in which to name another path; and a gateway that listens on any port (a
/// trial, a test) while another gateway has the file. Every other gateway does not start.
fn open_store(path: &Path, config: &Config) -> Result<Store, StoreFault> {
    let fault = match Store::open_with(path, bounds(config)) {
        Ok(store) => return Ok(store),
        Err(fault) => fault,
    };
    let is_taken = matches!(fault.cause, StoreCause::OtherGateway { .. });
    if !(config.sidecar || config.settings.server.listen.port() == 0 && is_taken) {
        return Err(fault);
    }
    let temporary = std::env::temp_dir().join(format!("dashgate-{}.db", uuid::Uuid::new_v4()));
    tracing::warn!(
        "a restart will forget tasks and keys, which are kept in {}: {fault}",
        temporary.display()
    );
    Store::open_with(&temporary, bounds(config))
}

/// Makes the renames of tenants that the configuration asks for.
fn rename_tenants(config: &Config, store: &Store) -> io::Result<()> {
    let report =
        |faults: Vec<config::Fault>| io::Error::other(config::report("", &faults).trim_end().to_owned());
    renames::make(config, store).map_err(report)
}

fn bounds(config: &Config) -> StoreBounds {
    let usage = &config.settings.usage;
    StoreBounds { zone: usage.zone, entries_kept: usage.keep, ..StoreBounds::default() }
}

/// Starts the exporter of spans as the environment says, by OpenTelemetry's variables. A variable that can't be
/// followed is a warning.
fn start_traces(metrics: &Arc<Metrics>) -> io::Result<Option<(Tracer, Exporter)>> {
    let (settings, faults) = traces::ExporterSettings::from_environment(&|name| std::env::var(name).ok());
    for traces::SettingFault { variable, problem } in faults {
        tracing::warn!("{variable}: {problem}");
    }
    settings.map(|settings| traces::start(settings, Arc::clone(metrics))).transpose()
}

//! Wires everything together: a config goes in; bound addresses and a way to stop come out.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use tokio::runtime::{Builder, LocalOptions, LocalRuntime};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::account::AccountRegistry;
use crate::account::uploads::UploadDirectories;
use crate::admin::{self, Admin, Refusals};
use crate::config::{self, Config, Files};
use crate::lifecycle::handover::{Estate, Inheritance, Offer, Predecessor, Sockets};
use crate::lifecycle::liveness::{self, Pulse};
use crate::lifecycle::readiness::{Readiness, ReadinessGuard, Requirement};
use crate::lifecycle::reload::{self, Reloader};
use crate::limits::{self, AuthFailures};
use crate::net::listen;
use crate::polling::hub::PollHub;
use crate::polling::querier::Querier;
use crate::polling::{AccountPoller, TaskEndSubscribers};
use crate::proxy::{Proxy, Recorder};
use crate::server::balancer::Balancer;
use crate::server::drain::{self, Drain, DrainHandle, DrainKind, DrainOrder};
use crate::server::worker;
use crate::store::{Store, StoreCause, StoreFault};
use crate::tasks::index::TaskIndex;
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::traces::{self, Exporter, Tracer};
use crate::tenant::conflicts;
use crate::tenant::directory::Directory;
use crate::tenant::keyring::Keyring;
use crate::upstream::{BufferBudget, Upstream};

/// A gateway that runs. Dropped, it is cut.
#[derive(Debug)]
pub struct RunningGateway {
    address: SocketAddr,
    workers: Vec<JoinHandle<io::Result<()>>>,
    drain: DrainHandle,
    /// Until it is asked to stop.
    serving: Mutex<Option<ReadinessGuard>>,
    /// There is always one, from the start on.
    _configured: ReadinessGuard,
    hub: Arc<PollHub>,
    /// With what stops it.
    querier: Option<(JoinHandle<io::Result<()>>, CancellationToken)>,
    admin: Option<admin::AdminListener>,
    store: Store,
    access_log: Arc<AccessLog>,
    /// Where the environment asks for spans.
    exporter: Option<Exporter>,
    directory: Arc<ArcSwap<Directory>>,
    reloads: Option<reload::ReloadHandle>,
    /// Yields once for each worker that ends, however it does.
    ended: mpsc::UnboundedReceiver<()>,
    estate: Estate,
    predecessor: Option<Predecessor>,
}

/// What all workers share.
#[derive(Clone)]
struct Shared {
    directory: Arc<ArcSwap<Directory>>,
    keyring: Arc<Keyring>,
    hub: Arc<PollHub>,
    metrics: Arc<Metrics>,
    accounts: Arc<AccountRegistry>,
    uploads: Arc<UploadDirectories>,
    limits: Arc<limits::Registry>,
    auth_failures: Arc<AuthFailures>,
    buffer_budget: Arc<BufferBudget>,
    access_log: Arc<AccessLog>,
    traces: Option<Tracer>,
}

impl Shared {
    /// What a reload changes, and what outlives it.
    fn for_reloads(&self) -> reload::Shared {
        reload::Shared {
            directory: Arc::clone(&self.directory),
            accounts: Arc::clone(&self.accounts),
            keyring: Arc::clone(&self.keyring),
            metrics: Arc::clone(&self.metrics),
            access_log: Arc::clone(&self.access_log),
        }
    }
}

/// Starts the workers and the admin listener, for good with this configuration.
///
/// # Errors
/// Why an address can't be had, or the store can't be used.
pub fn start(config: &Config) -> io::Result<RunningGateway> {
    start_from(config, Files::default())
}

/// The same with a configuration that was read from these files, and is loaded anew when they change.
///
/// # Errors
/// As above.
pub fn start_from(config: &Config, files: Files) -> io::Result<RunningGateway> {
    succeed(config, files, None)
}

/// The same in the place of another process, which accepts nothing more when this returns. Where there is an error, it
/// goes on.
///
/// # Errors
/// As above.
pub fn succeed(config: &Config, files: Files, inherited: Option<Inheritance>) -> io::Result<RunningGateway> {
    let mut inherited = inherited;
    let shares = bind(&config.settings.server, inherited.as_mut())?;
    let address =
        shares.iter().flatten().next().map_or(Ok(config.settings.server.listen), TcpListener::local_addr)?;
    let admin_listener = bind_admin(config.settings.admin.listen, inherited.as_mut())?;
    let sockets = copies(&shares, &admin_listener)?;
    let because = |fault: StoreFault| io::Error::other(fault.to_string());
    let store = match &inherited {
        Some(inherited) => Store::inherit(&config.settings.store.path, inherited.lock.try_clone()?),
        None => open_store(config),
    };
    let store = store.map_err(because)?;
    let keyring = Keyring::load(&store).map_err(because)?;
    let limits = Arc::<limits::Registry>::default();
    let index = TaskIndex::load(store.clone(), Arc::clone(&limits), SystemTime::now()).map_err(because)?;
    let uploads = UploadDirectories::load(store.clone(), SystemTime::now()).map_err(because)?;
    let accounts = Arc::new(AccountRegistry::new(std::time::Instant::now()));
    let metrics = Arc::<Metrics>::default();
    store.observe_commits(metrics.store_commit.clone());
    let directory = Directory::build(config, &accounts, &metrics);
    conflicts::warn_of_refused_keys(&directory, &keyring, SystemTime::now());
    let (opening, opened) = mpsc::unbounded_channel();
    let directory = Arc::new(ArcSwap::from_pointee(directory));
    let subscribers = TaskEndSubscribers::new(Arc::new(index), Arc::clone(&metrics), Arc::clone(&directory));
    let hub = Arc::new(PollHub::new(subscribers, opening, std::time::Instant::now(), SystemTime::now()));
    let (traces, exporter) = start_traces(&metrics)?.unzip();
    let shared = Shared {
        directory,
        keyring: Arc::new(keyring),
        hub: Arc::clone(&hub),
        metrics,
        accounts,
        uploads: Arc::new(uploads),
        limits,
        auth_failures: Arc::default(),
        buffer_budget: BufferBudget::new(ROOM_BYTES),
        access_log: Arc::new(AccessLog::start(&config.settings.log)?),
        traces,
    };
    let estate = Estate {
        store: store.clone(),
        hub: Arc::clone(&hub),
        keyring: Arc::clone(&shared.keyring),
        uploads: Arc::clone(&shared.uploads),
        sockets: Arc::new(std::sync::Mutex::new(Some(sockets))),
    };
    if let Some(inherited) = &mut inherited {
        inherited.follow(&estate)?;
    }
    let reloader = Reloader::new(files, config, shared.for_reloads());
    let reloads = reloader.map(Reloader::start).transpose()?;
    let (handle, drain) = drain::channel();
    let (alive, ended) = mpsc::unbounded_channel();
    let readiness = Readiness::new(shares.len());
    let (pulses, watch) = liveness::watched(shares.len());
    let admin = Admin {
        directory: Arc::clone(&shared.directory),
        reloads: reloads.clone(),
        keyring: Arc::clone(&shared.keyring),
        store: store.clone(),
        hub: Arc::clone(&hub),
        metrics: Arc::clone(&shared.metrics),
        access_log: Arc::clone(&shared.access_log),
        readiness: Arc::clone(&readiness),
        workers: RefCell::new(watch),
        changing: tokio::sync::Mutex::default(),
        refusals: Refusals::default(),
    };
    let admin = Some(admin::start(admin_listener, admin, Alive(alive.clone()))?);
    let directory = Arc::clone(&shared.directory);
    let workers = start_workers(shares.into_iter().zip(pulses), &shared, &readiness, &drain, &alive)?;
    let mut running = RunningGateway {
        address,
        workers,
        drain: handle,
        serving: Mutex::new(Some(readiness.hold(Requirement::Serving))),
        _configured: readiness.hold(Requirement::Config),
        hub,
        querier: None,
        admin,
        store,
        access_log: Arc::clone(&shared.access_log),
        exporter,
        directory,
        reloads,
        ended,
        estate,
        predecessor: None,
    };
    if let Some(inherited) = inherited {
        running.predecessor = Some(inherited.ready()?);
        running.store.sign_lock()?;
    }
    // Not before: an account's budget is one, whoever asks.
    let stop = CancellationToken::new();
    let querier = start_querier(&shared, opened, stop.clone(), Alive(alive))?;
    running.querier = Some((querier, stop));
    Ok(running)
}

/// The sockets of each worker.
fn bind(
    server: &config::ServerSettings,
    inherited: Option<&mut Inheritance>,
) -> io::Result<Vec<Vec<TcpListener>>> {
    let address = server.listen;
    let workers = match server.workers {
        0 => thread::available_parallelism().map_or(1, std::num::NonZero::get),
        workers => workers,
    };
    let because = |error| taken("server", address, &error);
    if let Some(inherited) = inherited {
        let listeners = std::mem::take(&mut inherited.listeners);
        if let Some(shares) = listen::adopt(address, workers, listeners).map_err(because)? {
            return Ok(shares);
        }
        tracing::warn!(
            "the process that hands over listens elsewhere; what waits there to be accepted is lost"
        );
    }
    let listeners = listen::bind(address, workers).map_err(because)?;
    Ok(listeners.into_iter().map(|listener| vec![listener]).collect())
}

/// For whoever takes over from us.
fn copies(shares: &[Vec<TcpListener>], admin: &TcpListener) -> io::Result<Sockets> {
    let listeners = shares.iter().flatten().map(TcpListener::try_clone).collect::<Result<_, _>>()?;
    Ok(Sockets { listeners, admin: Some(admin.try_clone()?) })
}

/// The store of the configuration. Two throw-away gateways go on without it, aside and with a warning: a sidecar
/// that can't write there, as it has no file to say where, and one that listens on any port (a trial, a test)
/// while another gateway has the file. Whoever serves for good is told instead, and does not start.
fn open_store(config: &Config) -> Result<Store, StoreFault> {
    let fault = match Store::open(&config.settings.store.path) {
        Ok(store) => return Ok(store),
        Err(fault) => fault,
    };
    let is_taken = matches!(fault.cause, StoreCause::OtherGateway { .. });
    if !(config.sidecar || config.settings.server.listen.port() == 0 && is_taken) {
        return Err(fault);
    }
    let aside = std::env::temp_dir().join(format!("dashgate-{}.db", uuid::Uuid::new_v4()));
    tracing::warn!("a restart will forget tasks and keys, which are kept in {}: {fault}", aside.display());
    Store::open(&aside)
}

/// Another gateway on the host has the default address already: that one was not asked for, so any will do.
fn bind_admin(listen: SocketAddr, inherited: Option<&mut Inheritance>) -> io::Result<TcpListener> {
    if let Some(admin) = inherited.and_then(|inherited| inherited.admin.take()) {
        let bound = admin.local_addr()?;
        if bound.ip() == listen.ip() && (bound.port() == listen.port() || listen.port() == 0) {
            return Ok(admin);
        }
    }
    match TcpListener::bind(listen) {
        Err(error) if listen == config::ADMIN_LISTEN && error.kind() == io::ErrorKind::AddrInUse => {
            tracing::warn!(
                "another process listens on {listen}: set admin.listen; the admin listener takes any port"
            );
            TcpListener::bind(SocketAddr::new(listen.ip(), 0))
        }
        bound => bound.map_err(|error| taken("admin", listen, &error)),
    }
}

/// Says which listener it was, and what to do.
fn taken(table: &str, listen: SocketAddr, error: &io::Error) -> io::Error {
    let problem = format!("can't listen on {listen}: {error}; is another process there? Set {table}.listen");
    io::Error::new(error.kind(), problem)
}

fn start_workers(
    shares: impl ExactSizeIterator<Item = (Vec<TcpListener>, Pulse)>,
    shared: &Shared,
    readiness: &Arc<Readiness>,
    drain: &Drain,
    alive: &mpsc::UnboundedSender<()>,
) -> io::Result<Vec<JoinHandle<io::Result<()>>>> {
    let count = shares.len();
    let start = |(number, ((listeners, pulse), balancer))| {
        let (shared, drain, alive) = (shared.clone(), drain.clone(), Alive(alive.clone()));
        let listening = readiness.hold(Requirement::Workers);
        let work = move || {
            let _held = (alive, listening);
            run_worker(listeners, balancer, &shared, pulse, drain)
        };
        thread::Builder::new().name(format!("worker-{number}")).spawn(work)
    };
    shares.zip(Balancer::for_workers(count)).enumerate().map(start).collect()
}

fn run_worker(
    listeners: Vec<TcpListener>,
    balancer: Balancer,
    shared: &Shared,
    pulse: Pulse,
    drain: Drain,
) -> io::Result<()> {
    let proxy = Rc::new(Proxy {
        directory: Arc::clone(&shared.directory),
        keyring: Arc::clone(&shared.keyring),
        hub: Arc::clone(&shared.hub),
        recorder: Rc::new(Recorder::new(
            Arc::clone(&shared.metrics),
            shared.access_log.writer(),
            shared.traces.clone(),
        )),
        accounts: Arc::clone(&shared.accounts),
        uploads: Arc::clone(&shared.uploads),
        limits: Arc::clone(&shared.limits),
        auth_failures: Arc::clone(&shared.auth_failures),
        buffer_budget: Arc::clone(&shared.buffer_budget),
        upstream: Upstream::default(),
        draining: CancellationToken::new(),
        parting: Cell::new(false),
        running: TaskTracker::new(),
        live: Rc::default(),
    });
    runtime()?.block_on(worker::work(listeners, balancer, proxy, pulse, drain))
}

/// Where spans go is the environment's to say, as everywhere. What of it can't be followed keeps nobody from serving.
fn start_traces(metrics: &Arc<Metrics>) -> io::Result<Option<(Tracer, Exporter)>> {
    let (settings, faults) = traces::ExporterSettings::from_environment(&|name| std::env::var(name).ok());
    for traces::SettingFault { variable, problem } in faults {
        tracing::warn!("{variable}: {problem}");
    }
    settings.map(|settings| traces::start(settings, Arc::clone(metrics))).transpose()
}

/// The thread that asks how tasks are.
fn start_querier(
    shared: &Shared,
    opened: mpsc::UnboundedReceiver<Arc<AccountPoller>>,
    stop: CancellationToken,
    alive: Alive,
) -> io::Result<JoinHandle<io::Result<()>>> {
    let (hub, directory) = (Arc::clone(&shared.hub), Arc::clone(&shared.directory));
    let work = move || {
        let _alive = alive;
        let querier = Querier { hub, directory, upstream: Upstream::default() };
        runtime()?.block_on(querier.work(opened, stop));
        Ok(())
    };
    thread::Builder::new().name("querier".to_owned()).spawn(work)
}

/// A thread is a world.
fn runtime() -> io::Result<LocalRuntime> {
    Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(MOST_LOOKUPS)
        .build_local(LocalOptions::default())
}

impl RunningGateway {
    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where the operator connects.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(admin::AdminListener::address)
    }

    /// Loads the configuration anew; `None` if it is not from a file.
    pub fn reloads(&self) -> Option<&reload::ReloadHandle> {
        self.reloads.as_ref()
    }

    /// Stops accepting; what runs may end, until `timeouts.drain` has passed, which is returned.
    pub fn drain(&self) -> Duration {
        self.begin_drain(DrainKind::Stop)
    }

    /// Another process accepts from now on; what runs here may end, until `timeouts.drain` has passed, which is
    /// returned. Who is connected already has another request served.
    pub fn hand_over(&self) -> Duration {
        if let Some(admin) = &self.admin {
            admin.close();
        }
        self.begin_drain(DrainKind::HandOver)
    }

    fn begin_drain(&self, kind: DrainKind) -> Duration {
        let patience = self.directory.load().settings.server.timeouts.drain;
        self.serving.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.hub.release();
        self.estate.give_up_sockets();
        self.drain.begin(DrainOrder { deadline: Instant::now() + patience, kind });
        patience
    }

    /// Has another process take over when it asks to. To be called once.
    ///
    /// # Errors
    /// Why it can't be asked.
    pub fn offer(&mut self) -> io::Result<Offer> {
        Offer::start(self.estate.clone(), self.predecessor.take())
    }

    /// Waits for a worker or the admin listener to end. Before a drain that is a fault.
    pub async fn worker_ended(&mut self) {
        self.ended.recv().await;
    }

    /// Waits for every worker to end.
    ///
    /// # Errors
    /// What stopped one that was not asked to.
    pub fn join(mut self) -> io::Result<()> {
        for worker in self.workers.drain(..) {
            worker.join().map_err(|_| io::Error::other("a worker panicked"))??;
        }
        Ok(())
    }
}

impl Drop for RunningGateway {
    fn drop(&mut self) {
        self.hub.release();
        self.estate.give_up_sockets();
        self.drain.begin(DrainOrder { deadline: Instant::now(), kind: DrainKind::Stop });
        for worker in self.workers.drain(..) {
            // Nobody is left to be told of it.
            let _ = worker.join();
        }
        if let Some((querier, stop)) = self.querier.take() {
            stop.cancel();
            let _ = querier.join();
        }
        // A change that runs is answered before the store is closed.
        self.admin = None;
        if let Some(exporter) = self.exporter.take() {
            exporter.finish();
        }
        self.access_log.close(LOG_PATIENCE);
        self.store.close();
    }
}

/// Says, when dropped, that its worker has ended: also by a panic.
struct Alive(mpsc::UnboundedSender<()>);

impl Drop for Alive {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

/// At the end, for the last lines of the access log, should nobody take them.
const LOG_PATIENCE: Duration = Duration::from_secs(2);
/// Threads for name look-ups, and for reading large bodies, a worker's.
const MOST_LOOKUPS: usize = 4;
/// For the bodies of callers whose submits are capped, or whose models are listed.
const ROOM_BYTES: u64 = 256 * 1024 * 1024;

//! Wires everything together: a config goes in; bound addresses and a way to stop come out.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use tokio::runtime::{Builder, LocalOptions, LocalRuntime};
use tokio::sync::{Mutex, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::account::Registry;
use crate::account::uploads::Uploads;
use crate::admin::{self, Admin};
use crate::config::{self, Config, Files};
use crate::limits::{self, Strangers};
use crate::listen;
use crate::metrics::Metrics;
use crate::proxy::{Proxy, Recorder};
use crate::querier::Querier;
use crate::reload::{self, Reloader};
use crate::server::worker::{self, Drain, DrainHandle};
use crate::store::{Cause, Store, StoreFault};
use crate::tasks::Desk;
use crate::tasks::hub::Hub;
use crate::tasks::ledger::Ledger;
use crate::tenant::directory::Directory;
use crate::tenant::keyring::Keyring;
use crate::upstream::{Room, Upstream};

/// A gateway that runs. Dropped, it is cut.
#[derive(Debug)]
pub struct Running {
    address: SocketAddr,
    workers: Vec<JoinHandle<io::Result<()>>>,
    drain: DrainHandle,
    draining: Arc<AtomicBool>,
    hub: Arc<Hub>,
    /// With what stops it.
    querier: Option<(JoinHandle<io::Result<()>>, CancellationToken)>,
    admin: Option<admin::Listener>,
    store: Store,
    directory: Arc<ArcSwap<Directory>>,
    reloads: Option<reload::Handle>,
    /// Yields once for each worker that ends, however it does.
    ended: mpsc::UnboundedReceiver<()>,
}

/// What all workers share.
#[derive(Clone)]
struct Shared {
    directory: Arc<ArcSwap<Directory>>,
    keyring: Arc<Keyring>,
    hub: Arc<Hub>,
    metrics: Arc<Metrics>,
    accounts: Arc<Registry>,
    uploads: Arc<Uploads>,
    limits: Arc<limits::Registry>,
    strangers: Arc<Strangers>,
    room: Arc<Room>,
}

/// Starts the workers and the admin listener, for good with this configuration.
///
/// # Errors
/// Why an address can't be had, or the store can't be used.
pub fn start(config: &Config) -> io::Result<Running> {
    start_from(config, Files::default())
}

/// The same with a configuration that was read from these files, and is loaded anew when they change.
///
/// # Errors
/// As above.
pub fn start_from(config: &Config, files: Files) -> io::Result<Running> {
    let workers = match config.server.workers {
        0 => thread::available_parallelism().map_or(1, std::num::NonZero::get),
        workers => workers,
    };
    let address = config.server.listen;
    let listeners = listen::bind(address, workers).map_err(|error| taken("server", address, &error))?;
    let address = listeners.first().map_or(Ok(address), TcpListener::local_addr)?;
    let admin_listener = bind_admin(config.admin.listen)?;
    let because = |fault: StoreFault| io::Error::other(fault.to_string());
    let store = open_store(config).map_err(because)?;
    let keyring = Keyring::load(&store).map_err(because)?;
    let limits = Arc::<limits::Registry>::default();
    let ledger = Ledger::load(store.clone(), Arc::clone(&limits), SystemTime::now()).map_err(because)?;
    let uploads = Uploads::load(store.clone(), SystemTime::now()).map_err(because)?;
    let accounts = Arc::new(Registry::new(std::time::Instant::now()));
    let metrics = Arc::<Metrics>::default();
    store.observe_commits(metrics.store_commit.clone());
    let directory = Directory::build(config, &accounts, &metrics);
    directory.tell_shut_out(&keyring, SystemTime::now());
    let (opening, opened) = mpsc::unbounded_channel();
    let hub = Arc::new(Hub::new(Arc::new(ledger), config.poll.max_age, opening, SystemTime::now()));
    let shared = Shared {
        directory: Arc::new(ArcSwap::from_pointee(directory)),
        keyring: Arc::new(keyring),
        hub: Arc::clone(&hub),
        metrics,
        accounts,
        uploads: Arc::new(uploads),
        limits,
        strangers: Arc::default(),
        room: Room::new(ROOM_BYTES),
    };
    let reloader = Reloader::new(
        files,
        config,
        reload::Shared {
            directory: Arc::clone(&shared.directory),
            accounts: Arc::clone(&shared.accounts),
            keyring: Arc::clone(&shared.keyring),
            metrics: Arc::clone(&shared.metrics),
            hub: Arc::clone(&shared.hub),
        },
    );
    let reloads = reloader.map(Reloader::start).transpose()?;
    let (handle, drain) = worker::drain();
    let (alive, ended) = mpsc::unbounded_channel();
    let draining = Arc::<AtomicBool>::default();
    let admin = Admin {
        directory: Arc::clone(&shared.directory),
        reloads: reloads.clone(),
        keyring: Arc::clone(&shared.keyring),
        store: store.clone(),
        hub: Arc::clone(&hub),
        metrics: Arc::clone(&shared.metrics),
        draining: Arc::clone(&draining),
        changing: Mutex::default(),
    };
    let admin = Some(admin::start(admin_listener, admin, Alive(alive.clone()))?);
    let stop_querier = CancellationToken::new();
    let querier = start_querier(&shared, opened, stop_querier.clone(), Alive(alive.clone()))?;
    let directory = Arc::clone(&shared.directory);
    let workers = listeners
        .into_iter()
        .enumerate()
        .map(|(number, listener)| {
            let (shared, drain, alive) = (shared.clone(), drain.clone(), Alive(alive.clone()));
            let work = move || {
                let _alive = alive;
                run_worker(listener, &shared, drain)
            };
            thread::Builder::new().name(format!("worker-{number}")).spawn(work)
        })
        .collect::<io::Result<_>>()?;
    let querier = Some((querier, stop_querier));
    Ok(Running {
        address,
        workers,
        drain: handle,
        draining,
        hub,
        querier,
        admin,
        store,
        directory,
        reloads,
        ended,
    })
}

/// The store of the configuration. Two throw-away gateways go on without it, aside and with a warning: a sidecar
/// that can't write there, as it has no file to say where, and one that listens on any port (a trial, a test)
/// while another gateway has the file. Whoever serves for good is told instead, and does not start.
fn open_store(config: &Config) -> Result<Store, StoreFault> {
    let fault = match Store::open(&config.store.path) {
        Ok(store) => return Ok(store),
        Err(fault) => fault,
    };
    let is_taken = matches!(fault.cause, Cause::OtherGateway { .. });
    if !(config.sidecar || config.server.listen.port() == 0 && is_taken) {
        return Err(fault);
    }
    let aside = std::env::temp_dir().join(format!("dashgate-{}.db", uuid::Uuid::new_v4()));
    tracing::warn!("a restart will forget tasks and keys, which are kept in {}: {fault}", aside.display());
    Store::open(&aside)
}

/// Another gateway on the host has the default address already: that one was not asked for, so any will do.
fn bind_admin(listen: SocketAddr) -> io::Result<TcpListener> {
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

fn run_worker(listener: TcpListener, shared: &Shared, drain: Drain) -> io::Result<()> {
    let proxy = Rc::new(Proxy {
        directory: Arc::clone(&shared.directory),
        keyring: Arc::clone(&shared.keyring),
        hub: Arc::clone(&shared.hub),
        recorder: Rc::new(Recorder { metrics: Arc::clone(&shared.metrics) }),
        accounts: Arc::clone(&shared.accounts),
        uploads: Arc::clone(&shared.uploads),
        limits: Arc::clone(&shared.limits),
        strangers: Arc::clone(&shared.strangers),
        room: Arc::clone(&shared.room),
        upstream: Upstream::default(),
        draining: CancellationToken::new(),
        running: TaskTracker::new(),
        live: Rc::default(),
    });
    runtime()?.block_on(worker::work(listener, proxy, drain))
}

/// The thread that asks how tasks are.
fn start_querier(
    shared: &Shared,
    opened: mpsc::UnboundedReceiver<Arc<Desk>>,
    stop: CancellationToken,
    alive: Alive,
) -> io::Result<JoinHandle<io::Result<()>>> {
    let (hub, directory) = (Arc::clone(&shared.hub), Arc::clone(&shared.directory));
    let metrics = Arc::clone(&shared.metrics);
    let work = move || {
        let _alive = alive;
        let querier = Querier { hub, directory, metrics, upstream: Upstream::default() };
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

impl Running {
    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where the operator connects.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(admin::Listener::address)
    }

    /// Loads the configuration anew; `None` if it is not from a file.
    pub fn reloads(&self) -> Option<&reload::Handle> {
        self.reloads.as_ref()
    }

    /// Stops accepting; what runs may end, until `timeouts.drain` has passed, which is returned.
    pub fn drain(&self) -> Duration {
        let patience = self.directory.load().timeouts.drain;
        self.draining.store(true, Ordering::Relaxed);
        self.hub.release();
        self.drain.begin(Instant::now() + patience);
        patience
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

impl Drop for Running {
    fn drop(&mut self) {
        self.hub.release();
        self.drain.begin(Instant::now());
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

/// Threads for name look-ups, and for reading large bodies, a worker's.
const MOST_LOOKUPS: usize = 4;
/// For the bodies of callers whose submits are capped, or whose models are listed.
const ROOM_BYTES: u64 = 256 * 1024 * 1024;

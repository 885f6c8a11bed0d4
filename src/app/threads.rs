//! Threads: the workers and the querier, each a current-thread runtime of its own.

use std::io;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use tokio::runtime::{Builder, LocalOptions, LocalRuntime};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::lifecycle::liveness::Pulse;
use crate::lifecycle::readiness::{Readiness, Requirement};
use crate::net::{client_config, resolve};
use crate::polling::AccountPoller;
use crate::polling::querier::Querier;
use crate::proxy::{Proxy, Shared};
use crate::server::balancer::Balancer;
use crate::server::drain::Drain;
use crate::server::worker;
use crate::telemetry::traces::Tracer;
use crate::webhooks::WaitingFigures;
use crate::webhooks::sender::WebhookSender;

/// Starts one worker for each share of the sockets. Only the workers hold the tracer: the exporter ends with its last
/// clone.
pub(super) fn start_workers(
    shares: impl ExactSizeIterator<Item = (Vec<TcpListener>, Pulse)>,
    most_connections: usize,
    shared: &Shared,
    tracer: Option<Tracer>,
    readiness: &Arc<Readiness>,
    drain: &Drain,
    alive: &mpsc::UnboundedSender<()>,
) -> io::Result<Vec<JoinHandle<io::Result<()>>>> {
    let count = shares.len();
    let start = |(number, ((listeners, pulse), balancer))| {
        let (shared, tracer) = (shared.clone(), tracer.clone());
        let (drain, alive) = (drain.clone(), Alive(alive.clone()));
        let listening = readiness.hold(Requirement::Workers);
        let work = move || {
            let _held = (alive, listening);
            let proxy = Rc::new(Proxy::new(shared, tracer));
            runtime()?.block_on(worker::work(listeners, balancer, proxy, pulse, drain))
        };
        thread::Builder::new().name(format!("worker-{number}")).spawn(work)
    };
    shares.zip(Balancer::for_workers(count, most_connections)).enumerate().map(start).collect()
}

/// Starts the thread that queries the state of tasks. It holds `held` until its end.
pub(super) fn start_querier(
    shared: &Shared,
    opened: mpsc::UnboundedReceiver<Arc<AccountPoller>>,
    stop: CancellationToken,
    pulse: Pulse,
    held: impl Send + 'static,
) -> io::Result<JoinHandle<io::Result<()>>> {
    let (hub, directory) = (Arc::clone(&shared.hub), Arc::clone(&shared.directory));
    let work = move || {
        let _held = held;
        let querier = Querier::new(hub, directory);
        runtime()?.block_on(querier.work(opened, stop, || pulse.beat()));
        Ok(())
    };
    thread::Builder::new().name("querier".to_owned()).spawn(work)
}

/// Starts the thread that delivers webhooks, and returns it with the token that stops it.
pub(super) fn start_webhooks(
    shared: &Shared,
    figures: Arc<WaitingFigures>,
    alive: Alive,
) -> io::Result<(JoinHandle<io::Result<()>>, CancellationToken)> {
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    let (store, directory) = (shared.store.clone(), Arc::clone(&shared.directory));
    let work = move || {
        let _alive = alive;
        let tls = client_config(None, None).map_err(io::Error::other)?;
        let sender = WebhookSender::new(store, directory, figures, tls);
        runtime()?.block_on(sender.work(stopped));
        Ok(())
    };
    Ok((thread::Builder::new().name("webhooks".to_owned()).spawn(work)?, stop))
}

fn runtime() -> io::Result<LocalRuntime> {
    Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(MOST_BLOCKING_THREADS)
        .build_local(LocalOptions::default())
}

/// Sends a message when it is dropped: its thread has ended, perhaps by a panic.
pub(super) struct Alive(pub(super) mpsc::UnboundedSender<()>);

impl Drop for Alive {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

/// Blocking threads of each worker, for name look-ups and for parsing large bodies: look-ups that hang leave half.
const MOST_BLOCKING_THREADS: usize = 2 * resolve::THREADS;

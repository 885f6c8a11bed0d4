//! The handle of a running gateway.

use std::io;
use std::net::SocketAddr;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::admin::AdminListener;
use crate::lifecycle::handover::{HandoverSockets, Offer, Predecessor};
use crate::lifecycle::key_uses;
use crate::lifecycle::readiness::ReadinessGuard;
use crate::lifecycle::reload::ReloadHandle;
use crate::proxy::Shared;
use crate::server::drain::{DrainHandle, DrainKind, DrainOrder};
use crate::telemetry::traces::Exporter;

/// A running gateway. Dropping it ends it at once.
pub struct RunningGateway {
    pub(super) address: SocketAddr,
    pub(super) most_connections: usize,
    pub(super) workers: Vec<JoinHandle<io::Result<()>>>,
    pub(super) drain: DrainHandle,
    /// Held until the gateway is asked to stop.
    pub(super) serving: Mutex<Option<ReadinessGuard>>,
    /// Held always, as there is a configuration from the start on.
    pub(super) _configured: ReadinessGuard,
    pub(super) shared: Shared,
    /// The querier's thread, with the token that stops it.
    pub(super) querier: Option<(JoinHandle<io::Result<()>>, CancellationToken)>,
    /// The thread that delivers webhooks, with the token that stops it.
    pub(super) webhooks: Option<(JoinHandle<io::Result<()>>, CancellationToken)>,
    pub(super) admin: Option<AdminListener>,
    /// `None` where the environment asks for no spans.
    pub(super) exporter: Option<Exporter>,
    pub(super) reloads: Option<ReloadHandle>,
    /// Yields once for each thread that ends, for whatever reason.
    pub(super) ended: mpsc::UnboundedReceiver<()>,
    pub(super) sockets: HandoverSockets,
    pub(super) predecessor: Option<Predecessor>,
}

impl RunningGateway {
    /// Address of the listener for clients.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Most connections of clients, all workers together.
    pub fn most_connections(&self) -> usize {
        self.most_connections
    }

    /// Address of the admin listener.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(AdminListener::address)
    }

    /// The handle that reloads the configuration; `None` if the configuration is not from a file.
    pub fn reloads(&self) -> Option<&ReloadHandle> {
        self.reloads.as_ref()
    }

    /// Stops accepting. Requests that run may end until `timeouts.drain` has passed, which is returned. Where replicas share
    /// a store, an open connection has one more request served, so that a rolling update refuses none.
    pub fn drain(&self) -> Duration {
        let others_serve = self.shared.directory.load().settings.store.url().is_some();
        self.begin_drain(if others_serve { DrainKind::Part } else { DrainKind::Stop })
    }

    /// Leaves accepting to another process. Requests that run may end until `timeouts.drain` has passed, which is
    /// returned. An open connection has one more request served.
    pub fn hand_over(&self) -> Duration {
        if let Some(admin) = &self.admin {
            admin.close();
        }
        self.begin_drain(DrainKind::Part)
    }

    fn begin_drain(&self, kind: DrainKind) -> Duration {
        let patience = self.shared.directory.load().settings.server.timeouts.drain;
        self.serving.lock().take();
        self.shared.hub.release();
        self.sockets.close();
        self.drain.begin(DrainOrder { deadline: Instant::now() + patience, kind });
        patience
    }

    /// Offers to hand over to a process that asks; `None` where replicas share a store, of which another one serves
    /// meanwhile. To be called once.
    ///
    /// # Errors
    /// Why there can be no socket beside the store.
    pub fn offer(&mut self) -> io::Result<Option<Offer>> {
        if self.shared.store.lock().is_none() {
            return Ok(None);
        }
        Offer::start(self.shared.store.clone(), self.sockets.clone(), self.predecessor.take()).map(Some)
    }

    /// Waits until a worker, the querier or the admin listener ends. Before a drain such an end is a fault.
    pub async fn worker_ended(&mut self) {
        self.ended.recv().await;
    }

    /// Waits for every worker to end.
    ///
    /// # Errors
    /// The fault that stopped a worker which was not asked to stop.
    pub fn join(mut self) -> io::Result<()> {
        for worker in self.workers.drain(..) {
            worker.join().map_err(|_| io::Error::other("a worker panicked"))??;
        }
        Ok(())
    }
}

impl std::fmt::Debug for RunningGateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RunningGateway").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Drop for RunningGateway {
    fn drop(&mut self) {
        self.shared.hub.release();
        self.sockets.close();
        self.drain.begin(DrainOrder { deadline: Instant::now(), kind: DrainKind::Stop });
        for worker in self.workers.drain(..) {
            // A worker's fault has no reader any more.
            let _ = worker.join();
        }
        // The querier ends first: what it settles is told by the next start, if not by this one.
        for (thread, stop) in [self.querier.take(), self.webhooks.take()].into_iter().flatten() {
            stop.cancel();
            let _ = thread.join();
        }
        // The admin listener ends before the store is closed: a change of keys that it breaks off is still taken back.
        self.admin = None;
        if let Some(exporter) = self.exporter.take() {
            exporter.finish();
        }
        self.shared.access_log.close(LOG_PATIENCE);
        key_uses::write_last(&self.shared);
        self.shared.store.close();
    }
}

/// Longest wait at the end for the last lines of the access log.
const LOG_PATIENCE: Duration = Duration::from_secs(2);

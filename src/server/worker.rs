//! One worker: a thread with its own listener, connections and upstream pool.

use std::io;
use std::net::TcpListener;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout_at};
use tokio_util::task::TaskTracker;

use super::connection;
use crate::listen::Handshakes;
use crate::proxy::Proxy;

/// Tells everybody when to stop, and until when they may take.
#[derive(Debug, Clone)]
pub struct Drain(watch::Receiver<Option<Instant>>);

/// Says when to stop.
#[derive(Debug)]
pub struct DrainHandle(watch::Sender<Option<Instant>>);

/// A pair of the two ends.
pub fn drain() -> (DrainHandle, Drain) {
    let (handle, drain) = watch::channel(None);
    (DrainHandle(handle), Drain(drain))
}

impl DrainHandle {
    /// Nothing new is taken from now on; what still runs at the deadline is cut.
    pub fn begin(&self, deadline: Instant) {
        self.0.send_if_modified(|begun| {
            let sooner = begun.is_none_or(|before| deadline < before);
            if sooner {
                *begun = Some(deadline);
            }
            sooner
        });
    }
}

impl Drain {
    /// Waits until stopping has begun.
    pub async fn begun(&mut self) {
        self.deadline().await;
    }

    async fn deadline(&mut self) -> Instant {
        match self.0.wait_for(Option::is_some).await {
            Ok(deadline) => deadline.unwrap_or_else(Instant::now),
            // Whoever could have said when has gone: now.
            Err(_) => Instant::now(),
        }
    }

    /// Waits for a deadline that comes sooner than the known one.
    async fn hastened(&mut self) {
        self.0.mark_unchanged();
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Accepts and serves until it is told to stop, then until everything has ended or the deadline is there.
///
/// # Errors
/// Only where the listener itself is of no use.
pub async fn work(listener: TcpListener, proxy: Rc<Proxy>, mut drain: Drain) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let connections = TaskTracker::new();
    let handshakes = Rc::<Handshakes>::default();
    let mut sweep = interval(SWEEP);
    sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = drain.begun() => break,
            _ = sweep.tick() => proxy.sweep(SystemTime::now()),
            accepted = listener.accept(), if connections.len() < MOST_CONNECTIONS => match accepted {
                Ok((stream, address)) => {
                    let (proxy, handshakes) = (Rc::clone(&proxy), Rc::clone(&handshakes));
                    let talk = connection::converse(stream, address, proxy, handshakes, drain.clone());
                    connections.spawn_local(talk);
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection was not accepted");
                    sleep(AFTER_FAILED_ACCEPT).await;
                }
            },
        }
    }
    drop(listener);
    proxy.draining.cancel();
    connections.close();
    proxy.running.close();
    loop {
        let deadline = drain.deadline().await;
        // In this order: only a connection starts what may outlive it.
        let all = async {
            connections.wait().await;
            proxy.running.wait().await;
        };
        tokio::select! {
            ended = timeout_at(deadline, all) => {
                if ended.is_err() {
                    let cut = connections.len() + proxy.running.len();
                    tracing::warn!(cut, "the drain deadline is there; what still runs is cut");
                }
                return Ok(());
            }
            () = drain.hastened() => {}
            _ = sweep.tick() => proxy.sweep(SystemTime::now()),
        }
    }
}

/// Half of the second within which the streams of a revoked key must end.
const SWEEP: Duration = Duration::from_millis(500);
const MOST_CONNECTIONS: usize = 100_000;
/// A process out of file descriptors would spin otherwise.
const AFTER_FAILED_ACCEPT: Duration = Duration::from_millis(50);

//! One worker: a thread with its own listener, connections and upstream pool.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, SystemTime};

use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout_at};
use tokio_util::task::TaskTracker;

use super::balancer::{Handed, Seat, Seats};
use super::connection;
use crate::lifecycle::liveness::Pulse;
use crate::net::Handshakes;
use crate::proxy::Proxy;

/// Tells everybody when to stop, and until when they may take.
#[derive(Debug, Clone)]
pub struct Drain(watch::Receiver<Option<End>>);

/// Says when to stop.
#[derive(Debug)]
pub struct DrainHandle(watch::Sender<Option<End>>);

/// The end of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// What still runs then is cut.
    pub deadline: Instant,
    pub manner: Manner,
}

/// How what is new is met until the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Nobody comes after us: it is refused.
    Stop,
    /// Another process takes what connects from now on. Connections that are open have one more request served, for
    /// one may be on its way, and are told to close then.
    HandOver,
}

/// A pair of the two ends.
pub fn drain() -> (DrainHandle, Drain) {
    let (handle, drain) = watch::channel(None);
    (DrainHandle(handle), Drain(drain))
}

impl DrainHandle {
    /// Nothing new is accepted from now on; what still runs at the deadline is cut.
    pub fn begin(&self, end: End) {
        self.0.send_if_modified(|begun| {
            let sooner = begun.is_none_or(|before| end.deadline < before.deadline);
            if sooner {
                *begun = Some(end);
            }
            sooner
        });
    }
}

impl Drain {
    /// Waits until it has begun.
    pub async fn begun(&mut self) -> End {
        match self.0.wait_for(Option::is_some).await {
            Ok(end) => end.unwrap_or_else(End::now),
            // Whoever could have said when has gone: now.
            Err(_) => End::now(),
        }
    }

    /// Waits until what is new is refused.
    pub async fn stopped(&mut self) {
        let stops = |end: &Option<End>| end.is_some_and(|end| end.manner == Manner::Stop);
        // Whoever could have said so has gone otherwise.
        let _ = self.0.wait_for(stops).await;
    }

    /// Waits for an end that comes sooner than the known one.
    async fn hastened(&mut self) {
        self.0.mark_unchanged();
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl End {
    fn now() -> Self {
        Self { deadline: Instant::now(), manner: Manner::Stop }
    }
}

/// Accepts and serves until it is told to stop, then until everything has ended or the deadline is there.
///
/// # Errors
/// Only where the listener itself is of no use.
pub async fn work(
    listeners: Vec<TcpListener>,
    mut seats: Seats,
    proxy: Rc<Proxy>,
    pulse: Pulse,
    mut drain: Drain,
) -> io::Result<()> {
    let listeners: Vec<_> =
        listeners.into_iter().map(tokio::net::TcpListener::from_std).collect::<Result<_, _>>()?;
    let connections = TaskTracker::new();
    let handshakes = Rc::<Handshakes>::default();
    let converse = {
        let (proxy, drain, connections) = (Rc::clone(&proxy), drain.clone(), connections.clone());
        move |stream: TcpStream, address: SocketAddr, seat: Seat| {
            let (proxy, handshakes) = (Rc::clone(&proxy), Rc::clone(&handshakes));
            let talk = connection::converse(stream, address, proxy, handshakes, drain.clone(), seat);
            connections.spawn_local(talk);
        }
    };
    let take_over = |(stream, address, seat): Handed| {
        // What can't be watched is closed.
        if let Ok(stream) = TcpStream::from_std(stream) {
            converse(stream, address, seat);
        }
    };
    let sweep_once = || {
        pulse.beat();
        proxy.sweep(SystemTime::now());
    };
    let mut sweep = interval(SWEEP);
    sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let end = loop {
        tokio::select! {
            end = drain.begun() => break end,
            _ = sweep.tick() => sweep_once(),
            handed = seats.handed() => take_over(handed),
            accepted = accept(&listeners), if connections.len() < MOST_CONNECTIONS => match accepted {
                Ok((stream, address)) => {
                    if let Some((stream, address, seat)) = seats.find(stream, address) {
                        converse(stream, address, seat);
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection was not accepted");
                    sleep(AFTER_FAILED_ACCEPT).await;
                }
            },
        }
    };
    drop(listeners);
    seats.close().into_iter().for_each(take_over);
    match end.manner {
        Manner::Stop => proxy.draining.cancel(),
        Manner::HandOver => proxy.parting.set(true),
    }
    connections.close();
    proxy.running.close();
    loop {
        let End { deadline, .. } = drain.begun().await;
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
            _ = sweep.tick() => sweep_once(),
        }
    }
}

/// From whichever has one: after a hand-over there may be more of them than workers.
async fn accept(listeners: &[tokio::net::TcpListener]) -> io::Result<(TcpStream, SocketAddr)> {
    std::future::poll_fn(|cx| {
        let mut accepted = listeners.iter().map(|listener| listener.poll_accept(cx));
        accepted.find(Poll::is_ready).unwrap_or(Poll::Pending)
    })
    .await
}

/// Half of the second within which the streams of a revoked key must end.
const SWEEP: Duration = Duration::from_millis(500);
const MOST_CONNECTIONS: usize = 100_000;
/// A process out of file descriptors would spin otherwise.
const AFTER_FAILED_ACCEPT: Duration = Duration::from_millis(50);

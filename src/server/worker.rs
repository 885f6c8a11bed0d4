//! One worker: a thread with its own listener, connections and upstream pool.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, SystemTime};

use tokio::net::TcpStream;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout_at};
use tokio_util::task::TaskTracker;

use super::balancer::{Assignment, Balancer, HandedConnection};
use super::connection::serve_connection;
use super::drain::{Drain, DrainKind};
use crate::lifecycle::liveness::Pulse;
use crate::net::Handshakes;
use crate::proxy::Proxy;
use crate::telemetry::log_throttle::LogThrottle;

/// Accepts and serves until the drain begins, then serves until everything has ended or the deadline has come.
///
/// # Errors
/// An error of the listener itself.
pub async fn work(
    listeners: Vec<TcpListener>,
    mut balancer: Balancer,
    proxy: Rc<Proxy>,
    pulse: Pulse,
    mut drain: Drain,
) -> io::Result<()> {
    let listeners: Vec<_> =
        listeners.into_iter().map(tokio::net::TcpListener::from_std).collect::<Result<_, _>>()?;
    let connections = TaskTracker::new();
    let handshakes = Rc::<Handshakes>::default();
    let serve = {
        let (proxy, drain, connections) = (Rc::clone(&proxy), drain.clone(), connections.clone());
        move |stream: TcpStream, address: SocketAddr, assignment: Assignment| {
            let (proxy, handshakes) = (Rc::clone(&proxy), Rc::clone(&handshakes));
            let served = serve_connection(stream, address, proxy, handshakes, drain.clone(), assignment);
            connections.spawn_local(served);
        }
    };
    let serve_handed = |(stream, address, assignment): HandedConnection| {
        // A socket that this runtime can't register is closed.
        if let Ok(stream) = TcpStream::from_std(stream) {
            serve(stream, address, assignment);
        }
    };
    let take = |balancer: &Balancer, stream, address, place| {
        if let Some((stream, address, assignment)) = balancer.assign(stream, address, place) {
            serve(stream, address, assignment);
        }
    };
    let sweep = || {
        pulse.beat();
        proxy.sweep(SystemTime::now());
    };
    let room = balancer.room();
    // A connection beyond the bound: it is accepted, and served when another one has ended. Further ones wait in the
    // kernel.
    let mut crowded_out = None;
    let (crowding, failures) = (LogThrottle::default(), LogThrottle::default());
    let mut sweep_time = interval(SWEEP);
    sweep_time.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let order = loop {
        tokio::select! {
            order = drain.begun() => break order,
            _ = sweep_time.tick() => sweep(),
            handed = balancer.next_handed() => serve_handed(handed),
            accepted = accept(&listeners), if crowded_out.is_none() => match accepted {
                Ok((stream, address)) => match room.try_take() {
                    Some(place) => take(&balancer, stream, address, place),
                    None => {
                        if crowding.lets_through(Instant::now()) {
                            let problem = "as many connections are open as the limit of descriptors allows";
                            tracing::warn!(problem, "new connections wait");
                        }
                        crowded_out = Some((stream, address));
                    }
                },
                Err(error) => {
                    if failures.lets_through(Instant::now()) {
                        tracing::warn!(%error, "a connection was not accepted");
                    }
                    sleep(AFTER_FAILED_ACCEPT).await;
                }
            },
            place = room.take(), if crowded_out.is_some() => {
                if let Some((stream, address)) = crowded_out.take() {
                    take(&balancer, stream, address, place);
                }
            }
        }
    };
    for (stream, address) in crowded_out.into_iter().chain(close(listeners)) {
        take(&balancer, stream, address, room.overfill());
    }
    balancer.close().into_iter().for_each(serve_handed);
    match order.kind {
        DrainKind::Stop => proxy.draining.cancel(),
        DrainKind::Part => proxy.parting.set(true),
    }
    connections.close();
    proxy.running.close();
    loop {
        let deadline = drain.begun().await.deadline;
        let all = async {
            // Connections are waited for first: only a connection starts an exchange that may outlive it.
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
            _ = sweep_time.tick() => sweep(),
        }
    }
}

/// Accepts from any of the listeners: after a hand-over a worker may have several.
async fn accept(listeners: &[tokio::net::TcpListener]) -> io::Result<(TcpStream, SocketAddr)> {
    std::future::poll_fn(|cx| {
        let mut accepted = listeners.iter().map(|listener| listener.poll_accept(cx));
        accepted.find(Poll::is_ready).unwrap_or(Poll::Pending)
    })
    .await
}

/// Closes the listeners, and returns the connections that wait in them, which the kernel would reset.
fn close(listeners: Vec<tokio::net::TcpListener>) -> Vec<(TcpStream, SocketAddr)> {
    let mut waiting = Vec::new();
    // A listener that can't be asked is closed all the same.
    for listener in listeners.into_iter().filter_map(|listener| listener.into_std().ok()) {
        // Not by tokio's own accept, which knows of a connection only when the runtime has asked the kernel.
        let accepted = std::iter::from_fn(|| {
            loop {
                match listener.accept() {
                    // A connection that its client has given up hides none behind it.
                    Err(error)
                        if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::Interrupted) => {}
                    accepted => return accepted.ok(),
                }
            }
        });
        let accepted = accepted.filter_map(|(stream, address)| {
            stream.set_nonblocking(true).ok()?;
            Some((TcpStream::from_std(stream).ok()?, address))
        });
        waiting.extend(accepted.take(MOST_WAITING));
    }
    waiting
}

/// Half of the second within which the streams of a revoked key must end.
const SWEEP: Duration = Duration::from_millis(500);
/// Pause after a failed accept: a process out of file descriptors would spin otherwise.
const AFTER_FAILED_ACCEPT: Duration = Duration::from_millis(50);
/// Most connections that are taken from a listener that closes, while more may come.
const MOST_WAITING: usize = 4096;

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::{Ipv4Addr, TcpStream as Client};

    use tokio::io::AsyncWriteExt;

    use super::*;

    /// The kernel reset them: to a balancer they had looked taken, so that it asked no other replica.
    #[tokio::test]
    async fn connections_that_wait_in_a_closed_listener_are_served() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        listener.set_nonblocking(true).expect("an option");
        let address = listener.local_addr().expect("an address");
        let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
        let mut clients: Vec<Client> =
            (0..3).map(|_| Client::connect(address).expect("a connection")).collect();
        let waiting = close(vec![listener]);
        assert_eq!(waiting.len(), 3);
        assert!(Client::connect(address).is_err());
        for (mut stream, peer) in waiting {
            stream.write_all(b"hello").await.expect("written");
            drop(stream);
            let is_its = |client: &&mut Client| client.local_addr().is_ok_and(|address| address == peer);
            let client = clients.iter_mut().find(is_its).expect("its client");
            let mut got = String::new();
            client.read_to_string(&mut got).expect("text");
            assert_eq!(got, "hello");
        }
    }
}

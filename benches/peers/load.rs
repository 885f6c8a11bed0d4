//! Busy connections, each with one request after the other.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::{JoinSet, LocalSet};
use tokio_rustls::rustls::ClientConfig;

use crate::peer::Peer;
use crate::requests::{Call, Callers};
use crate::wire::{Answer, Wire};

/// Target and callers of a load.
#[derive(Clone)]
pub(crate) struct Target {
    /// Addresses of the peer, which connections take in turn.
    addresses: Vec<SocketAddr>,
    tls: Option<Arc<ClientConfig>>,
    keys: usize,
}

impl Target {
    pub(crate) fn of(peer: &Peer, tls: Option<Arc<ClientConfig>>, keys: usize) -> Target {
        Target { addresses: peer.addresses.clone(), tls, keys }
    }
}

/// Counts of a stretch of time.
pub(crate) struct Counted<T> {
    pub(crate) requests: u64,
    pub(crate) elapsed: Duration,
    /// Values of `look` before and after the count.
    pub(crate) before: T,
    pub(crate) after: T,
}

/// Keeps this number of connections busy, and counts for this time, after a warm-up of a quarter of it. `look` is taken
/// at both ends of the count.
pub(crate) async fn run<T>(
    target: &Target,
    call: Call,
    connections: usize,
    time: Duration,
    look: impl Fn() -> T,
) -> io::Result<Counted<T>> {
    let done = Rc::new(Cell::new(0_u64));
    let local = LocalSet::new();
    local
        .run_until(async {
            let mut busy = JoinSet::new();
            for number in 0..connections {
                busy.spawn_local(keep_busy(target.clone(), call, number, Rc::clone(&done)));
            }
            let counted = async {
                tokio::time::sleep(time / 4).await;
                let (began, before, first) = (Instant::now(), look(), done.get());
                tokio::time::sleep(time).await;
                let (after, last) = (look(), done.get());
                Counted { requests: last - first, elapsed: began.elapsed(), before, after }
            };
            tokio::select! {
                counted = counted => Ok(counted),
                Some(ended) = busy.join_next() => match ended {
                    Ok(Err(error)) => Err(error),
                    Ok(Ok(())) | Err(_) => Err(io::Error::other("a connection of the load ended unasked")),
                },
            }
        })
        .await
}

/// Submits this number of tasks.
pub(crate) async fn submit(target: &Target, connections: usize, tasks: usize) -> io::Result<()> {
    if tasks == 0 {
        return Ok(());
    }
    let local = LocalSet::new();
    local
        .run_until(async {
            let mut busy = JoinSet::new();
            for number in 0..connections {
                let target = target.clone();
                busy.spawn_local(async move {
                    let mut client = Client::new(&target, Call::Submit, number).await?;
                    for _ in 0..tasks / connections {
                        client.ask().await?;
                    }
                    Ok::<_, io::Error>(())
                });
            }
            while let Some(ended) = busy.join_next().await {
                ended.map_err(io::Error::other)??;
            }
            Ok(())
        })
        .await
}

async fn keep_busy(target: Target, call: Call, number: usize, done: Rc<Cell<u64>>) -> io::Result<()> {
    let mut client = Client::new(&target, call, number).await?;
    loop {
        client.ask().await?;
        done.set(done.get() + 1);
    }
}

/// A connection with its callers, and a task that is theirs.
pub(crate) struct Client {
    wire: Wire,
    callers: Callers,
    call: Call,
    task: String,
    request: Vec<u8>,
}

impl Client {
    /// The Nth client. For polls it submits a task first.
    pub(crate) async fn new(target: &Target, call: Call, number: usize) -> io::Result<Client> {
        let wire =
            Wire::connect(target.addresses[number % target.addresses.len()], target.tls.as_ref()).await?;
        let callers = Callers::of(number, target.keys);
        let mut client =
            Client { wire, callers, call: Call::Submit, task: String::new(), request: Vec::new() };
        if call == Call::Poll {
            client.ask().await?;
            let body: serde_json::Value =
                serde_json::from_slice(client.wire.body()).map_err(io::Error::other)?;
            client.task = body["output"]["task_id"].as_str().unwrap_or_default().to_owned();
        }
        client.call = call;
        Ok(client)
    }

    /// Sends one request and reads its whole answer, which must be a 200. Returns the size of the answer's body.
    pub(crate) async fn ask(&mut self) -> io::Result<u64> {
        self.wire.clear();
        self.call.write(&mut self.request, self.callers.next(), &self.task);
        self.wire.send(&self.request).await?;
        let answer = if self.call == Call::Chat {
            let mut body_bytes = 0;
            let status = self.wire.stream(|piece| {
                body_bytes += piece.len() as u64;
                true
            });
            Answer { status: status.await?, body_bytes }
        } else {
            self.wire.receive().await?
        };
        if answer.status != 200 {
            let body = String::from_utf8_lossy(self.wire.body());
            return Err(io::Error::other(format!("{}: status {}: {body}", self.call.name(), answer.status)));
        }
        Ok(answer.body_bytes)
    }

    /// Frees memory that an idle connection does not need.
    pub(crate) fn shrink(&mut self) {
        self.wire.shrink();
        self.request = Vec::new();
    }

    /// The connection and the next request's bytes, for a caller that sends them itself.
    pub(crate) fn parts(&mut self) -> (&mut Wire, &[u8]) {
        self.wire.clear();
        self.call.write(&mut self.request, self.callers.next(), &self.task);
        (&mut self.wire, &self.request)
    }
}

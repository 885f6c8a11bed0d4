//! Balancing of connections: each one is served by the worker that has the fewest.
//!
//! The kernel spreads connections over the listeners by a hash of their addresses: of eight lasting connections, one of
//! two workers may get seven while the other processor is idle. Without the balancer, 8 connections reached 0.56 and 0.87
//! of the throughput of 64 on two workers in two runs; with it 1.2 in both (`cargo bench --bench peers -- balance`).
//! Clients keep few connections for long, so a small deployment is the usual case. A moved connection costs one wake of
//! another worker; a request costs nothing.
//!
//! The balancer can go when the kernel balances `SO_REUSEPORT` listeners by their open connections.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::TcpStream;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// One worker's view of all workers.
pub struct Balancer {
    own: usize,
    workers: Arc<[WorkerLoad]>,
    handed: mpsc::Receiver<HandedConnection>,
    /// Room for connections, of all workers together.
    room: Arc<Semaphore>,
}

struct WorkerLoad {
    connections: AtomicUsize,
    queue: mpsc::Sender<HandedConnection>,
}

/// A connection that another worker accepted for this one.
pub(super) type HandedConnection = (std::net::TcpStream, SocketAddr, Assignment);

/// One connection in the count of its worker, until this is dropped.
pub(super) struct Assignment {
    number: usize,
    workers: Arc<[WorkerLoad]>,
    /// `None` if it was let in beyond the bound.
    _room: Option<OwnedSemaphorePermit>,
}

impl Assignment {
    fn moved_to(mut self, number: usize) -> Self {
        self.workers[self.number].connections.fetch_sub(1, Ordering::Relaxed);
        self.workers[number].connections.fetch_add(1, Ordering::Relaxed);
        self.number = number;
        self
    }
}

impl Drop for Assignment {
    fn drop(&mut self) {
        self.workers[self.number].connections.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Balancer {
    /// Makes the balancers of this many workers, which may have `most` connections together.
    pub fn for_workers(count: usize, most: usize) -> Vec<Self> {
        let (queues, handed): (Vec<_>, Vec<_>) = (0..count).map(|_| mpsc::channel(MOST_HANDED)).unzip();
        let load = |queue| WorkerLoad { connections: AtomicUsize::new(0), queue };
        let workers: Arc<[WorkerLoad]> = queues.into_iter().map(load).collect();
        let room = Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS)));
        let balancer =
            |(own, handed)| Self { own, workers: Arc::clone(&workers), handed, room: Arc::clone(&room) };
        handed.into_iter().enumerate().map(balancer).collect()
    }

    /// Room for connections; a permit is one connection's.
    pub(super) fn room(&self) -> Arc<Semaphore> {
        Arc::clone(&self.room)
    }

    /// Assigns a connection that was accepted here: returns it if it stays, and `None` if another worker has it.
    pub(super) fn assign(
        &self,
        stream: TcpStream,
        address: SocketAddr,
        room: Option<OwnedSemaphorePermit>,
    ) -> Option<(TcpStream, SocketAddr, Assignment)> {
        let count = |number: usize| self.workers[number].connections.load(Ordering::Relaxed);
        let fewest = (0..self.workers.len()).min_by_key(|number| count(*number)).unwrap_or(self.own);
        // A small difference among many connections is not worth the move.
        let is_fair = count(self.own) <= count(fewest) + count(self.own) / UNFAIR_FROM;
        if is_fair {
            return Some((stream, address, self.count_at(self.own, room)));
        }
        let handed = (stream.into_std().ok()?, address, self.count_at(fewest, room));
        match self.workers[fewest].queue.try_send(handed) {
            Ok(()) => None,
            // The other worker is too busy, or drains.
            Err(
                TrySendError::Full((stream, _, assignment)) | TrySendError::Closed((stream, _, assignment)),
            ) => Some((TcpStream::from_std(stream).ok()?, address, assignment.moved_to(self.own))),
        }
    }

    /// Waits for the next connection that another worker accepted for this one.
    pub(super) async fn next_handed(&mut self) -> HandedConnection {
        match self.handed.recv().await {
            Some(handed) => handed,
            // This never happens: each worker holds the senders of all queues, of its own too.
            None => std::future::pending().await,
        }
    }

    /// Closes the queue, and returns the connections that are in it.
    pub(super) fn close(&mut self) -> Vec<HandedConnection> {
        self.handed.close();
        std::iter::from_fn(|| self.handed.try_recv().ok()).collect()
    }

    fn count_at(&self, number: usize, room: Option<OwnedSemaphorePermit>) -> Assignment {
        self.workers[number].connections.fetch_add(1, Ordering::Relaxed);
        Assignment { number, workers: Arc::clone(&self.workers), _room: room }
    }
}

/// Connections that wait for a busy worker to take them.
const MOST_HANDED: usize = 256;
/// A worker may have a sixteenth more connections than another.
const UNFAIR_FROM: usize = 16;

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::net::TcpListener;

    use super::*;

    async fn connected(listener: &TcpListener) -> (TcpStream, TcpStream, SocketAddr) {
        let far = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("connected");
        let (near, address) = listener.accept().await.expect("accepted");
        (near, far, address)
    }

    #[tokio::test]
    async fn whoever_accepts_them_each_worker_gets_its_share() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("bound");
        let mut workers = Balancer::for_workers(3, 100);
        let (mut kept, mut others) = (Vec::new(), Vec::new());
        for _ in 0..9 {
            let (near, far, address) = connected(&listener).await;
            others.push(far);
            kept.extend(workers[0].assign(near, address, None));
        }
        let handed: Vec<_> = workers[1..].iter_mut().map(Balancer::close).collect();
        assert_eq!((kept.len(), handed[0].len(), handed[1].len()), (3, 3, 3));
        // The other workers' connections have ended, but their queues are closed: the next connection stays.
        drop(handed);
        let (near, _far, address) = connected(&listener).await;
        kept.extend(workers[0].assign(near, address, None));
        let counts = workers[0].workers.iter().map(|worker| worker.connections.load(Ordering::Relaxed));
        assert_eq!((kept.len(), counts.collect::<Vec<_>>()), (4, vec![4, 0, 0]));
    }

    #[tokio::test]
    async fn of_many_a_few_more_are_not_moved() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("bound");
        let workers = Balancer::for_workers(2, 100);
        let all: Vec<Assignment> =
            (0..100).map(|number| workers[0].count_at(usize::from(number >= 51), None)).collect();
        let (near, _far, address) = connected(&listener).await;
        assert!(workers[0].assign(near, address, None).is_some());
        drop(all);
    }
}

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
use tokio::sync::{Semaphore, SemaphorePermit, mpsc};

/// One worker's view of all workers.
pub struct Balancer {
    own: usize,
    workers: Arc<Workers>,
    handed: mpsc::Receiver<HandedConnection>,
}

struct Workers {
    loads: Box<[WorkerLoad]>,
    /// Connections that all workers together may still have.
    room: Semaphore,
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
    place: Place,
}

impl Assignment {
    fn new(number: usize, place: Place) -> Self {
        place.0.loads[number].connections.fetch_add(1, Ordering::Relaxed);
        Self { number, place }
    }

    fn moved_to(mut self, number: usize) -> Self {
        let loads = &self.place.0.loads;
        loads[self.number].connections.fetch_sub(1, Ordering::Relaxed);
        loads[number].connections.fetch_add(1, Ordering::Relaxed);
        self.number = number;
        self
    }
}

impl Drop for Assignment {
    fn drop(&mut self) {
        self.place.0.loads[self.number].connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Room for connections, of all workers together.
pub(super) struct Room(Arc<Workers>);

impl Room {
    /// Takes a place; `None` if there is none.
    pub(super) fn try_take(&self) -> Option<Place> {
        self.0.room.try_acquire().ok().map(|permit| self.keep(permit))
    }

    /// Waits for a place.
    pub(super) async fn take(&self) -> Place {
        match self.0.room.acquire().await {
            Ok(permit) => self.keep(permit),
            // This never happens: nobody closes the semaphore.
            Err(_) => std::future::pending().await,
        }
    }

    /// A place beyond the bound, for a connection that was accepted before a drain.
    pub(super) fn overfill(&self) -> Place {
        Place(Arc::clone(&self.0))
    }

    fn keep(&self, permit: SemaphorePermit<'_>) -> Place {
        permit.forget();
        Place(Arc::clone(&self.0))
    }
}

/// Room for one connection, until this is dropped.
pub(super) struct Place(Arc<Workers>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.room.add_permits(1);
    }
}

impl Balancer {
    /// Makes the balancers of this many workers, which may have `most` connections together.
    pub fn for_workers(count: usize, most: usize) -> Vec<Self> {
        let (queues, handed): (Vec<_>, Vec<_>) = (0..count).map(|_| mpsc::channel(MOST_HANDED)).unzip();
        let load = |queue| WorkerLoad { connections: AtomicUsize::new(0), queue };
        // Half of the most that a semaphore holds leaves room for what `overfill` adds.
        let room = Semaphore::new(most.min(Semaphore::MAX_PERMITS / 2));
        let workers = Arc::new(Workers { loads: queues.into_iter().map(load).collect(), room });
        let balancer = |(own, handed)| Self { own, workers: Arc::clone(&workers), handed };
        handed.into_iter().enumerate().map(balancer).collect()
    }

    pub(super) fn room(&self) -> Room {
        Room(Arc::clone(&self.workers))
    }

    /// Assigns a connection that was accepted here: returns it if it stays, and `None` if another worker has it.
    pub(super) fn assign(
        &self,
        stream: TcpStream,
        address: SocketAddr,
        place: Place,
    ) -> Option<(TcpStream, SocketAddr, Assignment)> {
        let loads = &self.workers.loads;
        let count = |number: usize| loads[number].connections.load(Ordering::Relaxed);
        let fewest = (0..loads.len()).min_by_key(|number| count(*number)).unwrap_or(self.own);
        // A small difference among many connections is not worth the move.
        let is_fair = count(self.own) <= count(fewest) + count(self.own) / UNFAIR_FROM;
        if is_fair {
            return Some((stream, address, Assignment::new(self.own, place)));
        }
        let handed = (stream.into_std().ok()?, address, Assignment::new(fewest, place));
        match loads[fewest].queue.try_send(handed) {
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
        let mut workers = Balancer::for_workers(3, 9);
        let room = workers[0].room();
        let (mut kept, mut others) = (Vec::new(), Vec::new());
        for _ in 0..9 {
            let (near, far, address) = connected(&listener).await;
            others.push(far);
            kept.extend(workers[0].assign(near, address, room.try_take().expect("a place")));
        }
        assert!(workers[2].room().try_take().is_none(), "the bound is of all workers");
        let handed: Vec<_> = workers[1..].iter_mut().map(Balancer::close).collect();
        assert_eq!((kept.len(), handed[0].len(), handed[1].len()), (3, 3, 3));
        // The other workers' connections have ended, but their queues are closed: the next connection stays.
        drop(handed);
        let (near, _far, address) = connected(&listener).await;
        kept.extend(workers[0].assign(near, address, room.take().await));
        let counts = workers[0].workers.loads.iter().map(|worker| worker.connections.load(Ordering::Relaxed));
        assert_eq!((kept.len(), counts.collect::<Vec<_>>()), (4, vec![4, 0, 0]));
        let free: Vec<_> = std::iter::from_fn(|| room.try_take()).collect();
        assert_eq!(free.len(), 5, "each that ended gave its place back once");
    }

    #[tokio::test]
    async fn of_many_a_few_more_are_not_moved() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("bound");
        let workers = Balancer::for_workers(2, 101);
        let place = || workers[0].room().try_take().expect("a place");
        let all: Vec<Assignment> =
            (0..100).map(|number| Assignment::new(usize::from(number >= 51), place())).collect();
        let (near, _far, address) = connected(&listener).await;
        assert!(workers[0].assign(near, address, place()).is_some());
        drop(all);
    }
}

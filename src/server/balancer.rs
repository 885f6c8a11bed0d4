//! Which worker serves a connection: the one that has the fewest. The kernel shares them out by a hash of their
//! addresses, so of eight that stay, one of two workers may get seven.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

/// One worker among all.
pub struct Seats {
    own: usize,
    workers: Arc<[Worker]>,
    handed: mpsc::Receiver<Handed>,
}

struct Worker {
    open: AtomicUsize,
    door: mpsc::Sender<Handed>,
}

/// A connection that another worker accepted for this one.
pub(super) type Handed = (std::net::TcpStream, SocketAddr, Seat);

/// A connection's place at its worker. Dropped, it is free.
pub(super) struct Seat {
    number: usize,
    workers: Arc<[Worker]>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.workers[self.number].open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Seats {
    /// Those of so many workers.
    pub fn of(workers: usize) -> Vec<Self> {
        let (doors, inner): (Vec<_>, Vec<_>) = (0..workers).map(|_| mpsc::channel(MOST_HANDED)).unzip();
        let workers: Arc<[Worker]> =
            doors.into_iter().map(|door| Worker { open: AtomicUsize::new(0), door }).collect();
        let seats = |(own, handed)| Self { own, workers: Arc::clone(&workers), handed };
        inner.into_iter().enumerate().map(seats).collect()
    }

    /// A seat for a connection that was accepted here, or `None` if another worker has it now.
    pub(super) fn find(
        &self,
        stream: TcpStream,
        address: SocketAddr,
    ) -> Option<(TcpStream, SocketAddr, Seat)> {
        let open = |number: usize| self.workers[number].open.load(Ordering::Relaxed);
        let fewest = (0..self.workers.len()).min_by_key(|number| open(*number)).unwrap_or(self.own);
        // To move one costs both workers a little, and of many connections a few more or less make no difference.
        let is_fair = open(self.own) <= open(fewest) + open(self.own) / UNFAIR_FROM;
        if is_fair {
            return Some((stream, address, self.sit(self.own)));
        }
        let seat = self.sit(fewest);
        let handed = (stream.into_std().ok()?, address, seat);
        match self.workers[fewest].door.try_send(handed) {
            Ok(()) => None,
            Err(TrySendError::Full(handed) | TrySendError::Closed(handed)) => {
                let (stream, address, seat) = handed;
                drop(seat);
                Some((TcpStream::from_std(stream).ok()?, address, self.sit(self.own)))
            }
        }
    }

    /// The next connection that another worker accepted for this one.
    pub(super) async fn handed(&mut self) -> Handed {
        match self.handed.recv().await {
            Some(handed) => handed,
            // Each worker holds all the doors, its own too.
            None => std::future::pending().await,
        }
    }

    /// Takes no more; those that were handed over already.
    pub(super) fn close(&mut self) -> Vec<Handed> {
        self.handed.close();
        std::iter::from_fn(|| self.handed.try_recv().ok()).collect()
    }

    fn sit(&self, number: usize) -> Seat {
        self.workers[number].open.fetch_add(1, Ordering::Relaxed);
        Seat { number, workers: Arc::clone(&self.workers) }
    }
}

/// Connections that wait for a busy worker to take them.
const MOST_HANDED: usize = 256;
/// A worker may have a sixteenth more than another.
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
        let mut workers = Seats::of(3);
        let (mut kept, mut others) = (Vec::new(), Vec::new());
        for _ in 0..9 {
            let (near, far, address) = connected(&listener).await;
            others.push(far);
            kept.extend(workers[0].find(near, address));
        }
        let handed: Vec<_> = workers[1..].iter_mut().map(Seats::close).collect();
        assert_eq!((kept.len(), handed[0].len(), handed[1].len()), (3, 3, 3));
        // Their seats are free again, but their doors are closed: the next one stays.
        drop(handed);
        let (near, _far, address) = connected(&listener).await;
        kept.extend(workers[0].find(near, address));
        let counts = workers[0].workers.iter().map(|worker| worker.open.load(Ordering::Relaxed));
        assert_eq!((kept.len(), counts.collect::<Vec<_>>()), (4, vec![4, 0, 0]));
    }

    #[tokio::test]
    async fn of_many_a_few_more_are_not_moved() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("bound");
        let workers = Seats::of(2);
        let all: Vec<Seat> = (0..100).map(|number| workers[0].sit(usize::from(number >= 51))).collect();
        let (near, _far, address) = connected(&listener).await;
        assert!(workers[0].find(near, address).is_some());
        drop(all);
    }
}

//! Happy Eyeballs (RFC 8305): the addresses of a host are tried one after another, each a little after the one before,
//! and the first connection wins. An address that swallows packets costs a quarter of a second, and its host's other
//! addresses go first for a while.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, sleep};

use super::descriptors;

/// Addresses in the order in which they are tried: the families by turns (RFC 8305, section 4), the system's choice
/// first; addresses that failed lately last.
pub(super) fn in_order(found: &[SocketAddr], slow: &SlowAddresses, now: Instant) -> VecDeque<SocketAddr> {
    let is_first =
        |address: &SocketAddr| found.first().is_some_and(|first| first.is_ipv4() == address.is_ipv4());
    let mut ours = found.iter().copied().filter(is_first);
    let mut others = found.iter().copied().filter(|address| !is_first(address));
    let mut ordered = Vec::with_capacity(found.len());
    for _ in 0..found.len() {
        ordered.extend(ours.next());
        ordered.extend(others.next());
    }
    ordered.sort_by_key(|address| slow.since(address, now));
    ordered.truncate(MOST_ADDRESSES);
    ordered.into()
}

/// Connects to the addresses until one answers. Afterwards `left` has the addresses that were not tried, and those that
/// had not answered yet.
///
/// # Errors
/// The last address's error. If this process ran out of descriptors, that error: then nothing is known of addresses.
pub(super) async fn race<T, F: Future<Output = io::Result<T>>>(
    left: &mut VecDeque<SocketAddr>,
    slow: &SlowAddresses,
    connect: impl Fn(SocketAddr) -> F,
) -> io::Result<(T, SocketAddr)> {
    let mut running = FuturesUnordered::new();
    let mut waiting = Vec::new();
    let mut failure = io::Error::from(io::ErrorKind::NotFound);
    loop {
        if let Some(address) = left.pop_front() {
            let attempt = connect(address);
            running.push(async move { (address, attempt.await) });
            waiting.push(address);
        }
        let ended = tokio::select! {
            biased;
            ended = running.next() => ended,
            () = sleep(HEAD_START), if !left.is_empty() => {
                waiting.last().into_iter().for_each(|address| slow.note(*address, Instant::now()));
                continue;
            }
        };
        let Some((address, outcome)) = ended else { return Err(failure) };
        waiting.retain(|other| *other != address);
        match outcome {
            Ok(connection) => {
                slow.forget(&address);
                left.extend(waiting);
                return Ok((connection, address));
            }
            Err(_) if descriptors::ran_out(&failure) => {}
            Err(error) => {
                if !descriptors::ran_out(&error) {
                    slow.note(address, Instant::now());
                }
                failure = error;
            }
        }
    }
}

/// Addresses that failed lately, or were overtaken. There is a bound, beyond which none is noted.
#[derive(Debug, Default)]
pub(super) struct SlowAddresses(RefCell<HashMap<SocketAddr, Instant>>);

impl SlowAddresses {
    pub(super) fn note(&self, address: SocketAddr, now: Instant) {
        let mut noted = self.0.borrow_mut();
        if noted.len() >= MOST_NOTED {
            noted.retain(|_, since| now - *since < MEMORY);
        }
        if noted.len() < MOST_NOTED {
            noted.insert(address, now);
        }
    }

    fn forget(&self, address: &SocketAddr) {
        self.0.borrow_mut().remove(address);
    }

    /// Time since which the address is slow; `None` if it is not.
    fn since(&self, address: &SocketAddr, now: Instant) -> Option<Instant> {
        self.0.borrow().get(address).copied().filter(|since| now - *since < MEMORY)
    }
}

/// "Connection Attempt Delay" of RFC 8305, section 5.
const HEAD_START: Duration = Duration::from_millis(250);
const MOST_ADDRESSES: usize = 16;
const MOST_NOTED: usize = 256;
const MEMORY: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use std::future::pending;

    use rustix::io::Errno;

    use super::*;

    fn address(ip: &str) -> SocketAddr {
        SocketAddr::new(ip.parse().expect("an address"), 443)
    }

    fn addresses(list: &[&str]) -> Vec<SocketAddr> {
        list.iter().map(|ip| address(ip)).collect()
    }

    /// Connects as the last number of the address says: 0 swallows packets, 1 refuses, 2 needs 600 ms, 3 needs 10 ms, 4
    /// finds no descriptor.
    async fn connect(to: SocketAddr) -> io::Result<SocketAddr> {
        match to.ip().to_string().bytes().last() {
            Some(b'1') => return Err(io::ErrorKind::ConnectionRefused.into()),
            Some(b'2') => sleep(Duration::from_millis(600)).await,
            Some(b'3') => sleep(Duration::from_millis(10)).await,
            Some(b'4') => return Err(Errno::MFILE.into()),
            _ => pending().await,
        }
        Ok(to)
    }

    /// The winner, the milliseconds that it took, and what is left.
    async fn run(slow: &SlowAddresses, list: &[&str]) -> (io::Result<SocketAddr>, u128, Vec<SocketAddr>) {
        let began = Instant::now();
        let mut left = in_order(&addresses(list), slow, began);
        let won = race(&mut left, slow, connect).await.map(|(connection, address)| {
            assert_eq!(connection, address);
            address
        });
        (won, began.elapsed().as_millis(), left.into())
    }

    #[test]
    fn families_take_turns() {
        let found = addresses(&["::1", "::2", "::3", "192.0.2.1", "192.0.2.2"]);
        let ordered = in_order(&found, &SlowAddresses::default(), Instant::now());
        assert_eq!(Vec::from(ordered), addresses(&["::1", "192.0.2.1", "::2", "192.0.2.2", "::3"]));
        let many: Vec<_> = (0..40).map(|port| SocketAddr::from(([192, 0, 2, 1], port))).collect();
        assert_eq!(in_order(&many, &SlowAddresses::default(), Instant::now()).len(), MOST_ADDRESSES);
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_swallows_packets_costs_a_moment_once() {
        let slow = SlowAddresses::default();
        let list = ["192.0.2.10", "192.0.2.3"];
        let (won, took, left) = run(&slow, &list).await;
        assert_eq!((won.ok(), took), (Some(address("192.0.2.3")), 260));
        assert_eq!(left, addresses(&["192.0.2.10"]));
        let (won, took, _) = run(&slow, &list).await;
        assert_eq!((won.ok(), took), (Some(address("192.0.2.3")), 10));
        sleep(MEMORY).await;
        assert_eq!(run(&slow, &list).await.1, 260);
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_starts_the_next_at_once() {
        let (won, took, left) =
            run(&SlowAddresses::default(), &["192.0.2.1", "192.0.2.11", "192.0.2.3", "192.0.2.2"]).await;
        assert_eq!((won.ok(), took), (Some(address("192.0.2.3")), 10));
        assert_eq!(left, addresses(&["192.0.2.2"]));
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_address_that_wins_is_not_given_up() {
        let slow = SlowAddresses::default();
        let (won, took, _) = run(&slow, &["192.0.2.2", "192.0.2.10"]).await;
        assert_eq!((won.ok(), took), (Some(address("192.0.2.2")), 600));
        assert!(slow.since(&address("192.0.2.2"), Instant::now()).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn the_error_is_the_last_ones_but_for_our_own() {
        let slow = SlowAddresses::default();
        let (none, took, _) = run(&slow, &["192.0.2.1", "192.0.2.11"]).await;
        assert_eq!((none.map_err(|error| error.kind()), took), (Err(io::ErrorKind::ConnectionRefused), 0));
        let (none, _, _) = run(&slow, &["192.0.2.4", "192.0.2.21"]).await;
        assert!(none.is_err_and(|error| descriptors::ran_out(&error)));
        assert!(slow.since(&address("192.0.2.4"), Instant::now()).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn one_address_has_no_timer() {
        let slow = SlowAddresses::default();
        let (won, took, _) = run(&slow, &["192.0.2.2"]).await;
        assert_eq!((won.is_ok(), took, slow.0.borrow().len()), (true, 600, 0));
        assert!(run(&slow, &[]).await.0.is_err());
    }

    #[test]
    fn only_so_many_are_noted() {
        let (slow, now) = (SlowAddresses::default(), Instant::now());
        for port in 0..1000 {
            slow.note(SocketAddr::from(([192, 0, 2, 1], port)), now);
        }
        assert_eq!(slow.0.borrow().len(), MOST_NOTED);
        slow.note(address("192.0.2.2"), now + MEMORY);
        assert_eq!(slow.0.borrow().len(), 1);
    }
}

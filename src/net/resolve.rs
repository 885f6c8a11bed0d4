//! Look-ups of host names by the system's resolver, so that its files and settings count. It blocks a thread, for half a
//! minute where no name server answers.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep_until};

use super::descriptors;

/// Look-ups of one worker. Callers that want the same name share one look-up. Look-ups that hang take no more than
/// [`THREADS`] of the runtime's blocking threads, so that other work still finds one.
pub(super) struct Resolver {
    running: RefCell<HashMap<Box<str>, Rc<Lookup>>>,
    threads: Arc<Semaphore>,
    ask: Ask,
}

type Ask = Arc<dyn Fn(&str) -> Answer + Send + Sync>;
type Answer = Result<Vec<IpAddr>, LookupFault>;

/// Why a name has no address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LookupFault {
    pub(super) problem: Box<str>,
    /// This process had no descriptors left for the question.
    pub(super) is_local: bool,
}

impl fmt::Display for LookupFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problem)
    }
}

impl Default for Resolver {
    fn default() -> Self {
        Self::asking(Arc::new(ask_system))
    }
}

impl Resolver {
    pub(super) fn asking(ask: Ask) -> Self {
        Self { running: RefCell::default(), threads: Arc::new(Semaphore::new(THREADS)), ask }
    }

    /// Addresses of the host, in the system's order of preference; an IP address is its own. Callers set the deadline.
    ///
    /// # Errors
    /// Why there are none.
    pub(super) async fn addresses(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, LookupFault> {
        if let Ok(ip) = host.parse() {
            return Ok(vec![SocketAddr::new(ip, port)]);
        }
        let found = self.shared(host).await?;
        Ok(found.into_iter().map(|ip| SocketAddr::new(ip, port)).collect())
    }

    async fn shared(&self, host: &str) -> Answer {
        let lookup = self.lookup(host);
        let mut answer = lookup.answer.subscribe();
        loop {
            let now = Instant::now();
            let is_due = lookup.again.get() <= now;
            let again = lookup.again.get().max(now + SHORTEST);
            tokio::select! {
                biased;
                Ok(answer) = answer.wait_for(Option::is_some) => {
                    return answer.clone().unwrap_or_else(|| Ok(Vec::new()));
                }
                Ok(thread) = Arc::clone(&self.threads).acquire_owned(), if is_due => {
                    // Another caller may have asked while this one waited for a thread.
                    if lookup.again.get() <= Instant::now() {
                        lookup.again.set(Instant::now() + REPEAT);
                        self.ask(host, &lookup, thread);
                    }
                }
                () = sleep_until(again), if !is_due => {}
            }
        }
    }

    fn ask(&self, host: &str, lookup: &Lookup, thread: OwnedSemaphorePermit) {
        let (ask, host, found) = (Arc::clone(&self.ask), host.to_owned(), lookup.answer.clone());
        spawn_blocking(move || {
            found.send_replace(Some(ask(&host)));
            drop(thread);
        });
    }

    /// The look-up of this name that is under way, or a new one. What was found earlier is no answer: a name's
    /// addresses change.
    fn lookup(&self, host: &str) -> Rc<Lookup> {
        let mut running = self.running.borrow_mut();
        if let Some(lookup) = running.get(host).filter(|lookup| lookup.answer.borrow().is_none()) {
            return Rc::clone(lookup);
        }
        running.retain(|_, lookup| lookup.answer.borrow().is_none() && Rc::strong_count(lookup) > 1);
        let lookup = Rc::new(Lookup { answer: watch::Sender::new(None), again: Cell::new(Instant::now()) });
        running.insert(host.into(), Rc::clone(&lookup));
        lookup
    }
}

/// One look-up. If its question gets no answer for a while, it is asked again beside it, since datagrams may be lost;
/// the first answer counts.
struct Lookup {
    answer: watch::Sender<Option<Answer>>,
    /// Time from which the question may be asked again.
    again: Cell<Instant>,
}

fn ask_system(host: &str) -> Answer {
    let found = (host, 0).to_socket_addrs().map(|found| found.map(|address| address.ip()).collect());
    found.map_err(|error: io::Error| match descriptors::probe() {
        Err(missing) => LookupFault { problem: missing.to_string().into(), is_local: true },
        Ok(()) => LookupFault { problem: error.to_string().into(), is_local: descriptors::ran_out(&error) },
    })
}

/// Look-ups at once.
pub const THREADS: usize = 4;
const REPEAT: Duration = Duration::from_secs(1);
const SHORTEST: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use parking_lot::Mutex;
    use tokio::time::timeout;

    use super::*;

    const ANSWER: [IpAddr; 1] = [IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1))];

    /// A resolver that hangs until the returned sender is dropped, and the number of its questions.
    fn hanging() -> (Rc<Resolver>, mpsc::Sender<()>, Arc<AtomicUsize>) {
        let (release, held) = mpsc::channel::<()>();
        let (held, asked) = (Mutex::new(held), Arc::new(AtomicUsize::new(0)));
        let count = Arc::clone(&asked);
        let ask = move |host: &str| {
            count.fetch_add(1, Ordering::SeqCst);
            if host == "hangs" {
                let _ = held.lock().recv();
            }
            Ok(ANSWER.to_vec())
        };
        (Rc::new(Resolver::asking(Arc::new(ask))), release, asked)
    }

    #[tokio::test]
    async fn an_address_needs_no_question() {
        let (resolver, _release, asked) = hanging();
        for ip in ["127.0.0.1", "::1"] {
            let found = resolver.addresses(ip, 443).await.expect("an address");
            assert_eq!(found, [SocketAddr::new(ip.parse().expect("an address"), 443)]);
        }
        assert_eq!(asked.load(Ordering::SeqCst), 0);
    }

    #[tokio::test]
    async fn callers_share_a_question_and_no_answer_is_kept() {
        let (resolver, release, asked) = hanging();
        let both = async { tokio::join!(resolver.addresses("hangs", 1), resolver.addresses("hangs", 2)) };
        let (both, ()) = tokio::join!(both, async { drop(release) });
        assert_eq!(both.0.expect("found")[0].port() + both.1.expect("found")[0].port(), 3);
        assert_eq!(asked.load(Ordering::SeqCst), 1);
        resolver.addresses("hangs", 1).await.expect("found");
        assert_eq!(asked.load(Ordering::SeqCst), 2);
    }

    /// A name whose look-up hangs holds up neither its caller's deadline nor another name.
    #[tokio::test]
    async fn a_question_without_an_answer_is_asked_again_and_holds_up_nobody() {
        let (resolver, release, asked) = hanging();
        let hangs = resolver.addresses("hangs", 1);
        assert!(timeout(REPEAT + REPEAT / 10, hangs).await.is_err());
        assert_eq!(asked.load(Ordering::SeqCst), 2);
        let found = timeout(Duration::from_secs(5), resolver.addresses("other", 1)).await;
        assert!(found.is_ok_and(|found| found.is_ok()));
        drop(release);
    }
}

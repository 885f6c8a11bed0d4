//! The sender: leases deliveries that are due, sends them, and notes what became of them. One thread, with a bounded number
//! of tries at once.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HOST, RETRY_AFTER, USER_AGENT};
use hyper::{Method, Request};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::sync::Notify;
use tokio::task::{spawn_blocking, spawn_local};
use tokio::time::{sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::figures::WaitingFigures;
use super::payload;
use super::schedule::{Choice, Schedule};
use super::signature::signatures;
use super::verdict::{self, TryOutcome};
use crate::config::{WebhookEndpoint, WebhookSecret, WebhookUrl};
use crate::net::dial::{AddressRule, Destination, Dialer};
use crate::net::fetch;
use crate::store::{
    Change, Delivery, DeliveryChange, EndedTry, LEASE, MOST_QUEUES, Outcome, QueueStanding, Store, StoreFault,
};
use crate::telemetry::metrics::DeliveryResult;
use crate::tenant::directory::{Directory, Tenant};

/// The sender of one thread.
pub struct WebhookSender {
    store: Store,
    directory: Arc<ArcSwap<Directory>>,
    figures: Arc<WaitingFigures>,
    dialer: Dialer,
    tls: Arc<ClientConfig>,
    schedule: RefCell<Schedule>,
    /// The last queue that a look has seen, where there are more than one look sees; else empty.
    place: RefCell<Box<str>>,
    /// Notified when a try has ended.
    freed: Notify,
}

/// A try that runs. Dropped, it is over, also after a panic.
struct RunningTry {
    sender: Rc<WebhookSender>,
    queue: Box<str>,
    is_well: Option<bool>,
}

/// An address with what its deliveries need.
struct Receiver<'d> {
    url: WebhookUrl,
    secrets: &'d [WebhookSecret],
    includes_output: bool,
    is_private: bool,
}

impl WebhookSender {
    /// A sender that shows in `figures` how much waits, and trusts the authorities of `tls`.
    pub fn new(
        store: Store,
        directory: Arc<ArcSwap<Directory>>,
        figures: Arc<WaitingFigures>,
        tls: Arc<ClientConfig>,
    ) -> Self {
        Self {
            store,
            directory,
            figures,
            dialer: Dialer::default(),
            tls,
            schedule: RefCell::default(),
            place: RefCell::default(),
            freed: Notify::new(),
        }
    }

    /// Sends until `stop`. Tries that run then have a moment to end; what they leave is tried again.
    pub async fn work(self, stop: CancellationToken) {
        let sender = Rc::new(self);
        let mut counted_at = None;
        while !stop.is_cancelled() {
            let next = sender.turn(&mut counted_at).await.unwrap_or_else(|fault| {
                tracing::debug!(%fault, "deliveries can't be read");
                Some(Instant::now() + AFTER_FAULT)
            });
            let look = Instant::now() + if sender.store.has_replicas() { SHARED_LOOK } else { LOOK };
            let until = next.map_or(look, |next| next.min(look));
            tokio::select! {
                () = stop.cancelled() => break,
                () = sender.store.delivery_news() => {}
                () = sender.freed.notified() => {}
                () = sleep_until(until.into()) => continue,
            }
            // Deliveries that come together are leased together.
            sleep(GATHER).await;
        }
        let ended = async {
            while Rc::strong_count(&sender) > 1 {
                sender.freed.notified().await;
            }
        };
        let _ = timeout(LAST_TRIES, ended).await;
    }

    /// Begins the tries that are due. Returns when to look again.
    async fn turn(self: &Rc<Self>, counted_at: &mut Option<Instant>) -> Result<Option<Instant>, StoreFault> {
        let queues = self.queues().await?;
        self.count(&queues, counted_at).await?;
        let (is_whole, now) = (queues.len() < MOST_QUEUES, Instant::now());
        let Choice { wishes, next } = self.schedule.borrow_mut().choose(&queues, is_whole, now);
        // Other queues may have something that is due.
        let next = if is_whole {
            next
        } else {
            Some(next.map_or(now + NEXT_PART, |next| next.min(now + NEXT_PART)))
        };
        if wishes.is_empty() {
            return Ok(next);
        }
        let lease = Change::Deliver(DeliveryChange::Lease(wishes));
        let leased = match self.store.commit(lease).await {
            Ok(Outcome::Leased(leased)) => leased,
            // Deliveries whose lease the store does not confirm in time are due again after the lease.
            Ok(_) | Err(_) => return Ok(Some(Instant::now() + AFTER_FAULT)),
        };
        for delivery in leased {
            self.schedule.borrow_mut().began(&delivery.queue);
            let queue = delivery.queue.clone();
            let running = RunningTry { sender: Rc::clone(self), queue, is_well: None };
            spawn_local(running.run(delivery));
        }
        Ok(next)
    }

    /// Queues that wait. A store with nothing to deliver is read a few times a minute. Where there are very many, each look
    /// sees those that follow the last look's.
    async fn queues(&self) -> Result<Vec<QueueStanding>, StoreFault> {
        let (store, place) = (self.store.clone(), self.place.borrow().clone());
        // A panic there is in the log already.
        let read = spawn_blocking(move || store.delivery_queues(&place));
        let queues = read.await.unwrap_or_else(|_| Ok(Vec::new()))?;
        let last = queues.last().filter(|_| queues.len() == MOST_QUEUES);
        self.place.replace(last.map(|last| last.queue.clone()).unwrap_or_default());
        Ok(queues)
    }

    /// Counts once in a while what waits, and keeps each queue to its bound.
    async fn count(
        &self,
        queues: &[QueueStanding],
        counted_at: &mut Option<Instant>,
    ) -> Result<(), StoreFault> {
        let now = Instant::now();
        let has_changed = queues.is_empty() != self.figures.is_empty();
        if !has_changed && counted_at.is_some_and(|at| now < at + COUNT_PERIOD) {
            return Ok(());
        }
        *counted_at = Some(now);
        if queues.is_empty() {
            self.figures.set(Vec::new());
            return Ok(());
        }
        let store = self.store.clone();
        let lengths =
            spawn_blocking(move || store.queue_lengths()).await.unwrap_or_else(|_| Ok(Vec::new()))?;
        for full in lengths.iter().filter(|queue| queue.waiting > MOST_WAITING) {
            let waiting = full.waiting;
            tracing::error!(
                tenant = &*full.tenant,
                waiting,
                "too much waits for an endpoint: the oldest is given up"
            );
            let (queue, kept) = (full.queue.clone(), MOST_WAITING);
            let give_up = Change::Deliver(DeliveryChange::GiveUpOldest { queue, kept });
            // Tried again at the next count.
            let _ = self.store.commit(give_up).await;
        }
        self.figures.set(lengths);
        Ok(())
    }

    async fn deliver(&self, delivery: &Delivery) -> TryOutcome {
        let directory = self.directory.load_full();
        let Some(tenant) = directory.tenant(&delivery.tenant) else {
            return TryOutcome::Pointless("its tenant is not configured any more");
        };
        let Some(event) = &delivery.event else { return TryOutcome::Unknown };
        let to = match receiver(tenant, delivery) {
            Ok(to) => to,
            Err(problem) => return TryOutcome::Pointless(problem),
        };
        let currency = &directory.settings.usage.currency;
        let body = payload::payload(event, &tenant.name, currency, to.includes_output);
        let request = match request(&to, &delivery.id, body, SystemTime::now()) {
            Ok(request) => request,
            Err(_) => return TryOutcome::Pointless("its URL can't be called"),
        };
        let destination = match self.destination(&directory, &to) {
            Some(destination) => destination,
            None => return TryOutcome::Pointless("its host is no name that a certificate may have"),
        };
        match fetch::head(&self.dialer, &destination, request, TRY).await {
            Ok(answer) => {
                let wish =
                    answer.headers.get(RETRY_AFTER).and_then(|field| field.to_str().ok()?.parse().ok());
                let retry_after = wish.map(Duration::from_secs);
                TryOutcome::Answered { status: answer.status.as_u16(), retry_after }
            }
            Err(fault) => TryOutcome::Silent(fault.to_string()),
        }
    }

    fn destination(&self, directory: &Directory, to: &Receiver<'_>) -> Option<Destination> {
        let WebhookUrl { tls, host, port, .. } = &to.url;
        let name = tls.then(|| ServerName::try_from(host.to_string())).transpose().ok()?;
        Some(Destination {
            host: host.clone(),
            port: *port,
            tls: name.map(|name| (Arc::clone(&self.tls), name)),
            proxy: directory.settings.proxies.of(*tls, host, *port).cloned(),
            rule: if to.is_private { AddressRule::Any } else { AddressRule::PublicOnly },
        })
    }

    /// Notes the end of a try.
    async fn conclude(&self, delivery: Delivery, outcome: &TryOutcome, took: Duration) {
        let end = outcome.end(delivery.number, delivery.age + took, dice());
        let (status, problem) = (outcome.status(), outcome.problem());
        let result = verdict::result(end);
        self.directory.load().count_delivery(&delivery.tenant, result);
        let (id, tenant, tries) = (&*delivery.id, &*delivery.tenant, delivery.number);
        match result {
            DeliveryResult::Delivered => tracing::debug!(id, tenant, tries, "a webhook is delivered"),
            DeliveryResult::Failed => {
                tracing::debug!(id, tenant, tries, problem, "a webhook is not delivered yet")
            }
            DeliveryResult::GivenUp => tracing::warn!(id, tenant, tries, problem, "a webhook is given up"),
        }
        let ended = EndedTry {
            id: delivery.id.clone(),
            number: delivery.number,
            end,
            status,
            problem: problem.into(),
        };
        if let Err(fault) = self.store.commit(Change::Deliver(DeliveryChange::EndTry(ended))).await {
            tracing::warn!(id, tenant, %fault, "the end of a webhook's try is not recorded yet: it may come twice");
        }
    }
}

impl RunningTry {
    async fn run(mut self, delivery: Delivery) {
        let began = Instant::now();
        let outcome = self.sender.deliver(&delivery).await;
        self.is_well = outcome.is_well();
        self.sender.conclude(delivery, &outcome, began.elapsed()).await;
    }
}

impl Drop for RunningTry {
    fn drop(&mut self) {
        self.sender.schedule.borrow_mut().ended(&self.queue, self.is_well, Instant::now());
        self.sender.freed.notify_one();
    }
}

/// The address of a delivery as the configuration has it now.
///
/// # Errors
/// Why nobody is to be told any more.
fn receiver<'d>(tenant: &'d Tenant, delivery: &Delivery) -> Result<Receiver<'d>, &'static str> {
    let endpoints = &tenant.webhooks.endpoints;
    if !delivery.is_own {
        let endpoint = endpoints.iter().find(|endpoint| *endpoint.url.text == *delivery.url);
        let endpoint = endpoint.ok_or("its endpoint is not configured any more")?;
        let WebhookEndpoint { url, secrets, events: _, includes_output, is_private } = endpoint;
        let (includes_output, is_private) = (*includes_output, *is_private);
        return Ok(Receiver { url: url.clone(), secrets, includes_output, is_private });
    }
    let url = tenant.webhooks.own_address(&delivery.url);
    let url = url.map_err(|_| "its address is not in the tenant's webhook_hosts any more")?;
    let first = endpoints.first().ok_or("its tenant has no endpoint any more, whose secrets would sign")?;
    Ok(Receiver { url, secrets: &first.secrets, includes_output: false, is_private: false })
}

fn request(
    to: &Receiver<'_>,
    id: &str,
    body: Vec<u8>,
    now: SystemTime,
) -> Result<Request<Full<Bytes>>, hyper::http::Error> {
    let timestamp = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let mut signature = hyper::header::HeaderValue::try_from(signatures(to.secrets, id, timestamp, &body))?;
    signature.set_sensitive(true);
    Request::builder()
        .method(Method::POST)
        .uri(to.url.target.as_str())
        .header(HOST, to.url.authority())
        .header(USER_AGENT, concat!("dashgate/", env!("CARGO_PKG_VERSION")))
        .header(CONTENT_TYPE, "application/json")
        .header("webhook-id", id)
        .header("webhook-timestamp", timestamp)
        .header("webhook-signature", signature)
        .body(Full::from(body))
}

/// A number from 0 to 1.
fn dice() -> f64 {
    // Without randomness all pauses are of the mean length.
    getrandom::u32().map_or(0.5, |number| f64::from(number) / f64::from(u32::MAX))
}

/// Longest time of a try, from the look-up of the name to the head of the answer.
const TRY: Duration = Duration::from_secs(15);
const _: () = assert!(TRY.as_secs() + 5 < LEASE.as_secs(), "a lease outlasts a try and the note of its end");
/// Time between two looks while nothing is due: another process of a hand-over may have left something.
const LOOK: Duration = Duration::from_secs(30);
/// A replica that ended may have left something.
const SHARED_LOOK: Duration = Duration::from_secs(2);
const GATHER: Duration = Duration::from_millis(3);
/// Time between the looks at two parts of the queues.
const NEXT_PART: Duration = Duration::from_millis(100);
const AFTER_FAULT: Duration = Duration::from_secs(1);
const COUNT_PERIOD: Duration = Duration::from_secs(15);
/// Deliveries of a queue that wait, as of a count.
const MOST_WAITING: usize = 50_000;
/// Time for tries that run when the gateway ends.
const LAST_TRIES: Duration = Duration::from_secs(2);

//! Deliveries: events on their way to endpoints of tenants. A delivery is a row, written in the transaction of its event,
//! that any replica may lease and send.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use foldhash::fast::RandomState;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::tenant_event::TenantEvent;
use crate::config::{TenantSettings, WebhookEndpoint, WebhookUrl};

/// A change of deliveries. No mirror holds any.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum DeliveryChange {
    /// Tells a tenant's endpoints of an event; not made where an event of its name was told.
    Announce(Announcement),
    /// Takes deliveries that are due, for [`LEASE`].
    Lease(Vec<LeaseWish>),
    EndTry(EndedTry),
    /// Begins a delivery anew, under its id; not made where there is no such delivery.
    Redeliver {
        id: Box<str>,
    },
    /// Gives up the oldest deliveries of a queue that are more than `kept`.
    GiveUpOldest {
        queue: Box<str>,
        kept: usize,
    },
}

/// An event that is no task's end.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Announcement {
    /// Events of one name are one.
    pub name: Box<str>,
    /// Time until which the name is remembered.
    pub until: SystemTime,
    pub tenant: Arc<str>,
    pub event: TenantEvent,
}

/// A queue of which a sender has room for some deliveries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseWish {
    pub queue: Box<str>,
    pub most: usize,
}

/// The end of a try to deliver.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EndedTry {
    pub id: Box<str>,
    /// Number of the try.
    pub number: u32,
    pub end: TryEnd,
    /// Status of the endpoint's answer, if there was one.
    pub status: Option<u16>,
    /// Words for people; empty for a delivery.
    pub problem: Box<str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TryEnd {
    Delivered,
    /// The next try is due after this time.
    Again(Duration),
    GivenUp,
    /// The endpoint wants nothing any more: all that waits for it is given up.
    Gone,
}

/// A delivery that was leased.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// The `webhook-id`, on each try.
    pub id: Box<str>,
    pub tenant: Arc<str>,
    pub queue: Box<str>,
    pub url: Box<str>,
    /// The submit named the address, and not the configuration.
    pub is_own: bool,
    /// `None` for an event of a later version.
    pub event: Option<TenantEvent>,
    /// Number of this try.
    pub number: u32,
    /// Time since the delivery began, by the store's clock.
    pub age: Duration,
}

/// A delivery, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryRecord {
    pub id: Box<str>,
    pub tenant: Box<str>,
    pub url: Box<str>,
    pub is_own: bool,
    /// Name of the event's type.
    pub event: Box<str>,
    pub state: DeliveryState,
    pub tries: u32,
    pub created_at: SystemTime,
    /// Time of the next try; or the end of the lease, while a try runs.
    pub due_at: SystemTime,
    pub ended_at: Option<SystemTime>,
    /// Status of the endpoint's last answer.
    pub status: Option<u16>,
    /// Problem of the last try; empty where there is none.
    pub problem: Box<str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryState {
    Waiting,
    Delivered,
    GivenUp,
}

/// The deliveries that are read, newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryQuery {
    pub tenant: Option<Box<str>>,
    pub state: Option<DeliveryState>,
    /// Time in milliseconds since 1970, and id, of the last delivery of the page before.
    pub after: Option<(i64, Box<str>)>,
    pub limit: usize,
}

/// A queue with deliveries that wait: those of one endpoint, or of the addresses at one host that submits have named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueStanding {
    pub queue: Box<str>,
    /// Time until the first delivery is due.
    pub due_in: Duration,
}

/// Deliveries of a queue that wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueLength {
    pub queue: Box<str>,
    pub tenant: Arc<str>,
    pub waiting: usize,
    /// Begin of the oldest.
    pub oldest: SystemTime,
}

/// Endpoints of tenants that have any.
#[derive(Debug, Default)]
pub(super) struct Subscriptions(HashMap<Arc<str>, Arc<[WebhookEndpoint]>, RandomState>);

impl DeliveryChange {
    /// True if the change is worth its wait for a database that is away.
    pub(super) fn outlasts_outage(&self) -> bool {
        match self {
            Self::Announce(_) | Self::EndTry(_) => true,
            Self::Lease(_) | Self::Redeliver { .. } | Self::GiveUpOldest { .. } => false,
        }
    }
}

impl DeliveryState {
    pub const ALL: [Self; 3] = [Self::Waiting, Self::Delivered, Self::GivenUp];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Delivered => "delivered",
            Self::GivenUp => "given_up",
        }
    }

    pub(super) const fn number(self) -> i64 {
        match self {
            Self::Waiting => 0,
            Self::Delivered => 1,
            Self::GivenUp => 2,
        }
    }

    pub(super) fn of_number(number: i64) -> Self {
        Self::ALL.into_iter().find(|state| state.number() == number).unwrap_or(Self::GivenUp)
    }
}

impl Subscriptions {
    pub(super) fn of<'a>(tenants: impl Iterator<Item = &'a TenantSettings>) -> Self {
        let with_endpoints = tenants.filter(|tenant| !tenant.webhooks.endpoints.is_empty());
        let row =
            |tenant: &TenantSettings| (Arc::clone(&tenant.name), Arc::clone(&tenant.webhooks.endpoints));
        Self(with_endpoints.map(row).collect())
    }

    pub(super) fn endpoints(&self, tenant: &str) -> &[WebhookEndpoint] {
        self.0.get(tenant).map_or(&[], |endpoints| endpoints)
    }
}

/// The id of an event's delivery to an address. An event that is told twice has the same ids, so it is delivered once.
pub fn delivery_id(event: &str, url: &str) -> String {
    let digest = Sha256::new().chain_update(event).chain_update("\n").chain_update(url).finalize();
    let mut id = "msg_".to_owned();
    for byte in &digest[..ID_BYTES] {
        let _ = write!(id, "{byte:02x}");
    }
    id
}

/// The queue of an address: those of submits share one by host, as each may be another one.
pub(super) fn queue_of(tenant: &str, url: &str, is_own: bool) -> String {
    let origin = is_own.then(|| WebhookUrl::parse(url).ok()).flatten().map(|url| url.origin());
    format!("{tenant} {}", origin.as_deref().unwrap_or(url))
}

/// The tenant whose queue it is, under the name that it had when the queue began.
pub fn tenant_of_queue(queue: &str) -> &str {
    queue.split_once(' ').map_or(queue, |(tenant, _)| tenant)
}

/// Time for which a sender has a delivery: longer than a try. Another sender may take it then.
pub const LEASE: Duration = Duration::from_secs(25);
/// Time for which a delivery is tried.
pub const TRIED_FOR: Duration = Duration::from_secs(24 * 3600);
/// Queues that a sender sees at once.
pub const MOST_QUEUES: usize = 10_000;
/// Time for which deliveries are kept, ended or not.
pub(super) const DELIVERIES_KEPT: Duration = Duration::from_secs(7 * 24 * 3600);
const ID_BYTES: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_event_has_one_id_for_each_address() {
        let ids = ["a", "b"].map(|event| ["x", "y"].map(|url| delivery_id(event, url))).concat();
        for (number, id) in ids.iter().enumerate() {
            assert_eq!((id.len(), ids.iter().position(|other| other == id)), (36, Some(number)));
        }
        assert_eq!(ids[0], delivery_id("a", "x"));
    }

    #[test]
    fn states_are_written_as_numbers() {
        for state in DeliveryState::ALL {
            assert_eq!(DeliveryState::of_number(state.number()), state);
        }
    }
}

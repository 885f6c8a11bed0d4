//! Limits of callers: requests per second, concurrent requests, tasks in flight. The rules belong to the directory; the
//! counters are kept here, by key and by tenant, and survive every reload.

mod auth_failures;
mod bucket;
mod call_holds;
mod counters;
mod fair_queue;
mod holders;
mod others;
mod registry;
mod replicas;
mod reserved_slots;
mod slots;
mod times_ahead;
mod window;

use std::fmt;
use std::time::Duration;

pub use auth_failures::AuthFailures;
pub use bucket::RateStatus;
pub use call_holds::{CallHold, CallHolds};
pub use counters::{UsedLimits, UsedRule};
pub use fair_queue::{FairQueue, QueueFull};
pub use holders::SlotsOfKey;
pub use registry::{Admitted, LimitedCaller, Registry};
pub use slots::TaskSlot;
pub use times_ahead::TimesAhead;
pub use window::{SlidingWindow, WindowRate};

use crate::config::{Limits, Rate};

/// Kinds of calls that have rules of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitKind {
    Poll,
    /// A call that makes a task.
    Submit,
    /// An event stream or a WebSocket.
    Stream,
    Other,
}

impl LimitKind {
    const COUNT: usize = 4;
    pub const ALL: [Self; Self::COUNT] = [Self::Other, Self::Poll, Self::Submit, Self::Stream];

    /// Table of the configuration that holds the rule, below `limits`.
    const fn table(self) -> &'static str {
        match self {
            LimitKind::Poll => ".polls",
            LimitKind::Submit => ".submits",
            LimitKind::Stream => ".streams",
            LimitKind::Other => "",
        }
    }

    /// Name of that table; `None` for the rule of every call, which stands in `limits` itself.
    pub fn table_name(self) -> Option<&'static str> {
        self.table().strip_prefix('.')
    }

    /// The rule that is written for the kind.
    pub const fn rule(self, limits: &Limits) -> &crate::config::Rule {
        match self {
            LimitKind::Poll => &limits.polls,
            LimitKind::Submit => &limits.submits,
            LimitKind::Stream => &limits.streams,
            LimitKind::Other => &limits.all,
        }
    }

    /// The rate that applies, and the kind whose bucket it uses: `Other` for the common rate.
    fn rate(self, limits: &Limits) -> Option<(LimitKind, Rate)> {
        let own = self.rule(limits).rate.map(|rate| (self, rate));
        own.or(limits.all.rate.map(|rate| (LimitKind::Other, rate)))
    }

    fn concurrent(self, limits: &Limits) -> Option<(LimitKind, u32)> {
        let own = self.rule(limits).concurrent_requests.map(|most| (self, most));
        own.or(limits.all.concurrent_requests.map(|most| (LimitKind::Other, most)))
    }

    fn tasks(self, limits: &Limits) -> Option<u32> {
        limits.tasks_in_flight.filter(|_| self == LimitKind::Submit)
    }

    fn is_limited(self, limits: &Limits) -> bool {
        self.rate(limits).is_some() || self.concurrent(limits).is_some() || self.tasks(limits).is_some()
    }
}

/// Callers that a limit counts together: one key, or all keys of a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LimitScope {
    Key,
    Tenant,
}

/// A limit that was reached.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Limit {
    Rate { scope: LimitScope, kind: LimitKind, rate: Rate },
    Concurrent { scope: LimitScope, kind: LimitKind, most: u32 },
    Tasks { scope: LimitScope, most: u32 },
}

/// A refused call. Nothing was taken for it.
#[derive(Debug, Clone, PartialEq)]
pub struct LimitRefusal {
    pub limit: Limit,
    /// Time before another try is of use.
    pub wait: Duration,
    pub rate_status: Option<RateStatus>,
}

/// The key of the configuration with its value.
impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let table = |scope| match scope {
            LimitScope::Key => "limits",
            LimitScope::Tenant => "tenant_limits",
        };
        match self {
            Limit::Rate { scope, kind, rate } => write!(
                f,
                "{}{}.requests_per_second = {}, with burst = {}",
                table(*scope),
                kind.table(),
                rate.requests_per_second,
                rate.burst
            ),
            Limit::Concurrent { scope, kind, most } => {
                write!(f, "{}{}.concurrent_requests = {most}", table(*scope), kind.table())
            }
            Limit::Tasks { scope, most } => write!(f, "{}.tasks_in_flight = {most}", table(*scope)),
        }
    }
}

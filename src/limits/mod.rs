//! How much a caller may do: requests a second, requests at once, tasks in flight. The rules are the
//! directory's; what is used of them is kept here, by key and by tenant, and survives every reload.

mod bucket;
mod in_flight;
mod meter;
mod registry;
mod slots;
mod strangers;

use std::fmt;
use std::time::Duration;

pub use bucket::Standing;
pub use registry::{Admitted, Registry, Who};
pub use slots::TaskSlot;
pub use strangers::Strangers;

use crate::config::{Limits, Rate};

/// What a call is limited as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Poll,
    /// It makes a task.
    Submit,
    /// An event stream or a WebSocket.
    Stream,
    Other,
}

impl Kind {
    const COUNT: usize = 4;

    /// Where its rule is written.
    const fn table(self) -> &'static str {
        match self {
            Kind::Poll => ".polls",
            Kind::Submit => ".submits",
            Kind::Stream => ".streams",
            Kind::Other => "",
        }
    }

    const fn rule(self, limits: &Limits) -> &crate::config::Rule {
        match self {
            Kind::Poll => &limits.polls,
            Kind::Submit => &limits.submits,
            Kind::Stream => &limits.streams,
            Kind::Other => &limits.all,
        }
    }

    /// The rule for its rate, and the kind whose bucket that is: `Other` for the common one.
    fn rate(self, limits: &Limits) -> Option<(Kind, Rate)> {
        let own = self.rule(limits).rate.map(|rate| (self, rate));
        own.or(limits.all.rate.map(|rate| (Kind::Other, rate)))
    }

    fn concurrent(self, limits: &Limits) -> Option<(Kind, u32)> {
        let own = self.rule(limits).concurrent_requests.map(|most| (self, most));
        own.or(limits.all.concurrent_requests.map(|most| (Kind::Other, most)))
    }

    fn tasks(self, limits: &Limits) -> Option<u32> {
        limits.tasks_in_flight.filter(|_| self == Kind::Submit)
    }

    fn is_limited(self, limits: &Limits) -> bool {
        self.rate(limits).is_some() || self.concurrent(limits).is_some() || self.tasks(limits).is_some()
    }
}

/// Whose limit it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Whose {
    Key,
    Tenant,
}

/// A limit that was reached.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Limit {
    Rate { whose: Whose, kind: Kind, rate: Rate },
    Concurrent { whose: Whose, kind: Kind, most: u32 },
    Tasks { whose: Whose, most: u32 },
}

/// Why a call is not let in now. It took nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    pub limit: Limit,
    /// Not before this time has passed.
    pub wait: Duration,
    pub standing: Option<Standing>,
}

/// As it is written in the configuration, with its value.
impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let table = |whose| match whose {
            Whose::Key => "limits",
            Whose::Tenant => "tenant_limits",
        };
        match self {
            Limit::Rate { whose, kind, rate } => write!(
                f,
                "{}{}.requests_per_second = {}, with burst = {}",
                table(*whose),
                kind.table(),
                rate.requests_per_second,
                rate.burst
            ),
            Limit::Concurrent { whose, kind, most } => {
                write!(f, "{}{}.concurrent_requests = {most}", table(*whose), kind.table())
            }
            Limit::Tasks { whose, most } => write!(f, "{}.tasks_in_flight = {most}", table(*whose)),
        }
    }
}

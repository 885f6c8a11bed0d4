//! What Prometheus sees. Handles are resolved when a configuration is taken; nobody looks a label up while a request
//! waits.

mod family;
mod grid;
mod label;
mod page;
mod process;
mod series;

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use prometheus::Histogram;

pub use self::label::{Outcome, PollServed, Reason, SpanFate};
pub use self::page::Levels;
pub use self::series::{AccountSeries, Attempt, ModelSeries, MountSeries, TenantSeries};

use self::series::{Held, OPERATIONS};
use crate::dashscope::operation::Operation;

/// Everything that is counted.
#[derive(Debug)]
pub struct Metrics {
    mounts: Held<MountSeries>,
    tenants: Held<TenantSeries>,
    accounts: Held<AccountSeries>,
    models: Held<ModelSeries>,
    /// Of requests under no mount.
    pub no_mount: Arc<MountSeries>,
    /// Of requests of which it is not known whose they are.
    pub no_tenant: Arc<TenantSeries>,
    other_tenants: Arc<TenantSeries>,
    pub other_models: Arc<ModelSeries>,
    in_flight: [AtomicI64; OPERATIONS],
    durations: [OnceLock<Histogram>; OPERATIONS],
    overheads: [OnceLock<Histogram>; OPERATIONS],
    /// Of the bodies of requests.
    bytes_in: AtomicU64,
    /// Of the bodies of answers.
    bytes_out: AtomicU64,
    polls: [AtomicU64; PollServed::NAMES.len()],
    spans: [AtomicU64; SpanFate::NAMES.len()],
    connections: AtomicI64,
    failed_handshakes: AtomicU64,
    /// In seconds, from a task's end by the upstream's clock to our knowing of it.
    pub completion_lag: Histogram,
    /// In seconds; a commit may hold many changes.
    pub store_commit: Histogram,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            mounts: Held::default(),
            tenants: Held::default(),
            accounts: Held::default(),
            models: Held::default(),
            no_mount: Arc::new(MountSeries::new(&"none".into())),
            no_tenant: Arc::new(TenantSeries::new(&"none".into())),
            other_tenants: Arc::new(TenantSeries::new(&"other".into())),
            other_models: Arc::new(ModelSeries::new(&"other".into())),
            in_flight: [const { AtomicI64::new(0) }; OPERATIONS],
            durations: [const { OnceLock::new() }; OPERATIONS],
            overheads: [const { OnceLock::new() }; OPERATIONS],
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            polls: [const { AtomicU64::new(0) }; PollServed::NAMES.len()],
            spans: [const { AtomicU64::new(0) }; SpanFate::NAMES.len()],
            connections: AtomicI64::new(0),
            failed_handshakes: AtomicU64::new(0),
            completion_lag: family::completion_lag(),
            store_commit: family::store_commit(),
        }
    }
}

impl Metrics {
    /// The mount with this prefix.
    pub fn mount(&self, prefix: &Arc<str>) -> Arc<MountSeries> {
        self.mounts.named(prefix, MountSeries::new)
    }

    /// The tenant of this name, at this place in the configuration: those past the first thousand are one.
    pub fn tenant(&self, name: &Arc<str>, place: usize) -> Arc<TenantSeries> {
        if place < MOST_TENANTS {
            self.tenants.named(name, TenantSeries::new)
        } else {
            Arc::clone(&self.other_tenants)
        }
    }

    pub fn account(&self, name: &Arc<str>) -> Arc<AccountSeries> {
        self.accounts.named(name, AccountSeries::new)
    }

    /// The model, or pattern of models, that the configuration names.
    pub fn model(&self, name: &Arc<str>) -> Arc<ModelSeries> {
        self.models.named(name, ModelSeries::new)
    }

    /// An exchange of this operation runs.
    pub fn entered(&self, operation: Operation) {
        self.in_flight[operation as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// It runs no more.
    pub fn left(&self, operation: Operation) {
        self.in_flight[operation as usize].fetch_sub(1, Ordering::Relaxed);
    }

    /// How long an exchange took, and how much of that was ours.
    pub fn took(&self, operation: Operation, duration: Duration, overhead: Duration) {
        let row = operation as usize;
        let durations = self.durations[row].get_or_init(|| family::request_duration(operation));
        let overheads = self.overheads[row].get_or_init(|| family::overhead(operation));
        durations.observe(duration.as_secs_f64());
        overheads.observe(overhead.as_secs_f64());
    }

    /// The bytes of a request's body, and of its answer's.
    pub fn carried(&self, bytes_in: u64, bytes_out: u64) {
        if bytes_in > 0 {
            self.bytes_in.fetch_add(bytes_in, Ordering::Relaxed);
        }
        if bytes_out > 0 {
            self.bytes_out.fetch_add(bytes_out, Ordering::Relaxed);
        }
    }

    pub fn polled(&self, served: PollServed) {
        self.polls[served as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// So many spans ended this way.
    pub fn spans(&self, fate: SpanFate, count: usize) {
        self.spans[fate as usize].fetch_add(count as u64, Ordering::Relaxed);
    }

    /// A client's TLS handshake came to nothing.
    pub fn failed_to_shake(&self) {
        self.failed_handshakes.fetch_add(1, Ordering::Relaxed);
    }

    /// A client's connection is open, until what this returns is dropped.
    pub fn connected(self: &Arc<Self>) -> Connected {
        self.connections.fetch_add(1, Ordering::Relaxed);
        Connected(Arc::clone(self))
    }
}

/// A client's open connection.
#[derive(Debug)]
pub struct Connected(Arc<Metrics>);

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Those that have a label of their own.
const MOST_TENANTS: usize = 1000;

#[cfg(test)]
#[path = "metrics_tests.rs"]
mod tests;

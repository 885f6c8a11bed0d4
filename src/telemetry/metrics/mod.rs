//! What Prometheus sees. Handles are resolved when a configuration is taken; nobody looks a label up while a request
//! waits.

mod counter_grid;
mod exposition;
mod family;
mod label;
mod process;
mod series;

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use prometheus::Histogram;

pub use self::exposition::ScrapeFigures;
pub use self::label::{Outcome, PollServed, Reason, SpanResult};
pub use self::series::{AccountSeries, ModelSeries, MountSeries, TenantSeries, UpstreamAttempt};

use self::series::{OPERATIONS, SeriesByName};
use crate::dashscope::operation::Operation;

/// Everything that is counted.
#[derive(Debug)]
pub struct Metrics {
    mounts: SeriesByName<MountSeries>,
    tenants: SeriesByName<TenantSeries>,
    accounts: SeriesByName<AccountSeries>,
    models: SeriesByName<ModelSeries>,
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
    spans: [AtomicU64; SpanResult::NAMES.len()],
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
            mounts: SeriesByName::default(),
            tenants: SeriesByName::default(),
            accounts: SeriesByName::default(),
            models: SeriesByName::default(),
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
            spans: [const { AtomicU64::new(0) }; SpanResult::NAMES.len()],
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
    pub fn count_exchange_start(&self, operation: Operation) {
        self.in_flight[operation as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// It runs no more.
    pub fn count_exchange_end(&self, operation: Operation) {
        self.in_flight[operation as usize].fetch_sub(1, Ordering::Relaxed);
    }

    /// How long an exchange took, and how much of that was ours.
    pub fn observe_durations(&self, operation: Operation, duration: Duration, overhead: Duration) {
        let row = operation as usize;
        let durations = self.durations[row].get_or_init(|| family::request_duration(operation));
        let overheads = self.overheads[row].get_or_init(|| family::overhead(operation));
        durations.observe(duration.as_secs_f64());
        overheads.observe(overhead.as_secs_f64());
    }

    /// The bytes of a request's body, and of its answer's.
    pub fn count_body_bytes(&self, bytes_in: u64, bytes_out: u64) {
        if bytes_in > 0 {
            self.bytes_in.fetch_add(bytes_in, Ordering::Relaxed);
        }
        if bytes_out > 0 {
            self.bytes_out.fetch_add(bytes_out, Ordering::Relaxed);
        }
    }

    pub fn count_poll(&self, served: PollServed) {
        self.polls[served as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// So many spans ended this way.
    pub fn count_spans(&self, fate: SpanResult, count: usize) {
        self.spans[fate as usize].fetch_add(count as u64, Ordering::Relaxed);
    }

    /// A client's TLS handshake came to nothing.
    pub fn count_failed_handshake(&self) {
        self.failed_handshakes.fetch_add(1, Ordering::Relaxed);
    }

    /// A client's connection is open, until what this returns is dropped.
    pub fn count_connection(self: &Arc<Self>) -> OpenConnection {
        self.connections.fetch_add(1, Ordering::Relaxed);
        OpenConnection(Arc::clone(self))
    }
}

/// A client's open connection.
#[derive(Debug)]
pub struct OpenConnection(Arc<Metrics>);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Those that have a label of their own.
const MOST_TENANTS: usize = 1000;

#[cfg(test)]
#[path = "metrics_tests.rs"]
mod tests;

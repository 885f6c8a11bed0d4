//! Metrics for Prometheus. Series are resolved when a configuration is loaded, so that a request looks no label up.

mod counter_grid;
mod exposition;
mod family;
mod label;
mod pair_counts;
mod process;
mod series;
mod use_counts;

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use prometheus::Histogram;
use strum::VariantArray;

pub use self::exposition::ScrapeFigures;
pub use self::label::{DeliveryResult, Outcome, PollServed, Reason, SpanResult};
pub use self::series::{
    AccountSeries, ModelSeries, MountSeries, RunningRequests, TenantSeries, UpstreamAttempt,
};

use self::series::{OPERATIONS, SeriesByName};
use crate::dashscope::operation::Operation;

/// All metrics of the process.
#[derive(Debug)]
pub struct Metrics {
    mounts: SeriesByName<MountSeries>,
    tenants: SeriesByName<TenantSeries>,
    /// Requests that run, of every tenant, so that its own use can be told. They are no series of Prometheus.
    running: SeriesByName<RunningRequests>,
    accounts: SeriesByName<AccountSeries>,
    models: SeriesByName<ModelSeries>,
    /// Requests under no mount.
    pub no_mount: Arc<MountSeries>,
    /// Requests without a known tenant.
    pub no_tenant: Arc<TenantSeries>,
    other_tenants: Arc<TenantSeries>,
    pub other_models: Arc<ModelSeries>,
    in_flight: [AtomicI64; OPERATIONS],
    durations: [OnceLock<Histogram>; OPERATIONS],
    overheads: [OnceLock<Histogram>; OPERATIONS],
    /// Body bytes of requests.
    bytes_in: AtomicU64,
    /// Body bytes of answers.
    bytes_out: AtomicU64,
    polls: [AtomicU64; PollServed::VARIANTS.len()],
    spans: [AtomicU64; SpanResult::VARIANTS.len()],
    connections: AtomicI64,
    /// Most open connections of clients.
    pub connections_limit: AtomicI64,
    failed_handshakes: AtomicU64,
    /// Seconds from a task's end, by the upstream's clock, until the gateway knows of it.
    pub completion_lag: Histogram,
    /// Seconds of a store commit, which may hold many changes.
    pub store_commit: Histogram,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            mounts: SeriesByName::default(),
            tenants: SeriesByName::default(),
            running: SeriesByName::default(),
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
            polls: [const { AtomicU64::new(0) }; PollServed::VARIANTS.len()],
            spans: [const { AtomicU64::new(0) }; SpanResult::VARIANTS.len()],
            connections: AtomicI64::new(0),
            connections_limit: AtomicI64::new(0),
            failed_handshakes: AtomicU64::new(0),
            completion_lag: family::completion_lag(),
            store_commit: family::store_commit(),
        }
    }
}

impl Metrics {
    /// Series of the mount with this prefix.
    pub fn mount(&self, prefix: &Arc<str>) -> Arc<MountSeries> {
        self.mounts.named(prefix, MountSeries::new)
    }

    /// Series of the tenant of this name, at this index in the configuration. Tenants past the first thousand share one
    /// series, so that labels stay bounded.
    pub fn tenant(&self, name: &Arc<str>, index: usize) -> Arc<TenantSeries> {
        if index < MOST_TENANTS {
            self.tenants.named(name, TenantSeries::new)
        } else {
            Arc::clone(&self.other_tenants)
        }
    }

    /// The count of the tenant's requests that run.
    pub fn running(&self, tenant: &Arc<str>) -> Arc<RunningRequests> {
        self.running.named(tenant, |_| RunningRequests::default())
    }

    pub fn account(&self, name: &Arc<str>) -> Arc<AccountSeries> {
        self.accounts.named(name, AccountSeries::new)
    }

    /// Series of a model, or pattern of models, that the configuration names.
    pub fn model(&self, name: &Arc<str>) -> Arc<ModelSeries> {
        self.models.named(name, ModelSeries::new)
    }

    /// Counts the start of an exchange whose operation is known.
    pub fn count_exchange_start(&self, operation: Operation) {
        self.in_flight[operation as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts the end of an exchange that was counted by [`Metrics::count_exchange_start`].
    pub fn count_exchange_end(&self, operation: Operation) {
        self.in_flight[operation as usize].fetch_sub(1, Ordering::Relaxed);
    }

    /// Observes the duration of an exchange, and the gateway's own part of it.
    pub fn observe_durations(&self, operation: Operation, duration: Duration, overhead: Duration) {
        let row = operation as usize;
        let durations = self.durations[row].get_or_init(|| family::request_duration(operation));
        let overheads = self.overheads[row].get_or_init(|| family::overhead(operation));
        durations.observe(duration.as_secs_f64());
        overheads.observe(overhead.as_secs_f64());
    }

    /// Counts the body bytes of a request and of its answer.
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

    pub fn count_spans(&self, result: SpanResult, count: usize) {
        self.spans[result as usize].fetch_add(count as u64, Ordering::Relaxed);
    }

    /// Counts a TLS handshake of a client that failed.
    pub fn count_failed_handshake(&self) {
        self.failed_handshakes.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a client's connection as open until the returned guard is dropped.
    pub fn count_connection(self: &Arc<Self>) -> CountedConnection {
        self.connections.fetch_add(1, Ordering::Relaxed);
        CountedConnection(Arc::clone(self))
    }
}

/// One open connection in the count.
#[derive(Debug)]
pub struct CountedConnection(Arc<Metrics>);

impl Drop for CountedConnection {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Most tenants with a label value of their own.
const MOST_TENANTS: usize = 1000;

#[cfg(test)]
#[path = "metrics_tests.rs"]
mod tests;

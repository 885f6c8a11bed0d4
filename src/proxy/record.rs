//! At the end of an exchange, however it ended: what there is to count.

use std::sync::Arc;
use std::time::Instant;

use super::exchange::Exchange;
use crate::dashscope::operation::Operation;
use crate::metrics::Metrics;
use crate::tenant::directory::Caller;

/// One worker's way to what is recorded of exchanges.
#[derive(Debug)]
pub struct Recorder {
    pub metrics: Arc<Metrics>,
}

impl Recorder {
    /// Counts an exchange; once, when it is dropped.
    pub(super) fn record(&self, exchange: &Exchange, now: Instant) {
        let metrics = &*self.metrics;
        let spent = exchange.stopwatch.spent(now);
        let (status, outcome) = (exchange.status.get(), exchange.outcome.get());
        let operation = exchange.operation().unwrap_or(Operation::Unlisted);
        let mount = exchange.mount.get().and_then(|mount| exchange.directory().mount_series.get(mount));
        let tenant = exchange.caller.get().map(|caller| &caller.tenant().series);
        mount.unwrap_or(&metrics.no_mount).ended(operation, status, outcome);
        tenant.unwrap_or(&metrics.no_tenant).ended(operation, status, outcome);
        metrics.took(operation, spent.total, spent.overhead());
        metrics.carried(exchange.bytes_in(), exchange.bytes_out());
        if let Some(operation) = exchange.operation() {
            metrics.left(operation);
        }
        let caller = exchange.caller.get();
        tracing::debug!(
            operation = operation.name(),
            tenant = caller.map(|caller| &*caller.tenant().name),
            key_id = caller.map(Caller::key_id),
            code = status.map(|status| status.as_u16()),
            outcome = outcome.name(),
            elapsed_seconds = spent.total.as_secs_f64(),
            "exchange"
        );
    }
}

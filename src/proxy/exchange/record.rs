//! The end of an exchange, however it ended: its metrics, its line in the access log, and its spans.

use std::time::Instant;

use hyper::StatusCode;
use uuid::Uuid;

use super::Exchange;
use super::recorder::Recorder;
use super::spans::ShownNames;
use crate::config::LogSettings;
use crate::dashscope::operation::Operation;
use crate::telemetry::access_log::{LogLine, name};
use crate::telemetry::method_name;
use crate::telemetry::metrics::Outcome;
use crate::telemetry::stopwatch::TimeSpent;

impl Drop for Exchange {
    fn drop(&mut self) {
        self.connection.leave();
        self.recorder.record(self, Instant::now());
    }
}

impl Recorder {
    /// Records an exchange when it is dropped.
    fn record(&self, exchange: &Exchange, now: Instant) {
        let spent = exchange.stopwatch.spent(now);
        self.count_ended(exchange, &spent);
        let log = &exchange.directory().settings.log;
        if exchange.has_log() && (log.sample >= 1.0 || !is_ordinary(exchange) || self.draw() < log.sample) {
            self.write(exchange, &spent, log);
        }
        if let Some((tracer, trace)) = self.tracer.as_ref().zip(exchange.trace.get())
            && trace.is_sampled()
        {
            exchange.note_model(None);
            let answered = exchange.answer_id.borrow();
            let names = ShownNames {
                model: exchange.model.get().and_then(|model| name(model)),
                task_id: exchange.task_id.get().and_then(|id| name(id)),
                request_id: answered.as_ref().and_then(|id| id.to_str().ok()).and_then(name),
            };
            tracer.send(exchange.spans(trace, &spent, names, now));
        }
    }

    fn count_ended(&self, exchange: &Exchange, spent: &TimeSpent) {
        let metrics = &*self.metrics;
        let (status, outcome) = (exchange.status.get(), exchange.outcome.get());
        let operation = exchange.operation().unwrap_or(Operation::Unlisted);
        let mount = exchange.mount_index().and_then(|mount| exchange.directory().mount_series.get(mount));
        let tenant = exchange.caller().map(|caller| &caller.tenant().series);
        mount.unwrap_or(&metrics.no_mount).count_request(operation, status, outcome);
        tenant.unwrap_or(&metrics.no_tenant).count_request(operation, status, outcome);
        metrics.observe_durations(operation, spent.total, spent.overhead());
        metrics.count_body_bytes(exchange.bytes_in(), exchange.carried_out.get());
        if let Some(operation) = exchange.operation() {
            metrics.count_exchange_end(operation);
        }
        if let Some(Ok(permit)) = exchange.admission.get() {
            permit.tenant().running.end();
        }
    }

    fn write(&self, exchange: &Exchange, spent: &TimeSpent, log: &LogSettings) {
        exchange.note_model(None);
        let directory = exchange.directory();
        let (tenant, key_id) = exchange.caller_names().unzip();
        let mount = exchange.mount();
        let account = exchange.account.get().and_then(|account| directory.accounts.get(account));
        let outcome = exchange.outcome.get();
        let answered = exchange.answer_id.borrow();
        let answered = answered.as_ref().and_then(|id| id.to_str().ok());
        let is_ours = matches!(outcome, Outcome::Local | Outcome::Rejected(_));
        let own = answered.filter(|_| is_ours).and_then(|id| Uuid::try_parse(id).ok());
        let upstream_code = exchange.upstream_code.borrow();
        let line = LogLine {
            request_id: own.unwrap_or_else(|| exchange.own_id()),
            upstream_request_id: answered.filter(|_| !is_ours).and_then(name),
            replica: self.store.replica_name(),
            client: exchange.client,
            tenant: tenant.map(|name| &**name),
            key_id,
            mount: mount.map(|mount| &*mount.prefix),
            method: method_name(&exchange.method),
            operation: exchange.operation().unwrap_or(Operation::Unlisted).name(),
            model: exchange.model.get().and_then(|model| name(model)),
            task_id: exchange.task_id.get().and_then(|id| name(id)),
            account: account.map(|account| &*account.name),
            attempts: exchange.attempts.get(),
            served: exchange.served.get().map(Into::into),
            upstream_code: upstream_code.as_deref(),
            code: exchange.status.get().map(|status| status.as_u16()),
            outcome: outcome.name(),
            reason: outcome.reason().map(crate::telemetry::metrics::Reason::name),
            bytes_in: exchange.bytes_in(),
            bytes_out: exchange.carried_out.get(),
            duration: spent.total,
            upstream: spent.upstream,
            client_wait: spent.client,
            turn: spent.turn,
            overhead: spent.overhead(),
            sample: Some(log.sample).filter(|sample| *sample < 1.0 && is_ordinary(exchange)),
        };
        self.log_writer.write(&line, log.format);
    }
}

/// True if the exchange succeeded and bought nothing: only such exchanges are sampled.
fn is_ordinary(exchange: &Exchange) -> bool {
    let is_good = |status: StatusCode| status.as_u16() < 400;
    exchange.status.get().is_some_and(is_good)
        && !exchange.submits()
        && matches!(exchange.outcome.get(), Outcome::Answered | Outcome::Local | Outcome::Tunnelled)
}

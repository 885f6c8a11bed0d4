//! Spans of an exchange: one for the exchange itself, and one for each attempt at an upstream, named by OpenTelemetry's
//! conventions for HTTP. They never hold a path, a query, a key or a body.

use std::sync::Arc;
use std::time::Instant;

use hyper::StatusCode;
use hyper::header::HeaderValue;

use super::Exchange;
use super::trace::{CurrentAttempt, Trace};
use crate::account::Account;
use crate::dashscope::operation::Operation;
use crate::telemetry::method_name;
use crate::telemetry::metrics::{Outcome, Reason};
use crate::telemetry::stopwatch::TimeSpent;
use crate::telemetry::traces::{self, Attribute, AttributeValue, Span, SpanKind, TraceStart, traceparent};

impl Exchange {
    /// Begins the span of the next attempt, at the account that the exchange is sent to. `None` if traces are off.
    pub(in crate::proxy) fn begin_attempt(&self) -> Option<AttemptSpan<'_>> {
        let trace = self.trace.get()?;
        let number = trace.attempts.replace(trace.attempts.get() + 1);
        let ids = traces::child_ids(&trace.begun.ids)?;
        trace.current.set(Some(CurrentAttempt { ids, number, began: Instant::now(), status: None }));
        Some(AttemptSpan(self))
    }

    /// All spans of the exchange, once it has ended. `names`: the model and the ids, as far as they may be shown.
    pub(super) fn spans(
        &self,
        trace: &Trace,
        spent: &TimeSpent,
        names: ShownNames<'_>,
        now: Instant,
    ) -> Vec<Span> {
        let (status, outcome) = (self.status.get(), self.outcome.get());
        let fails = |status: StatusCode| status.is_server_error();
        let is_error = outcome == Outcome::Cut || status.is_none_or(fails);
        let directory = self.directory();
        let mount = self.mount();
        let account = self.account.get().and_then(|account| directory.accounts.get(account));
        let (tenant, key_id) = self.caller_names().unzip();
        let operation = self.operation().unwrap_or(Operation::Unlisted);
        let method = method_name(&self.method).unwrap_or("_OTHER");
        let shared = |text: &Arc<str>| AttributeValue::Shared(Arc::clone(text));
        let text = |text: &str| AttributeValue::Text(text.into());
        let mut attributes = vec![
            ("http.request.method", AttributeValue::Name(method)),
            ("client.address", AttributeValue::Text(self.client.ip.to_string().into())),
            ("http.request.body.size", whole(self.bytes_in())),
            ("http.response.body.size", whole(self.carried_out.get())),
            ("dashgate.operation", AttributeValue::Name(operation.name())),
            ("dashgate.outcome", AttributeValue::Name(outcome.name())),
            ("dashgate.overhead_seconds", AttributeValue::Seconds(spent.overhead().as_secs_f64())),
            ("dashgate.upstream_seconds", AttributeValue::Seconds(spent.upstream.as_secs_f64())),
            ("dashgate.client_seconds", AttributeValue::Seconds(spent.client.as_secs_f64())),
            ("dashgate.turn_seconds", AttributeValue::Seconds(spent.turn.as_secs_f64())),
        ];
        let known: [Option<Attribute>; 10] = [
            status.map(|status| ("http.response.status_code", whole(status.as_u16().into()))),
            mount.map(|mount| ("dashgate.mount", shared(&mount.prefix))),
            tenant.map(|name| ("dashgate.tenant", shared(name))),
            key_id.map(|id| ("dashgate.key_id", text(id))),
            account.map(|account| ("dashgate.account", shared(&account.name))),
            outcome.reason().map(|reason| ("dashgate.reason", AttributeValue::Name(reason.name()))),
            names.model.map(|model| ("dashgate.model", text(model))),
            names.task_id.map(|id| ("dashgate.task_id", text(id))),
            names.request_id.map(|id| ("dashgate.request_id", text(id))),
            is_error.then(|| ("error.type", error(status, outcome.reason()))),
        ];
        attributes.extend(known.into_iter().flatten());
        let own = Span {
            ids: trace.begun.ids,
            parent: trace.begun.parent,
            kind: SpanKind::Server,
            name: format!("{method} {}", operation.name()),
            began: trace.begun.at.nanoseconds(self.stopwatch.began()),
            ended: trace.begun.at.nanoseconds(now),
            attributes,
            is_error,
        };
        let mut spans = trace.spans.take();
        spans.insert(0, own);
        spans
    }
}

/// Names that the access log shows too.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ShownNames<'e> {
    pub model: Option<&'e str>,
    pub task_id: Option<&'e str>,
    pub request_id: Option<&'e str>,
}

/// One attempt at an upstream, up to the head of its answer. The span is kept when this is dropped.
#[derive(Debug)]
pub(in crate::proxy) struct AttemptSpan<'t>(&'t Exchange);

impl AttemptSpan<'_> {
    /// Value of `traceparent` for the upstream.
    pub(in crate::proxy) fn traceparent(&self) -> Option<HeaderValue> {
        let trace = self.0.trace.get()?;
        Some(traceparent(&trace.current.get()?.ids, trace.begun.sampled))
    }

    /// True if the caller began the trace.
    pub(in crate::proxy) fn continues_callers(&self) -> bool {
        self.0.trace.get().is_some_and(|trace| trace.begun.parent.is_some())
    }

    /// Ends the span with the head of an answer.
    pub(in crate::proxy) fn answered(self, status: StatusCode) {
        if let Some(trace) = self.0.trace.get() {
            trace
                .current
                .set(trace.current.get().map(|current| CurrentAttempt { status: Some(status), ..current }));
        }
    }
}

impl Drop for AttemptSpan<'_> {
    fn drop(&mut self) {
        let exchange = self.0;
        let Some(trace) = exchange.trace.get() else { return };
        let ended = trace.current.take().filter(|_| trace.begun.sampled);
        let account = exchange.account.get().and_then(|account| exchange.directory().accounts.get(account));
        if let Some((current, account)) = ended.zip(account) {
            trace.spans.borrow_mut().push(current.span(&trace.begun, exchange, account));
        }
    }
}

impl CurrentAttempt {
    fn span(&self, begun: &TraceStart, exchange: &Exchange, account: &Account) -> Span {
        let Self { ids, number, began, status } = *self;
        let is_error = status.is_none_or(|status| status.as_u16() >= 400);
        let method = method_name(&exchange.method).unwrap_or("_OTHER");
        let operation = exchange.operation().unwrap_or(Operation::Unlisted);
        let url = &account.address.base_url;
        let mut attributes = vec![
            ("http.request.method", AttributeValue::Name(method)),
            ("server.address", AttributeValue::Text(url.host.as_str().into())),
            ("server.port", whole(url.port.into())),
            ("dashgate.account", AttributeValue::Shared(Arc::clone(&account.name))),
            ("dashgate.operation", AttributeValue::Name(operation.name())),
        ];
        attributes.extend(status.map(|status| ("http.response.status_code", whole(status.as_u16().into()))));
        attributes.extend((number > 0).then(|| ("http.request.resend_count", whole(number.into()))));
        attributes.extend(is_error.then(|| ("error.type", error(status, None))));
        Span {
            ids,
            parent: Some(begun.ids.span_id),
            kind: SpanKind::Client,
            name: format!("{method} {}", operation.name()),
            began: begun.at.nanoseconds(began),
            ended: begun.at.nanoseconds(Instant::now()),
            attributes,
            is_error,
        }
    }
}

fn whole(number: u64) -> AttributeValue {
    AttributeValue::Whole(i64::try_from(number).unwrap_or(i64::MAX))
}

/// Value of `error.type`: our reason, else the status. There are few different values.
fn error(status: Option<StatusCode>, reason: Option<Reason>) -> AttributeValue {
    match (reason, status) {
        (Some(reason), _) => AttributeValue::Name(reason.name()),
        (None, Some(status)) => AttributeValue::Text(status.as_str().into()),
        (None, None) => AttributeValue::Name("no_answer"),
    }
}

//! Spans of exchanges, sent out by OTLP. Without `OTEL_EXPORTER_OTLP_ENDPOINT` there are none, and nothing is done for
//! them.

mod context;
mod exporter;
mod otlp;
mod settings;
mod span;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use hyper::header::HeaderMap;
use tokio::sync::mpsc;

pub use self::context::{TRACEPARENT, TRACESTATE, TraceParent, traceparent};
pub use self::exporter::{Exporter, start};
pub use self::settings::{ExporterSettings, SettingFault};
pub use self::span::{Attribute, AttributeValue, Span, SpanIds, SpanKind};

use self::settings::Sampler;
use crate::telemetry::metrics::{Metrics, SpanResult};

/// Begins traces, and takes their spans. One a worker; the exporter ends with the last one.
#[derive(Debug, Clone)]
pub struct Tracer {
    sampler: Sampler,
    spans: mpsc::Sender<Vec<Span>>,
    metrics: Arc<Metrics>,
}

/// What is known of a trace when its exchange begins.
#[derive(Debug, Clone, Copy)]
pub struct TraceStart {
    /// Of the exchange's own span.
    pub ids: SpanIds,
    pub parent: Option<[u8; 8]>,
    /// Its spans are wanted.
    pub sampled: bool,
    pub at: ClockPair,
}

/// One moment by both clocks: the system's may jump, so the rest goes by the other.
#[derive(Debug, Clone, Copy)]
pub struct ClockPair {
    time: SystemTime,
    instant: Instant,
}

impl ClockPair {
    pub fn now() -> Self {
        Self { time: SystemTime::now(), instant: Instant::now() }
    }

    /// Nanoseconds since 1970, of a moment that is not before this one.
    pub fn nanoseconds(&self, then: Instant) -> u64 {
        let time = self.time + then.saturating_duration_since(self.instant);
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }
}

impl Tracer {
    /// Goes on with the caller's trace, or begins one; `None` where the system gives no randomness.
    pub fn begin(&self, headers: &HeaderMap) -> Option<TraceStart> {
        let parent = TraceParent::read(headers);
        let trace_id = match &parent {
            Some(parent) => parent.trace_id,
            None => context::random()?,
        };
        Some(TraceStart {
            ids: SpanIds { trace_id, span_id: context::random()? },
            parent: parent.as_ref().map(|parent| parent.span_id),
            sampled: self.sampler.samples(parent.map(|parent| parent.sampled), &trace_id),
            at: ClockPair::now(),
        })
    }

    /// Hands the spans of an exchange over. Where too many wait already, these are dropped, and counted.
    pub fn send(&self, spans: Vec<Span>) {
        if let Err(refused) = self.spans.try_send(spans) {
            self.metrics.count_spans(SpanResult::Dropped, refused.into_inner().len());
        }
    }
}

/// The id of a span below one that has begun.
pub fn child_ids(ids: &SpanIds) -> Option<SpanIds> {
    Some(SpanIds { trace_id: ids.trace_id, span_id: context::random()? })
}

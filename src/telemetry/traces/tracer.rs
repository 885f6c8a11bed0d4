//! The start of traces, and the way of their spans to the exporter.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use hyper::header::HeaderMap;
use tokio::sync::mpsc;

use super::context::{TraceParent, random};
use super::settings::Sampler;
use super::span::{Span, SpanIds};
use crate::telemetry::metrics::{Metrics, SpanResult};

/// Starts traces, and takes their spans. Each worker has a clone; the exporter ends with the last clone.
#[derive(Debug, Clone)]
pub struct Tracer {
    pub(super) sampler: Sampler,
    pub(super) spans: mpsc::Sender<Vec<Span>>,
    pub(super) metrics: Arc<Metrics>,
}

/// Start of an exchange's trace.
#[derive(Debug, Clone, Copy)]
pub struct TraceStart {
    /// Ids of the exchange's own span.
    pub ids: SpanIds,
    pub parent: Option<[u8; 8]>,
    /// True if the spans are exported.
    pub sampled: bool,
    pub at: ClockPair,
}

/// One moment by both clocks. The wall clock may jump, so later moments of a trace are derived from the monotonic one.
#[derive(Debug, Clone, Copy)]
pub struct ClockPair {
    time: SystemTime,
    instant: Instant,
}

impl ClockPair {
    pub fn now() -> Self {
        Self { time: SystemTime::now(), instant: Instant::now() }
    }

    /// Nanoseconds since 1970 of a moment that is not before this one.
    pub fn nanoseconds(&self, then: Instant) -> u64 {
        let time = self.time + then.saturating_duration_since(self.instant);
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }
}

impl Tracer {
    /// Continues the caller's trace, or starts one; `None` if the system gives no randomness.
    pub fn begin(&self, headers: &HeaderMap) -> Option<TraceStart> {
        let parent = TraceParent::read(headers);
        let trace_id = match &parent {
            Some(parent) => parent.trace_id,
            None => random()?,
        };
        Some(TraceStart {
            ids: SpanIds { trace_id, span_id: random()? },
            parent: parent.as_ref().map(|parent| parent.span_id),
            sampled: self.sampler.samples(parent.map(|parent| parent.sampled), &trace_id),
            at: ClockPair::now(),
        })
    }

    /// Hands the spans of an exchange to the exporter. If too many wait already, these are dropped, and counted.
    pub fn send(&self, spans: Vec<Span>) {
        if let Err(refused) = self.spans.try_send(spans) {
            self.metrics.count_spans(SpanResult::Dropped, refused.into_inner().len());
        }
    }
}

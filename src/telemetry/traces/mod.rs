//! Spans of exchanges, exported by OTLP. Without `OTEL_EXPORTER_OTLP_ENDPOINT` or `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`
//! no span is made, and traces cost nothing.

mod context;
mod exporter;
mod otlp;
mod settings;
mod span;
mod tracer;

pub use self::context::{TRACEPARENT, TRACESTATE, TraceParent, child_ids, traceparent};
pub use self::exporter::{Exporter, start};
pub use self::settings::{ExporterSettings, SettingFault};
pub use self::span::{Attribute, AttributeValue, Span, SpanIds, SpanKind};
pub use self::tracer::{TraceStart, Tracer};

//! Encoding of spans in OTLP: the used part of the messages in opentelemetry/proto/trace/v1/trace.proto.

use prost::{Message, Oneof};

use super::span::{AttributeValue, Span, SpanKind};

/// Encodes a body for `/v1/traces`.
pub(super) fn request(resource: &[(String, String)], spans: &[Span]) -> Vec<u8> {
    let attributes = resource.iter().map(|(key, value)| KeyValue::text(key, value)).collect();
    let scope_spans = ScopeSpans {
        scope: Some(InstrumentationScope {
            name: "dashgate".into(),
            version: env!("CARGO_PKG_VERSION").into(),
        }),
        spans: spans.iter().map(SpanMessage::from).collect(),
    };
    let resource_spans =
        ResourceSpans { resource: Some(Resource { attributes }), scope_spans: vec![scope_spans] };
    ExportRequest { resource_spans: vec![resource_spans] }.encode_to_vec()
}

#[derive(Clone, PartialEq, Message)]
struct ExportRequest {
    #[prost(message, repeated, tag = "1")]
    resource_spans: Vec<ResourceSpans>,
}

#[derive(Clone, PartialEq, Message)]
struct ResourceSpans {
    #[prost(message, optional, tag = "1")]
    resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    scope_spans: Vec<ScopeSpans>,
}

#[derive(Clone, PartialEq, Message)]
struct Resource {
    #[prost(message, repeated, tag = "1")]
    attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct ScopeSpans {
    #[prost(message, optional, tag = "1")]
    scope: Option<InstrumentationScope>,
    #[prost(message, repeated, tag = "2")]
    spans: Vec<SpanMessage>,
}

#[derive(Clone, PartialEq, Message)]
struct InstrumentationScope {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    version: String,
}

#[derive(Clone, PartialEq, Message)]
struct SpanMessage {
    #[prost(bytes = "vec", tag = "1")]
    trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    span_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    parent_span_id: Vec<u8>,
    #[prost(string, tag = "5")]
    name: String,
    #[prost(int32, tag = "6")]
    kind: i32,
    #[prost(fixed64, tag = "7")]
    start_time_unix_nano: u64,
    #[prost(fixed64, tag = "8")]
    end_time_unix_nano: u64,
    #[prost(message, repeated, tag = "9")]
    attributes: Vec<KeyValue>,
    #[prost(message, optional, tag = "15")]
    status: Option<SpanStatus>,
}

#[derive(Clone, PartialEq, Message)]
struct SpanStatus {
    #[prost(int32, tag = "3")]
    code: i32,
}

#[derive(Clone, PartialEq, Message)]
struct KeyValue {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<AnyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct AnyValue {
    #[prost(oneof = "Any", tags = "1, 3, 4")]
    value: Option<Any>,
}

#[derive(Clone, PartialEq, Oneof)]
enum Any {
    #[prost(string, tag = "1")]
    Text(String),
    #[prost(int64, tag = "3")]
    Whole(i64),
    #[prost(double, tag = "4")]
    Double(f64),
}

impl KeyValue {
    fn new(key: &str, value: Any) -> Self {
        Self { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }) }
    }

    fn text(key: &str, value: &str) -> Self {
        Self::new(key, Any::Text(value.to_owned()))
    }
}

impl From<&Span> for SpanMessage {
    fn from(span: &Span) -> Self {
        let attribute = |(key, value): &(&'static str, AttributeValue)| match value {
            AttributeValue::Name(text) => KeyValue::text(key, text),
            AttributeValue::Shared(text) => KeyValue::text(key, text),
            AttributeValue::Text(text) => KeyValue::text(key, text),
            AttributeValue::Whole(number) => KeyValue::new(key, Any::Whole(*number)),
            AttributeValue::Seconds(number) => KeyValue::new(key, Any::Double(*number)),
        };
        Self {
            trace_id: span.ids.trace_id.to_vec(),
            span_id: span.ids.span_id.to_vec(),
            parent_span_id: span.parent.map(|id| id.to_vec()).unwrap_or_default(),
            name: span.name.clone(),
            kind: match span.kind {
                SpanKind::Server => 2,
                SpanKind::Client => 3,
            },
            start_time_unix_nano: span.began,
            end_time_unix_nano: span.ended,
            attributes: span.attributes.iter().map(attribute).collect(),
            status: span.is_error.then_some(SpanStatus { code: ERROR }),
        }
    }
}

const ERROR: i32 = 2;

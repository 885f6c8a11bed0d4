//! One span that waits to be sent.

use std::sync::Arc;

/// Ids of a trace and of a span in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpanIds {
    pub trace_id: [u8; 16],
    pub span_id: [u8; 8],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpanKind {
    Server,
    Client,
}

#[derive(Debug, Clone)]
pub struct Span {
    pub ids: SpanIds,
    pub parent: Option<[u8; 8]>,
    pub kind: SpanKind,
    pub name: String,
    /// Nanoseconds since 1970.
    pub began: u64,
    /// Nanoseconds since 1970.
    pub ended: u64,
    pub attributes: Vec<Attribute>,
    pub is_error: bool,
}

pub type Attribute = (&'static str, AttributeValue);

/// Value of an attribute: never a key, a prompt, a query or a body.
#[derive(Debug, Clone, PartialEq)]
pub enum AttributeValue {
    Name(&'static str),
    Shared(Arc<str>),
    Text(Box<str>),
    Whole(i64),
    Seconds(f64),
}

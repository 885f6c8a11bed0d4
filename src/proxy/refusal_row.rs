//! Rows of the refusal table: how a refusal is reported to the client, and the basic rows from which the table's rows
//! are made.

use hyper::StatusCode;

use crate::telemetry::metrics::Reason;

/// How a refusal is reported to the client.
#[derive(Debug, Clone, Copy)]
pub(super) struct RefusalRow {
    /// The metric's label and the value of `x-dashgate-reason`.
    pub reason: Reason,
    pub status: StatusCode,
    pub native_code: &'static str,
    pub openai_code: &'static str,
    pub openai_type: &'static str,
    /// The connection can't be used any further.
    pub closes: bool,
}

pub(super) const INVALID_KEY: RefusalRow = RefusalRow {
    reason: Reason::UnknownKey,
    status: StatusCode::UNAUTHORIZED,
    native_code: "InvalidApiKey",
    openai_code: "invalid_api_key",
    openai_type: "invalid_request_error",
    closes: false,
};

pub(super) const DENIED: RefusalRow = RefusalRow {
    reason: Reason::NotAllowed,
    status: StatusCode::FORBIDDEN,
    native_code: "AccessDenied",
    openai_code: "access_denied",
    openai_type: "invalid_request_error",
    closes: false,
};

pub(super) const THROTTLED: RefusalRow = RefusalRow {
    reason: Reason::Rate,
    status: StatusCode::TOO_MANY_REQUESTS,
    native_code: "Throttling.RateQuota",
    openai_code: "limit_requests",
    openai_type: "rate_limit_error",
    closes: false,
};

pub(super) const CROWDED: RefusalRow = RefusalRow {
    reason: Reason::Concurrency,
    native_code: "Throttling.Concurrency",
    openai_code: "limit_concurrency",
    ..THROTTLED
};

pub(super) const BAD_REQUEST: RefusalRow = RefusalRow {
    reason: Reason::BadRequest,
    status: StatusCode::BAD_REQUEST,
    native_code: "InvalidParameter",
    openai_code: "invalid_parameter",
    openai_type: "invalid_request_error",
    closes: false,
};

pub(super) const CONFLICT: RefusalRow = RefusalRow {
    reason: Reason::IdempotencyRunning,
    status: StatusCode::CONFLICT,
    native_code: "Conflict",
    openai_code: "conflict",
    ..BAD_REQUEST
};

pub(super) const UNAVAILABLE: RefusalRow = RefusalRow {
    reason: Reason::UpstreamUnreachable,
    status: StatusCode::SERVICE_UNAVAILABLE,
    native_code: "ServiceUnavailable",
    openai_code: "service_unavailable",
    openai_type: "server_error",
    closes: false,
};

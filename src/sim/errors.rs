//! Error answers of DashScope: statuses, codes and the three envelopes.

use std::str::FromStr;

use serde_json::{Value, json};

/// An error answer before it is put into the envelope of a surface.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ErrorAnswer {
    pub(super) status: u16,
    pub(super) code: String,
    pub(super) message: String,
}

impl ErrorAnswer {
    pub(super) fn new(cause: ErrorCause, message: impl Into<String>) -> ErrorAnswer {
        let (status, code, _) = cause.row();
        ErrorAnswer { status, code: code.into(), message: message.into() }
    }

    pub(super) fn parameter(message: impl Into<String>) -> ErrorAnswer {
        ErrorAnswer::new(ErrorCause::InvalidParameter, message)
    }

    pub(super) fn throttled(throttling: ThrottlingKind) -> ErrorAnswer {
        let (status, code, _, message) = throttling.row();
        ErrorAnswer { status, code: code.into(), message: message.into() }
    }

    /// The flat native envelope.
    pub(super) fn native(&self, request_id: &str) -> Value {
        json!({"code": self.code, "message": self.message, "request_id": request_id})
    }

    /// The envelope of the OpenAI-compatible surfaces, which have other names for the codes.
    pub(super) fn compatible(&self, request_id: &str) -> Value {
        let message = if self.code == "InvalidApiKey" && self.message.starts_with("Invalid") {
            "Incorrect API key provided. "
        } else {
            self.message.as_str()
        };
        json!({
            "error": {"message": message, "type": self.kind(), "param": null, "code": self.compatible_code()},
            "request_id": request_id,
        })
    }

    /// The envelope of the Anthropic-compatible surface.
    pub(super) fn anthropic(&self, request_id: &str) -> Value {
        json!({
            "type": "error",
            "error": {"type": self.kind(), "message": self.message},
            "request_id": request_id,
        })
    }

    fn kind(&self) -> &'static str {
        match self.status {
            429 => "rate_limit_error",
            500.. => "internal_server_error",
            _ => "invalid_request_error",
        }
    }

    fn compatible_code(&self) -> String {
        let cause = ErrorCause::ALL.iter().map(|cause| cause.row()).find(|row| row.1 == self.code);
        let throttling = ThrottlingKind::ALL.iter().map(|kind| kind.row()).find(|row| row.1 == self.code);
        match (cause, throttling) {
            (Some(row), _) => row.2.into(),
            (None, Some(row)) => row.2.into(),
            (None, None) => self.code.clone(),
        }
    }
}

/// Reason of an error answer; [`ErrorCause::row`] is the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ErrorCause {
    InvalidApiKey,
    InvalidParameter,
    EmptyModel,
    EmptyInput,
    TooLarge,
    DownloadFailed,
    UnsupportedOperation,
    Arrearage,
    AccessDenied,
    ModelNotFound,
    NotFound,
    ServiceUnavailable,
}

impl ErrorCause {
    const ALL: [ErrorCause; 12] = [
        ErrorCause::InvalidApiKey,
        ErrorCause::InvalidParameter,
        ErrorCause::EmptyModel,
        ErrorCause::EmptyInput,
        ErrorCause::TooLarge,
        ErrorCause::DownloadFailed,
        ErrorCause::UnsupportedOperation,
        ErrorCause::Arrearage,
        ErrorCause::AccessDenied,
        ErrorCause::ModelNotFound,
        ErrorCause::NotFound,
        ErrorCause::ServiceUnavailable,
    ];

    /// Status, native code, compatible code.
    fn row(self) -> (u16, &'static str, &'static str) {
        match self {
            ErrorCause::InvalidApiKey => (401, "InvalidApiKey", "invalid_api_key"),
            ErrorCause::InvalidParameter => (400, "InvalidParameter", "invalid_parameter_error"),
            ErrorCause::EmptyModel => (400, "BadRequest.EmptyModel", "invalid_parameter_error"),
            ErrorCause::EmptyInput => (400, "BadRequest.EmptyInput", "invalid_parameter_error"),
            ErrorCause::TooLarge => (413, "BadRequest.TooLarge", "request_too_large"),
            ErrorCause::DownloadFailed => (400, "InvalidFile.DownloadFailed", "invalid_file"),
            ErrorCause::UnsupportedOperation => (400, "UnsupportedOperation", "unsupported_operation"),
            ErrorCause::Arrearage => (400, "Arrearage", "Arrearage"),
            ErrorCause::AccessDenied => (403, "AccessDenied", "access_denied"),
            ErrorCause::ModelNotFound => (404, "ModelNotFound", "model_not_found"),
            ErrorCause::NotFound => (404, "NotFound", "not_found"),
            ErrorCause::ServiceUnavailable => (503, "ServiceUnavailable", "service_unavailable"),
        }
    }
}

/// The kinds of 429.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThrottlingKind {
    General,
    RateQuota,
    AllocationQuota,
    BurstRate,
    Concurrency,
    CommodityNotPurchased,
    PrepaidBillOverdue,
    PostpaidBillOverdue,
}

impl ThrottlingKind {
    pub const ALL: [ThrottlingKind; 8] = [
        ThrottlingKind::General,
        ThrottlingKind::RateQuota,
        ThrottlingKind::AllocationQuota,
        ThrottlingKind::BurstRate,
        ThrottlingKind::Concurrency,
        ThrottlingKind::CommodityNotPurchased,
        ThrottlingKind::PrepaidBillOverdue,
        ThrottlingKind::PostpaidBillOverdue,
    ];

    /// Status, native code, compatible code, message.
    fn row(self) -> (u16, &'static str, &'static str, &'static str) {
        match self {
            ThrottlingKind::General => (429, "Throttling", "throttling", "Requests throttling triggered."),
            ThrottlingKind::RateQuota => (
                429,
                "Throttling.RateQuota",
                "limit_requests",
                "Requests rate limit exceeded, please try again later.",
            ),
            ThrottlingKind::AllocationQuota => (
                429,
                "Throttling.AllocationQuota",
                "insufficient_quota",
                "Allocated quota exceeded, please increase your quota limit.",
            ),
            ThrottlingKind::BurstRate => (
                429,
                "Throttling.BurstRate",
                "limit_burst_rate",
                "Request rate increased too quickly. Please slow down.",
            ),
            ThrottlingKind::Concurrency => {
                (429, "Throttling.Concurrency", "limit_concurrency", "Concurrency limit exceeded.")
            }
            ThrottlingKind::CommodityNotPurchased => {
                (429, "CommodityNotPurchased", "commodity_not_purchased", "Commodity has not purchased yet.")
            }
            ThrottlingKind::PrepaidBillOverdue => {
                (429, "PrepaidBillOverdue", "prepaid_bill_overdue", "The prepaid bill is overdue.")
            }
            ThrottlingKind::PostpaidBillOverdue => {
                (429, "PostpaidBillOverdue", "postpaid_bill_overdue", "The postpaid bill is overdue.")
            }
        }
    }

    pub(super) fn native_code(self) -> &'static str {
        self.row().1
    }
}

impl FromStr for ThrottlingKind {
    type Err = String;

    /// The native code, or its last part in any case: `Throttling.RateQuota`, `rate-quota`.
    fn from_str(text: &str) -> Result<ThrottlingKind, String> {
        let plain = |code: &str| code.to_ascii_lowercase().replace("throttling.", "").replace(['-', '_'], "");
        ThrottlingKind::ALL.into_iter().find(|kind| plain(kind.native_code()) == plain(text)).ok_or_else(
            || {
                let known: Vec<&str> = ThrottlingKind::ALL.iter().map(|kind| kind.native_code()).collect();
                format!("no throttling is called {text:?}; there are {}", known.join(", "))
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn throttling_is_named_by_its_code_or_by_the_last_part() {
        assert_eq!("rate-quota".parse(), Ok(ThrottlingKind::RateQuota));
        assert_eq!("Throttling.BurstRate".parse(), Ok(ThrottlingKind::BurstRate));
        assert_eq!("Throttling".parse(), Ok(ThrottlingKind::General));
        assert!("fast".parse::<ThrottlingKind>().is_err());
    }

    #[test]
    fn each_surface_has_its_envelope() {
        let refusal = ErrorAnswer::new(ErrorCause::InvalidApiKey, "Invalid API-key provided.");
        assert_eq!(refusal.native("r")["code"], "InvalidApiKey");
        assert_eq!(refusal.compatible("r")["error"]["code"], "invalid_api_key");
        assert_eq!(refusal.compatible("r")["error"]["message"], "Incorrect API key provided. ");
        assert_eq!(refusal.anthropic("r")["type"], "error");
    }
}

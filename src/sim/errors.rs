//! What DashScope says when it refuses: statuses, codes and the three envelopes.

use std::str::FromStr;

use serde_json::{Value, json};

/// A refused request.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) code: String,
    pub(super) message: String,
}

impl Refusal {
    pub(super) fn new(cause: Cause, message: impl Into<String>) -> Refusal {
        let (status, code, _) = cause.row();
        Refusal { status, code: code.into(), message: message.into() }
    }

    pub(super) fn parameter(message: impl Into<String>) -> Refusal {
        Refusal::new(Cause::InvalidParameter, message)
    }

    pub(super) fn throttled(throttling: Throttling) -> Refusal {
        let (status, code, _, message) = throttling.row();
        Refusal { status, code: code.into(), message: message.into() }
    }

    /// The flat native envelope.
    pub(super) fn native(&self, request_id: &str) -> Value {
        json!({"code": self.code, "message": self.message, "request_id": request_id})
    }

    /// The envelope of the OpenAI-compatible surfaces, with their names of the codes.
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
        let cause = Cause::ALL.iter().map(|cause| cause.row()).find(|row| row.1 == self.code);
        let throttling = Throttling::ALL.iter().map(|kind| kind.row()).find(|row| row.1 == self.code);
        match (cause, throttling) {
            (Some(row), _) => row.2.into(),
            (None, Some(row)) => row.2.into(),
            (None, None) => self.code.clone(),
        }
    }
}

/// Why a request is refused; [`Cause::row`] is the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
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

impl Cause {
    const ALL: [Cause; 12] = [
        Cause::InvalidApiKey,
        Cause::InvalidParameter,
        Cause::EmptyModel,
        Cause::EmptyInput,
        Cause::TooLarge,
        Cause::DownloadFailed,
        Cause::UnsupportedOperation,
        Cause::Arrearage,
        Cause::AccessDenied,
        Cause::ModelNotFound,
        Cause::NotFound,
        Cause::ServiceUnavailable,
    ];

    /// Status, native code, compatible code.
    fn row(self) -> (u16, &'static str, &'static str) {
        match self {
            Cause::InvalidApiKey => (401, "InvalidApiKey", "invalid_api_key"),
            Cause::InvalidParameter => (400, "InvalidParameter", "invalid_parameter_error"),
            Cause::EmptyModel => (400, "BadRequest.EmptyModel", "invalid_parameter_error"),
            Cause::EmptyInput => (400, "BadRequest.EmptyInput", "invalid_parameter_error"),
            Cause::TooLarge => (413, "BadRequest.TooLarge", "request_too_large"),
            Cause::DownloadFailed => (400, "InvalidFile.DownloadFailed", "invalid_file"),
            Cause::UnsupportedOperation => (400, "UnsupportedOperation", "unsupported_operation"),
            Cause::Arrearage => (400, "Arrearage", "Arrearage"),
            Cause::AccessDenied => (403, "AccessDenied", "access_denied"),
            Cause::ModelNotFound => (404, "ModelNotFound", "model_not_found"),
            Cause::NotFound => (404, "NotFound", "not_found"),
            Cause::ServiceUnavailable => (503, "ServiceUnavailable", "service_unavailable"),
        }
    }
}

/// The kinds of 429.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Throttling {
    General,
    RateQuota,
    AllocationQuota,
    BurstRate,
    Concurrency,
    CommodityNotPurchased,
    PrepaidBillOverdue,
    PostpaidBillOverdue,
}

impl Throttling {
    pub const ALL: [Throttling; 8] = [
        Throttling::General,
        Throttling::RateQuota,
        Throttling::AllocationQuota,
        Throttling::BurstRate,
        Throttling::Concurrency,
        Throttling::CommodityNotPurchased,
        Throttling::PrepaidBillOverdue,
        Throttling::PostpaidBillOverdue,
    ];

    /// Status, native code, compatible code, message.
    fn row(self) -> (u16, &'static str, &'static str, &'static str) {
        match self {
            Throttling::General => (429, "Throttling", "throttling", "Requests throttling triggered."),
            Throttling::RateQuota => (
                429,
                "Throttling.RateQuota",
                "limit_requests",
                "Requests rate limit exceeded, please try again later.",
            ),
            Throttling::AllocationQuota => (
                429,
                "Throttling.AllocationQuota",
                "insufficient_quota",
                "Allocated quota exceeded, please increase your quota limit.",
            ),
            Throttling::BurstRate => (
                429,
                "Throttling.BurstRate",
                "limit_burst_rate",
                "Request rate increased too quickly. Please slow down.",
            ),
            Throttling::Concurrency => {
                (429, "Throttling.Concurrency", "limit_concurrency", "Concurrency limit exceeded.")
            }
            Throttling::CommodityNotPurchased => {
                (429, "CommodityNotPurchased", "commodity_not_purchased", "Commodity has not purchased yet.")
            }
            Throttling::PrepaidBillOverdue => {
                (429, "PrepaidBillOverdue", "prepaid_bill_overdue", "The prepaid bill is overdue.")
            }
            Throttling::PostpaidBillOverdue => {
                (429, "PostpaidBillOverdue", "postpaid_bill_overdue", "The postpaid bill is overdue.")
            }
        }
    }

    pub(super) fn native_code(self) -> &'static str {
        self.row().1
    }
}

impl FromStr for Throttling {
    type Err = String;

    /// The native code, or its last part in any case: `Throttling.RateQuota`, `rate-quota`.
    fn from_str(text: &str) -> Result<Throttling, String> {
        let plain = |code: &str| code.to_ascii_lowercase().replace("throttling.", "").replace(['-', '_'], "");
        Throttling::ALL.into_iter().find(|kind| plain(kind.native_code()) == plain(text)).ok_or_else(|| {
            let known: Vec<&str> = Throttling::ALL.iter().map(|kind| kind.native_code()).collect();
            format!("no throttling is called {text:?}; there are {}", known.join(", "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn throttling_is_named_by_its_code_or_by_the_last_part() {
        assert_eq!("rate-quota".parse(), Ok(Throttling::RateQuota));
        assert_eq!("Throttling.BurstRate".parse(), Ok(Throttling::BurstRate));
        assert_eq!("Throttling".parse(), Ok(Throttling::General));
        assert!("fast".parse::<Throttling>().is_err());
    }

    #[test]
    fn each_surface_has_its_envelope() {
        let refusal = Refusal::new(Cause::InvalidApiKey, "Invalid API-key provided.");
        assert_eq!(refusal.native("r")["code"], "InvalidApiKey");
        assert_eq!(refusal.compatible("r")["error"]["code"], "invalid_api_key");
        assert_eq!(refusal.compatible("r")["error"]["message"], "Incorrect API key provided. ");
        assert_eq!(refusal.anthropic("r")["type"], "error");
    }
}

//! DashScope's errors in OpenAI's words: each code has its alias there, and the type follows from the status.

use std::borrow::Cow;

use crate::dashscope::envelope::UpstreamError;

/// An error of the upstream, for OpenAI's envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenAiError {
    pub kind: &'static str,
    pub code: String,
    pub message: String,
}

impl OpenAiError {
    /// Reads an error in either of DashScope's envelopes. Code and message of an unreadable one follow from the status.
    pub fn read(status: u16, body: &[u8]) -> Self {
        let UpstreamError { code, message, .. } = UpstreamError::read(body);
        let kind = match status {
            429 => "rate_limit_error",
            401 => "authentication_error",
            500.. => "server_error",
            _ => "invalid_request_error",
        };
        let code = code.as_deref().map_or_else(|| kind.to_owned(), alias);
        let message = message.map_or_else(|| format!("The upstream answered {status}."), Cow::into_owned);
        Self { kind, code, message }
    }
}

/// DashScope's code in the spelling of its compatible surface.
fn alias(code: &str) -> String {
    if let Some((_, alias)) = ALIASES.iter().find(|(native, _)| *native == code) {
        return (*alias).to_owned();
    }
    let mut snake = String::with_capacity(code.len() + 4);
    let mut after_small = false;
    for letter in code.chars() {
        if letter.is_ascii_uppercase() && after_small {
            snake.push('_');
        }
        after_small = letter.is_ascii_lowercase() || letter.is_ascii_digit();
        snake.push(if letter == '.' { '_' } else { letter.to_ascii_lowercase() });
    }
    snake
}

/// Codes whose alias is not only another spelling.
const ALIASES: [(&str, &str); 7] = [
    ("Throttling", "limit_requests"),
    ("Throttling.RateQuota", "limit_requests"),
    ("Throttling.BurstRate", "limit_burst_rate"),
    ("Throttling.Concurrency", "limit_concurrency"),
    ("Throttling.AllocationQuota", "insufficient_quota"),
    ("BadRequest.TooLarge", "request_too_large"),
    ("Model.AccessDenied", "model_access_denied"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_has_type_code_and_message() {
        for (status, body, kind, code, message) in [
            (
                400,
                r#"{"code":"InvalidParameter","message":"m"}"#,
                "invalid_request_error",
                "invalid_parameter",
                "m",
            ),
            (
                400,
                r#"{"code":"DataInspectionFailed","message":"m"}"#,
                "invalid_request_error",
                "data_inspection_failed",
                "m",
            ),
            (400, r#"{"code":"Arrearage","message":"m"}"#, "invalid_request_error", "arrearage", "m"),
            (
                404,
                r#"{"code":"ModelNotFound","message":"m"}"#,
                "invalid_request_error",
                "model_not_found",
                "m",
            ),
            (
                429,
                r#"{"code":"Throttling.RateQuota","message":"m"}"#,
                "rate_limit_error",
                "limit_requests",
                "m",
            ),
            (
                429,
                r#"{"error":{"code":"limit_burst_rate","message":"m"}}"#,
                "rate_limit_error",
                "limit_burst_rate",
                "m",
            ),
            (
                500,
                r#"{"code":"InternalError.Algo","message":"m"}"#,
                "server_error",
                "internal_error_algo",
                "m",
            ),
            (
                401,
                r#"{"code":"InvalidApiKey","message":"m"}"#,
                "authentication_error",
                "invalid_api_key",
                "m",
            ),
            (503, "<html>", "server_error", "server_error", "The upstream answered 503."),
        ] {
            let expected = OpenAiError { kind, code: code.into(), message: message.into() };
            assert_eq!(OpenAiError::read(status, body.as_bytes()), expected, "{body}");
        }
    }
}

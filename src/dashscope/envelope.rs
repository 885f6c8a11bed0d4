//! The JSON envelopes of errors on DashScope's surfaces: native, OpenAI's and Anthropic's.

use std::borrow::Cow;

use bytes::Bytes;
use hyper::StatusCode;
use serde::{Deserialize, Serialize};

use super::operation::Surface;

/// One error in the words of all envelopes.
#[derive(Debug, Clone, Copy)]
pub struct ErrorBody<'a> {
    /// The answer's status. Anthropic's type follows from it.
    pub status: StatusCode,
    /// The code as native paths spell it: `InvalidApiKey`.
    pub native_code: &'a str,
    /// The code as compatible paths spell it: `invalid_api_key`.
    pub openai_code: &'a str,
    pub openai_type: &'a str,
    /// The field at fault. Only OpenAI's envelope has it.
    pub param: Option<&'a str>,
    pub message: &'a str,
    pub request_id: &'a str,
}

/// The body of an error, as JSON.
pub fn write(surface: Surface, error: &ErrorBody<'_>) -> Bytes {
    let json = match surface {
        Surface::Native => serde_json::to_vec(&NativeEnvelope {
            code: error.native_code,
            message: error.message,
            request_id: error.request_id,
        }),
        Surface::Compatible => serde_json::to_vec(&CompatibleEnvelope {
            error: CompatibleError {
                message: error.message,
                kind: error.openai_type,
                param: error.param,
                code: error.openai_code,
            },
            request_id: error.request_id,
        }),
        Surface::Anthropic => serde_json::to_vec(&AnthropicEnvelope {
            kind: "error",
            error: AnthropicError { kind: anthropic_type(error.status), message: error.message },
            request_id: error.request_id,
        }),
    };
    // Serialising strings into memory has no way to fail.
    json.map(Bytes::from).unwrap_or_default()
}

/// The type by which Anthropic's clients tell errors of this status.
const fn anthropic_type(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        408 | 504 => "timeout_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        503 => "overloaded_error",
        500.. => "api_error",
        _ => "invalid_request_error",
    }
}

/// An error of the upstream, read from either envelope. A field that the body lacks is `None`.
#[derive(Debug, Default, Deserialize)]
pub struct UpstreamError<'a> {
    #[serde(borrow, default)]
    pub code: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub message: Option<Cow<'a, str>>,
    /// The error itself, in the compatible envelope.
    #[serde(borrow, default)]
    error: Option<Box<UpstreamError<'a>>>,
}

impl<'a> UpstreamError<'a> {
    pub fn read(body: &'a [u8]) -> Self {
        let mut read: Self = serde_json::from_slice(body).unwrap_or_default();
        read.error.take().map_or(read, |inner| *inner)
    }
}

#[derive(Serialize)]
struct NativeEnvelope<'a> {
    code: &'a str,
    message: &'a str,
    request_id: &'a str,
}

#[derive(Serialize)]
struct CompatibleEnvelope<'a> {
    error: CompatibleError<'a>,
    request_id: &'a str,
}

#[derive(Serialize)]
struct CompatibleError<'a> {
    message: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    param: Option<&'a str>,
    code: &'a str,
}

#[derive(Serialize)]
struct AnthropicEnvelope<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    error: AnthropicError<'a>,
    request_id: &'a str,
}

#[derive(Serialize)]
struct AnthropicError<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    message: &'a str,
}

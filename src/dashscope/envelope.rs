//! The two shapes in which DashScope's surfaces say that something went wrong.

use bytes::Bytes;
use serde::Serialize;

use super::operation::Surface;

/// One error in the words of both shapes.
#[derive(Debug, Clone, Copy)]
pub struct Fault<'a> {
    /// As native paths spell it: `InvalidApiKey`.
    pub native_code: &'a str,
    /// As the compatible paths spell it: `invalid_api_key`.
    pub openai_code: &'a str,
    pub openai_type: &'a str,
    /// The field that is at fault, of which only OpenAI's shape tells.
    pub param: Option<&'a str>,
    pub message: &'a str,
    pub request_id: &'a str,
}

/// The body of an error, as JSON.
pub fn write(surface: Surface, fault: &Fault<'_>) -> Bytes {
    let json = match surface {
        Surface::Native => serde_json::to_vec(&Native {
            code: fault.native_code,
            message: fault.message,
            request_id: fault.request_id,
        }),
        Surface::Compatible => serde_json::to_vec(&Compatible {
            error: CompatibleError {
                message: fault.message,
                kind: fault.openai_type,
                param: fault.param,
                code: fault.openai_code,
            },
            request_id: fault.request_id,
        }),
    };
    // Serialising strings into memory has no way to fail.
    json.map(Bytes::from).unwrap_or_default()
}

#[derive(Serialize)]
struct Native<'a> {
    code: &'a str,
    message: &'a str,
    request_id: &'a str,
}

#[derive(Serialize)]
struct Compatible<'a> {
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

//! Classification of an answer: what it tells of the key and the account that the request was sent with.

use hyper::Response;
use hyper::header::{CONTENT_TYPE, HeaderMap};

use crate::dashscope::error_code;
use crate::dashscope::refusal::{self, RefusalCause};
use crate::upstream::{self, ANSWER_BYTES, Download};

/// News of key and account in an answer.
pub(super) struct Classified {
    /// The cause of a refusal, if it lies with key or account.
    pub cause: Option<RefusalCause>,
    /// DashScope took the key.
    pub takes_key: bool,
    /// The code of an error, if it can be shown.
    pub code: Option<Box<str>>,
}

/// Classifies an answer. Only an error in JSON or in an event stream is read for it; otherwise the status decides.
pub(super) async fn classify(response: &mut Response<Download>) -> Classified {
    let status = response.status();
    let is_error = status.is_client_error() || status.is_server_error();
    let is_told = is_error && tells_errors(response.headers());
    let text = if is_told { upstream::read_ahead(response, ANSWER_BYTES).await.ok().flatten() } else { None };
    let (status, text) = (status.as_u16(), text.as_deref());
    let code = text.and_then(refusal::code);
    Classified {
        cause: refusal::cause(status, text),
        takes_key: refusal::takes_key(status, text),
        code: code.as_deref().and_then(error_code::shown).map(Box::from),
    }
}

/// True for the content types of DashScope's errors.
fn tells_errors(headers: &HeaderMap) -> bool {
    let Some(kind) = headers.get(CONTENT_TYPE) else { return false };
    let essence = kind.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    ERROR_TYPES.iter().any(|known| essence.eq_ignore_ascii_case(known.as_bytes()))
}

const ERROR_TYPES: [&str; 2] = ["application/json", "text/event-stream"];

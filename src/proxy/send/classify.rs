//! Classification of an error answer: the fault of the key or the account that the request was sent with.

use hyper::Response;
use hyper::header::{CONTENT_TYPE, HeaderMap};

use crate::dashscope::refusal::{self, RefusalCause};
use crate::upstream::{self, ANSWER_BYTES, Download};

/// The cause of a refusal, if it lies with key or account. Only a JSON error is read for it; otherwise the status
/// decides.
pub(super) async fn classify(response: &mut Response<Download>) -> Option<RefusalCause> {
    let status = response.status();
    if !status.is_client_error() {
        return None;
    }
    let is_json = is_json(response.headers());
    let text = if is_json { upstream::read_ahead(response, ANSWER_BYTES).await.ok().flatten() } else { None };
    refusal::cause(status.as_u16(), text.as_deref())
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).map(|value| value.as_bytes());
    let essence =
        |kind: &[u8]| kind.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii().to_owned();
    kind.is_some_and(|kind| essence(kind).eq_ignore_ascii_case(b"application/json"))
}

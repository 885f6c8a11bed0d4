//! On the way back: what an error answer says of the key and the account that it came for.

use bytes::Bytes;
use hyper::Response;
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap};

use crate::dashscope::coding;
use crate::dashscope::refusal::{self, RefusalCause};
use crate::upstream::Download;

/// The cause of a refusal, if it lies with key or account. Only a JSON error is read for it, as a copy;
/// of what can't be read, the status decides.
pub(in crate::proxy) async fn classify(response: &mut Response<Download>) -> Option<RefusalCause> {
    let status = response.status();
    if !status.is_client_error() {
        return None;
    }
    let text = if is_json(response.headers()) { plain(response, MOST_BYTES).await } else { None };
    refusal::cause(status.as_u16(), text.as_deref())
}

/// A copy of the body without its content coding, if it is not larger.
pub(in crate::proxy) async fn plain(response: &mut Response<Download>, most_bytes: usize) -> Option<Bytes> {
    let coding = response.headers().get(CONTENT_ENCODING).cloned();
    let frames = response.body_mut().peek(most_bytes).await?;
    coding::decode(&frames, coding.as_ref().map(|coding| coding.as_bytes()))
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).map(|value| value.as_bytes());
    let essence =
        |kind: &[u8]| kind.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii().to_owned();
    kind.is_some_and(|kind| essence(kind).eq_ignore_ascii_case(b"application/json"))
}

pub(in crate::proxy) const MOST_BYTES: usize = 64 * 1024;

//! The stand-in for OSS: takes uploads under a policy, serves results under a signature.

use std::time::{Duration, SystemTime};

use hyper::Method;
use hyper::header::AUTHORIZATION;
use uuid::Uuid;

use super::call::SimulatedCall;
use super::form::PostedForm;
use super::media::ResultMedium;
use super::oss_error::OssError;
use super::reply::{ReplyPayload, SimulatedReply};
use super::signature::{ACCESS_KEY_ID, SigningSecret, text_to_sign};
use super::state::SimulatorState;

pub(super) fn answer(state: &SimulatorState, call: &SimulatedCall) -> SimulatedReply {
    let request_id = Uuid::new_v4().simple().to_string()[..24].to_ascii_uppercase();
    let answered = if let Some(filler) = call.filler() {
        Ok(filler)
    } else if call.headers.contains_key(AUTHORIZATION) {
        Err(OssError::AuthorizationToo)
    } else if call.method == Method::POST {
        upload(state, call)
    } else if call.method == Method::GET || call.method == Method::HEAD {
        download(state, call)
    } else {
        Err(OssError::Method)
    };
    let reply = answered.unwrap_or_else(|error| error.reply(&request_id));
    let mut reply = reply.with("server", "AliyunOSS").with("x-oss-request-id", &request_id);
    if call.method == Method::HEAD {
        let length = reply.payload.length().unwrap_or_default().to_string();
        reply = reply.with("content-length", &length);
        reply.payload = ReplyPayload::Full("".into());
    }
    reply
}

fn upload(state: &SimulatorState, call: &SimulatedCall) -> Result<SimulatedReply, OssError> {
    let content_type = call.header("content-type").unwrap_or_default();
    let form = PostedForm::read(content_type, &call.body).ok_or(OssError::MalformedForm("no form"))?;
    let upload = state.uploads.lock().store(&form, &state.secret, call.now)?;
    let status = form.field("success_action_status").and_then(|status| status.parse().ok()).unwrap_or(204);
    let tag = format!("\"{}\"", &call.body.sha256[..32].to_ascii_uppercase());
    tracing::debug!(key = upload.key, length = upload.length, "uploaded");
    Ok(SimulatedReply::empty(status).with("etag", &tag))
}

fn download(state: &SimulatorState, call: &SimulatedCall) -> Result<SimulatedReply, OssError> {
    let name = match call.path().as_slice() {
        ["dashscope-result", name] => *name,
        _ => return Err(OssError::NoSuchKey),
    };
    check_url(&state.secret, call, name)?;
    let medium = ResultMedium::of(name).ok_or(OssError::NoSuchKey)?;
    let content = medium.content();
    let tag = format!("\"{:032X}\"", content.len());
    let total = content.len();
    if call.header("if-none-match").is_some_and(|known| known == tag) {
        return Ok(SimulatedReply::empty(304).with("etag", &tag));
    }
    let reply = match call.header("range").and_then(|range| byte_range(range, total)) {
        None => SimulatedReply::new(200, medium.content_type(), content),
        Some(None) => return Err(OssError::Range),
        Some(Some((first, last))) => {
            SimulatedReply::new(206, medium.content_type(), content.slice(first..=last))
                .with("content-range", &format!("bytes {first}-{last}/{total}"))
        }
    };
    Ok(reply
        .with("accept-ranges", "bytes")
        .with("etag", &tag)
        .with("last-modified", "Sat, 01 Nov 2025 00:00:00 GMT")
        .with("x-oss-object-type", "Normal"))
}

fn check_url(secret: &SigningSecret, call: &SimulatedCall, name: &str) -> Result<(), OssError> {
    let parameter = |name| call.parameter(name).ok_or(OssError::MissingCredentials);
    let (expires, id, signature) =
        (parameter("Expires")?, parameter("OSSAccessKeyId")?, parameter("Signature")?);
    if id != ACCESS_KEY_ID {
        return Err(OssError::AccessKeyId);
    }
    if secret.sign(&text_to_sign(name, expires)) != signature {
        return Err(OssError::Signature);
    }
    let end = expires.parse().map(|seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
    if end.is_ok_and(|end| call.now < end) { Ok(()) } else { Err(OssError::UrlExpired) }
}

/// `None`: no range of a known form, so the whole object is served. `Some(None)`: a range beyond the end of the object.
fn byte_range(value: &str, total: usize) -> Option<Option<(usize, usize)>> {
    let (first, last) = value.strip_prefix("bytes=")?.split_once('-')?;
    let (first, last) = if first.is_empty() {
        (total.saturating_sub(last.parse().ok()?), total - 1)
    } else {
        let last = if last.is_empty() { total - 1 } else { last.parse().ok()? };
        (first.parse().ok()?, last.min(total - 1))
    };
    Some((first <= last).then_some((first, last)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_bytes_from_to() {
        assert_eq!(byte_range("bytes=0-9", 100), Some(Some((0, 9))));
        assert_eq!(byte_range("bytes=90-", 100), Some(Some((90, 99))));
        assert_eq!(byte_range("bytes=-10", 100), Some(Some((90, 99))));
        assert_eq!(byte_range("bytes=0-900", 100), Some(Some((0, 99))));
        assert_eq!(byte_range("bytes=100-", 100), Some(None));
        assert_eq!(byte_range("bytes=0-1,3-4", 100), None);
        assert_eq!(byte_range("lines=1-2", 100), None);
    }
}

//! The stand-in for OSS: takes uploads under a policy, serves results under a signature.

use std::time::{Duration, SystemTime};

use hyper::Method;
use hyper::header::AUTHORIZATION;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use uuid::Uuid;

use super::call::SimulatedCall;
use super::form::PostedForm;
use super::media::ResultMedium;
use super::reply::{ReplyPayload, SimulatedReply};
use super::signature::{ACCESS_KEY_ID, SigningSecret};
use super::state::SimulatorState;

/// An error answer of OSS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OssError {
    MalformedForm(&'static str),
    MissingCredentials,
    AuthorizationToo,
    AccessKeyId,
    Signature,
    UrlExpired,
    PolicyExpired,
    /// The policy condition that the form does not meet.
    Policy(&'static str),
    TooLarge,
    Exists,
    NoSuchKey,
    Range,
    Method,
}

impl OssError {
    fn row(self) -> (u16, &'static str, String) {
        match self {
            OssError::MalformedForm(why) => (
                400,
                "MalformedPOSTRequest",
                format!("The body of your POST request is not well-formed multipart/form-data: {why}."),
            ),
            OssError::MissingCredentials => (403, "AccessDenied", "Anonymous access is forbidden.".into()),
            OssError::AuthorizationToo => (
                403,
                "AccessDenied",
                "The request is signed twice: by its URL or form and by an Authorization header.".into(),
            ),
            OssError::AccessKeyId => {
                (403, "InvalidAccessKeyId", "The OSS Access Key Id you provided does not exist.".into())
            }
            OssError::Signature => (
                403,
                "SignatureDoesNotMatch",
                "The request signature we calculated does not match the signature you provided.".into(),
            ),
            OssError::UrlExpired => (403, "AccessDenied", "Request has expired.".into()),
            OssError::PolicyExpired => {
                (403, "AccessDenied", "Invalid according to Policy: Policy expired.".into())
            }
            OssError::Policy(condition) => (
                403,
                "AccessDenied",
                format!("Invalid according to Policy: Policy Condition failed: [\"{condition}\"]"),
            ),
            OssError::TooLarge => {
                (400, "EntityTooLarge", "Your proposed upload exceeds the maximum allowed size.".into())
            }
            OssError::Exists => (
                409,
                "FileAlreadyExists",
                "The object you specified already exists and can not be overwritten.".into(),
            ),
            OssError::NoSuchKey => (404, "NoSuchKey", "The specified key does not exist.".into()),
            OssError::Range => (416, "InvalidRange", "The requested range cannot be satisfied.".into()),
            OssError::Method => {
                (405, "MethodNotAllowed", "The specified method is not allowed against this resource.".into())
            }
        }
    }

    fn reply(self, request_id: &str) -> SimulatedReply {
        let (status, code, message) = self.row();
        let message = message.replace('&', "&amp;").replace('<', "&lt;");
        let xml = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error>\n  <Code>{code}</Code>\n  \
             <Message>{message}</Message>\n  <RequestId>{request_id}</RequestId>\n  \
             <HostId>dashscope-result-sim</HostId>\n</Error>\n"
        );
        SimulatedReply::new(status, "application/xml", xml)
    }
}

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
    if secret.sign(&to_sign(name, expires)) != signature {
        return Err(OssError::Signature);
    }
    let end = expires.parse().map(|seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
    if end.is_ok_and(|end| call.now < end) { Ok(()) } else { Err(OssError::UrlExpired) }
}

pub(super) fn signed_url(secret: &SigningSecret, base: &str, name: &str, until: SystemTime) -> String {
    let expires = until.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs().to_string();
    let signature = secret.sign(&to_sign(name, &expires));
    let signature = utf8_percent_encode(&signature, NON_ALPHANUMERIC);
    format!(
        "{base}/dashscope-result/{name}?Expires={expires}&OSSAccessKeyId={ACCESS_KEY_ID}&Signature={signature}"
    )
}

fn to_sign(name: &str, expires: &str) -> String {
    format!("GET\n\n\n{expires}\n/dashscope-result/{name}")
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

    #[test]
    fn a_signed_url_names_its_end() {
        let url = signed_url(
            &SigningSecret::random(),
            "http://h",
            "a.mp4",
            SystemTime::UNIX_EPOCH + Duration::from_secs(7),
        );
        assert!(url.starts_with("http://h/dashscope-result/a.mp4?Expires=7&OSSAccessKeyId=LTAI"));
    }
}

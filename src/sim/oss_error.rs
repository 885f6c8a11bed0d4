//! Error answers of the stand-in for OSS.

use super::reply::SimulatedReply;

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

    pub(super) fn reply(self, request_id: &str) -> SimulatedReply {
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

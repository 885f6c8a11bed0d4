//! Causes of refusals that lie with the key or the account: DashScope surely did not accept the call.

use std::borrow::Cow;
use std::time::Duration;

use hyper::header::{HeaderMap, RETRY_AFTER};
use serde::Deserialize;
use strum::VariantArray;

/// The cause of a refusal, for the health of the key and the account that the call was sent with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RefusalCause {
    InvalidKey,
    /// Bills are overdue.
    Arrearage,
    /// No connection could be made, so nothing was sent.
    Unreachable,
    Throttled(Throttling),
}

/// The kinds of status 429.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, VariantArray)]
pub enum Throttling {
    /// The answer names no kind that is known here.
    General,
    RateQuota,
    BurstRate,
    Concurrency,
    AllocationQuota,
    CommodityNotPurchased,
    PrepaidBillOverdue,
    PostpaidBillOverdue,
}

impl Throttling {
    /// All kinds, in the order of the variants.
    pub const ALL: &'static [Self] = Self::VARIANTS;

    /// DashScope's own code.
    pub const fn native_code(self) -> &'static str {
        match self {
            Throttling::General => "Throttling",
            Throttling::RateQuota => "Throttling.RateQuota",
            Throttling::BurstRate => "Throttling.BurstRate",
            Throttling::Concurrency => "Throttling.Concurrency",
            Throttling::AllocationQuota => "Throttling.AllocationQuota",
            Throttling::CommodityNotPurchased => "CommodityNotPurchased",
            Throttling::PrepaidBillOverdue => "PrepaidBillOverdue",
            Throttling::PostpaidBillOverdue => "PostpaidBillOverdue",
        }
    }
}

impl RefusalCause {
    pub const ALL: [RefusalCause; 11] = [
        RefusalCause::InvalidKey,
        RefusalCause::Arrearage,
        RefusalCause::Unreachable,
        RefusalCause::Throttled(Throttling::General),
        RefusalCause::Throttled(Throttling::RateQuota),
        RefusalCause::Throttled(Throttling::BurstRate),
        RefusalCause::Throttled(Throttling::Concurrency),
        RefusalCause::Throttled(Throttling::AllocationQuota),
        RefusalCause::Throttled(Throttling::CommodityNotPurchased),
        RefusalCause::Throttled(Throttling::PrepaidBillOverdue),
        RefusalCause::Throttled(Throttling::PostpaidBillOverdue),
    ];

    /// The name in metrics and logs.
    pub const fn name(self) -> &'static str {
        match self {
            RefusalCause::InvalidKey => "invalid_key",
            RefusalCause::Arrearage => "arrearage",
            RefusalCause::Unreachable => "unreachable",
            RefusalCause::Throttled(Throttling::General) => "throttling",
            RefusalCause::Throttled(Throttling::RateQuota) => "rate_quota",
            RefusalCause::Throttled(Throttling::BurstRate) => "burst_rate",
            RefusalCause::Throttled(Throttling::Concurrency) => "concurrency",
            RefusalCause::Throttled(Throttling::AllocationQuota) => "allocation_quota",
            RefusalCause::Throttled(Throttling::CommodityNotPurchased) => "commodity_not_purchased",
            RefusalCause::Throttled(Throttling::PrepaidBillOverdue) => "prepaid_bill_overdue",
            RefusalCause::Throttled(Throttling::PostpaidBillOverdue) => "postpaid_bill_overdue",
        }
    }
}

/// Tells the cause from status and body, which may use either envelope and either spelling of the codes. The status
/// alone decides if the body can't be read or names no code. `None` for any other code.
pub fn cause(status: u16, body: Option<&[u8]>) -> Option<RefusalCause> {
    if !(400..500).contains(&status) {
        return None;
    }
    let code = body.and_then(code);
    let Some(code) = code.as_deref() else {
        return match status {
            401 => Some(RefusalCause::InvalidKey),
            429 => Some(RefusalCause::Throttled(Throttling::General)),
            _ => None,
        };
    };
    match (status, code) {
        (401, "InvalidApiKey" | "invalid_api_key") => Some(RefusalCause::InvalidKey),
        (_, "Arrearage" | "arrearage") => Some(RefusalCause::Arrearage),
        (429, code) => Some(RefusalCause::Throttled(throttling(code))),
        _ => None,
    }
}

/// Tells whether the answer proves that DashScope took the key: a success, or an error of the request itself, which has a
/// code. A bare page proves nothing, as any server on the way may send one, and neither does a failure of the server.
pub fn takes_key(status: u16, body: Option<&[u8]>) -> bool {
    match status {
        0..300 => true,
        400..500 => body.and_then(code).is_some() && cause(status, body) != Some(RefusalCause::InvalidKey),
        _ => false,
    }
}

/// The time in `Retry-After`, in whole seconds: the one form that DashScope was seen to use.
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

fn throttling(code: &str) -> Throttling {
    match code {
        "Throttling.RateQuota" | "limit_requests" => Throttling::RateQuota,
        "Throttling.BurstRate" | "limit_burst_rate" => Throttling::BurstRate,
        "Throttling.Concurrency" | "limit_concurrency" => Throttling::Concurrency,
        "Throttling.AllocationQuota" | "insufficient_quota" => Throttling::AllocationQuota,
        "CommodityNotPurchased" | "commodity_not_purchased" => Throttling::CommodityNotPurchased,
        "PrepaidBillOverdue" | "prepaid_bill_overdue" => Throttling::PrepaidBillOverdue,
        "PostpaidBillOverdue" | "postpaid_bill_overdue" => Throttling::PostpaidBillOverdue,
        _ => Throttling::General,
    }
}

/// Reads `code`, or `error.code` of the compatible envelope; `None` if the body can't be read or has none. The error may
/// be an event of a stream, whatever its content type says (protocol 3.10).
pub fn code(body: &[u8]) -> Option<Cow<'_, str>> {
    #[derive(Deserialize)]
    struct CodeAnswer<'a> {
        #[serde(borrow)]
        code: Option<Cow<'a, str>>,
        #[serde(borrow)]
        error: Option<InnerCode<'a>>,
    }
    #[derive(Deserialize)]
    struct InnerCode<'a> {
        #[serde(borrow)]
        code: Option<Cow<'a, str>>,
    }
    let event = body.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"data:"));
    let CodeAnswer { code, error } = serde_json::from_slice(event.unwrap_or(body)).ok()?;
    code.or_else(|| error?.code)
}

/// The code of [`code`], if it looks like one of DashScope, such as `InvalidParameter.DataInspection`, and can be shown.
/// Another server's answer may have anything there, a key too.
pub fn plain_code(body: &[u8]) -> Option<Cow<'_, str>> {
    let is_plain = |byte: u8| byte.is_ascii_alphabetic() || matches!(byte, b'.' | b'_');
    code(body).filter(|code| (1..=64).contains(&code.len()) && code.bytes().all(is_plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_of_dashscope_itself_proves_that_it_took_the_key() {
        let coded = |status| takes_key(status, Some(br#"{"code":"InvalidParameter"}"#));
        assert!(takes_key(101, None) && takes_key(200, None) && coded(400) && coded(403) && coded(429));
        assert!(!coded(302) && !coded(500));
        assert!(!takes_key(401, Some(br#"{"code":"InvalidApiKey"}"#)));
        for page in [None, Some(&b"<html>"[..]), Some(b"{}")] {
            assert!(!takes_key(405, page) && !takes_key(429, page));
        }
    }

    #[test]
    fn both_envelopes_and_spellings_name_the_cause() {
        let rate = Some(RefusalCause::Throttled(Throttling::RateQuota));
        for (status, body, expected) in [
            (401, r#"{"code":"InvalidApiKey","message":"","request_id":""}"#, Some(RefusalCause::InvalidKey)),
            (401, r#"{"error":{"code":"invalid_api_key","param":null}}"#, Some(RefusalCause::InvalidKey)),
            (400, r#"{"code":"Arrearage"}"#, Some(RefusalCause::Arrearage)),
            (
                400,
                "id:1\nevent:error\n:HTTP_STATUS/400\ndata:{\"code\":\"Arrearage\"}\n\n",
                Some(RefusalCause::Arrearage),
            ),
            (429, r#"{"code":"Throttling.RateQuota"}"#, rate),
            (429, r#"{"error":{"code":"limit_requests"}}"#, rate),
            (429, r#"{"code":"Throttling"}"#, Some(RefusalCause::Throttled(Throttling::General))),
            (
                429,
                r#"{"code":"PrepaidBillOverdue"}"#,
                Some(RefusalCause::Throttled(Throttling::PrepaidBillOverdue)),
            ),
        ] {
            assert_eq!(cause(status, Some(body.as_bytes())), expected, "{body}");
        }
    }

    #[test]
    fn what_says_nothing_of_key_or_account_has_no_cause() {
        for (status, body) in [
            (200, r#"{"code":"InvalidApiKey"}"#),
            (400, r#"{"code":"Throttling.AllocationQuota"}"#),
            (400, r#"{"code":"InvalidParameter"}"#),
            (401, r#"{"code":"PluginUnauthorized"}"#),
            (403, r#"{"code":"AccessDenied"}"#),
            (500, r#"{"code":"Throttling"}"#),
            (503, r#"{"code":"Arrearage"}"#),
        ] {
            assert_eq!(cause(status, Some(body.as_bytes())), None, "{body}");
        }
    }

    #[test]
    fn a_body_that_cannot_be_read_leaves_it_to_the_status() {
        for body in [None, Some(&b"<html>"[..]), Some(b"{}")] {
            assert_eq!(cause(401, body), Some(RefusalCause::InvalidKey));
            assert_eq!(cause(429, body), Some(RefusalCause::Throttled(Throttling::General)));
            assert_eq!(cause(400, body), None);
        }
    }
}

//! Why a call was surely not accepted by DashScope: the key, the account, a limit of it, or the way there.

use std::borrow::Cow;
use std::time::Duration;

use hyper::header::{HeaderMap, RETRY_AFTER};
use serde::Deserialize;

/// What the end of a call says of the key and the account that it came with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    InvalidKey,
    /// Bills are overdue.
    Arrearage,
    /// There is no connection, so nothing was sent.
    Unreachable,
    Throttled(Throttling),
}

/// The kinds of 429.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Throttling {
    /// No kind that we know was named.
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
    /// In the order of the variants.
    pub const ALL: [Throttling; 8] = [
        Throttling::General,
        Throttling::RateQuota,
        Throttling::BurstRate,
        Throttling::Concurrency,
        Throttling::AllocationQuota,
        Throttling::CommodityNotPurchased,
        Throttling::PrepaidBillOverdue,
        Throttling::PostpaidBillOverdue,
    ];

    /// DashScope's own name of it.
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

impl Cause {
    pub const ALL: [Cause; 11] = [
        Cause::InvalidKey,
        Cause::Arrearage,
        Cause::Unreachable,
        Cause::Throttled(Throttling::General),
        Cause::Throttled(Throttling::RateQuota),
        Cause::Throttled(Throttling::BurstRate),
        Cause::Throttled(Throttling::Concurrency),
        Cause::Throttled(Throttling::AllocationQuota),
        Cause::Throttled(Throttling::CommodityNotPurchased),
        Cause::Throttled(Throttling::PrepaidBillOverdue),
        Cause::Throttled(Throttling::PostpaidBillOverdue),
    ];

    /// The name in metrics and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Cause::InvalidKey => "invalid_key",
            Cause::Arrearage => "arrearage",
            Cause::Unreachable => "unreachable",
            Cause::Throttled(Throttling::General) => "throttling",
            Cause::Throttled(Throttling::RateQuota) => "rate_quota",
            Cause::Throttled(Throttling::BurstRate) => "burst_rate",
            Cause::Throttled(Throttling::Concurrency) => "concurrency",
            Cause::Throttled(Throttling::AllocationQuota) => "allocation_quota",
            Cause::Throttled(Throttling::CommodityNotPurchased) => "commodity_not_purchased",
            Cause::Throttled(Throttling::PrepaidBillOverdue) => "prepaid_bill_overdue",
            Cause::Throttled(Throttling::PostpaidBillOverdue) => "postpaid_bill_overdue",
        }
    }
}

/// Tells the cause from status and body, in either envelope and either spelling of the codes. A body that
/// can't be read, or names no code, leaves it to the status; a code that is no cause of ours is none.
pub fn cause(status: u16, body: Option<&[u8]>) -> Option<Cause> {
    if !(400..500).contains(&status) {
        return None;
    }
    let code = body.and_then(code);
    let Some(code) = code.as_deref() else {
        return match status {
            401 => Some(Cause::InvalidKey),
            429 => Some(Cause::Throttled(Throttling::General)),
            _ => None,
        };
    };
    match (status, code) {
        (401, "InvalidApiKey" | "invalid_api_key") => Some(Cause::InvalidKey),
        (_, "Arrearage" | "arrearage") => Some(Cause::Arrearage),
        (429, code) => Some(Cause::Throttled(throttling(code))),
        _ => None,
    }
}

/// How long the upstream asks for, in the one form that it was seen to use.
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

/// `code`, or `error.code` of the other envelope.
fn code(body: &[u8]) -> Option<Cow<'_, str>> {
    #[derive(Deserialize)]
    struct Answer<'a> {
        #[serde(borrow)]
        code: Option<Cow<'a, str>>,
        #[serde(borrow)]
        error: Option<Error<'a>>,
    }
    #[derive(Deserialize)]
    struct Error<'a> {
        #[serde(borrow)]
        code: Option<Cow<'a, str>>,
    }
    let Answer { code, error } = serde_json::from_slice(body).ok()?;
    code.or_else(|| error?.code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_envelopes_and_spellings_name_the_cause() {
        let rate = Some(Cause::Throttled(Throttling::RateQuota));
        for (status, body, expected) in [
            (401, r#"{"code":"InvalidApiKey","message":"","request_id":""}"#, Some(Cause::InvalidKey)),
            (401, r#"{"error":{"code":"invalid_api_key","param":null}}"#, Some(Cause::InvalidKey)),
            (400, r#"{"code":"Arrearage"}"#, Some(Cause::Arrearage)),
            (429, r#"{"code":"Throttling.RateQuota"}"#, rate),
            (429, r#"{"error":{"code":"limit_requests"}}"#, rate),
            (429, r#"{"code":"Throttling"}"#, Some(Cause::Throttled(Throttling::General))),
            (429, r#"{"code":"PrepaidBillOverdue"}"#, Some(Cause::Throttled(Throttling::PrepaidBillOverdue))),
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
            assert_eq!(cause(401, body), Some(Cause::InvalidKey));
            assert_eq!(cause(429, body), Some(Cause::Throttled(Throttling::General)));
            assert_eq!(cause(400, body), None);
        }
    }
}

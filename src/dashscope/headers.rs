//! Which header fields cross the gateway, in which direction.

use std::fmt;
use std::time::Duration;

use hyper::header::{ACCEPT, CONNECTION, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue};
use memchr::arch::all::packedpair;
use memchr::memmem;

/// `X-DashScope-Async: enable` asks for a task instead of an answer.
pub const ASYNC: HeaderName = HeaderName::from_static("x-dashscope-async");
/// `X-DashScope-SSE: enable` asks for an event stream.
const SSE: HeaderName = HeaderName::from_static("x-dashscope-sse");
/// How many seconds the client lets a call wait for its turn instead of getting 429.
const WAIT_TIMEOUT: HeaderName = HeaderName::from_static("x-dashscope-wait-timeout");
/// Present, it asks for `oss://` URLs in the body to be resolved.
pub const OSS_RESOLVE: HeaderName = HeaderName::from_static("x-dashscope-ossresourceresolve");
pub const API_KEY: HeaderName = HeaderName::from_static("api-key");
pub const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Read by the DashScope v2 and OpenAI SDKs: `false` stops their retries.
pub const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// Whether the client asks for a task; `None` where we and the upstream might read that differently: two
/// fields that differ, or one that goes no further than this connection.
pub fn asks_async(headers: &HeaderMap) -> Option<bool> {
    let mut asking =
        headers.get_all(ASYNC).iter().map(|value| value.as_bytes().eq_ignore_ascii_case(b"enable"));
    let Some(first) = asking.next() else { return Some(false) };
    let passes =
        of_this_connection(headers).all(|name| !name.eq_ignore_ascii_case(ASYNC.as_str().as_bytes()));
    (passes && asking.all(|other| other == first)).then_some(first)
}

/// How long the client lets a call wait, where it says so in whole seconds that DashScope takes.
pub fn wait_timeout(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(WAIT_TIMEOUT)?.to_str().ok()?.trim().parse().ok()?;
    (1..=120).contains(&seconds).then(|| Duration::from_secs(seconds))
}

/// Whether the client asks for an event stream in a header field. On the compatible surface `stream` in the body
/// does so too.
pub fn asks_events(headers: &HeaderMap) -> bool {
    let enables = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"enable");
    // The names of media types have no case (RFC 9110, 8.3.1).
    let is_events = |part: &[u8]| part.eq_ignore_ascii_case(EVENTS);
    let accepts = |value: &HeaderValue| value.as_bytes().windows(EVENTS.len()).any(is_events);
    headers.get_all(SSE).iter().any(enables) || headers.get_all(ACCEPT).iter().any(accepts)
}

/// The fields that a `Connection` field names, as they are spelt: walks each of its lines.
fn of_this_connection(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    let lines = headers.get_all(CONNECTION).iter();
    lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b',')).map(<[u8]>::trim_ascii)
}

/// Removes the fields of this connection only, those withheld, and those in which the secret stands. Walks
/// every `Connection` line, and does so before anything of ours is put on: a client's
/// `Connection: authorization` must not take our key off.
pub fn strip(headers: &mut HeaderMap, is_withheld: fn(&str) -> bool, bears_secret: impl Fn(&[u8]) -> bool) {
    // Mostly there is nothing more in it than an option, which is no field.
    let is_option = |name: &&[u8]| OPTIONS.iter().any(|option| name.eq_ignore_ascii_case(option));
    let named = of_this_connection(headers)
        .filter(|name| !is_option(name))
        .filter_map(|name| HeaderName::from_bytes(name).ok())
        // Where the message ends is not the client's to take away.
        .filter(|name| *name != CONTENT_LENGTH);
    let goes = |(name, value): (&HeaderName, &HeaderValue)| {
        let name_goes = is_hop_by_hop(name.as_str()) || is_withheld(name.as_str());
        (name_goes || bears_secret(value.as_bytes())).then(|| name.clone())
    };
    let mut going: Vec<HeaderName> = named.collect();
    going.extend(headers.iter().filter_map(goes));
    for name in going {
        headers.remove(name);
    }
}

/// A secret that is looked for in many values. It is never printed.
#[derive(Clone)]
pub struct Sought<S> {
    secret: S,
    /// Two of its bytes that seldom stand where they do; none where it is shorter than that.
    rare: Option<packedpair::Finder>,
}

impl<S: AsRef<[u8]>> Sought<S> {
    pub fn new(secret: S) -> Self {
        let rare = packedpair::Finder::new(secret.as_ref());
        Self { secret, rare }
    }

    /// Whether it stands anywhere in a field's value. Most values are little longer than a key: for those, the search
    /// that takes the least preparation.
    pub fn stands_in(&self, value: &[u8]) -> bool {
        let secret = self.secret.as_ref();
        let Some(rare) = self.rare.as_ref().filter(|_| value.len() < SHORT) else {
            return memmem::find(value, secret).is_some();
        };
        let mut rest = value;
        while rest.len() >= secret.len()
            && let Some(place) = rare.find_prefilter(rest)
        {
            if rest[place..].starts_with(secret) {
                return true;
            }
            rest = &rest[place + 1..];
        }
        false
    }
}

impl<S> fmt::Debug for Sought<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Fields of one connection only (RFC 9110, 7.6.1), those that a `Connection` field names excepted.
pub fn is_hop_by_hop(name: &str) -> bool {
    matches!(
        name,
        "close"
            | "connection"
            | "keep-alive"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "proxy-connection"
            | "te"
            | "transfer-encoding"
            | "upgrade"
    )
}

/// Fields that a client may send and the upstream must not see: credentials, who the client is, and what
/// DashScope's own edge sets for itself.
pub fn is_withheld_from_upstream(name: &str) -> bool {
    match name {
        // Answered by our own server: the upstream would answer it a second time.
        "expect" => true,
        "authorization" | "x-api-key" | "api-key" | "cookie" => true,
        "forwarded" | "x-real-ip" => true,
        "x-dashscope-workspace" | "x-dashscope-datainspection" | "x-dashscope-euid" => true,
        "x-dashscope-apikeyid" | "x-dashscope-uid" | "x-dashscope-bwid" | "x-dashscope-apikeyloc" => true,
        other => {
            other.starts_with("x-")
                && (other.starts_with("x-forwarded-")
                    || other.starts_with("x-dashscope-inner-")
                    || other.starts_with("x-ds-"))
        }
    }
}

/// Fields of the upstream that are not for the client: a load balancer's cookie would tie it to us.
pub fn is_withheld_from_client(name: &str) -> bool {
    matches!(name, "set-cookie" | "set-cookie2")
}

/// What `Connection` mostly names. Fields that are called so go anyway.
const OPTIONS: [&[u8]; 2] = [b"keep-alive", b"close"];
/// What is longer could be made to cost its length times that of the secret, in bytes.
const SHORT: usize = 512;
const EVENTS: &[u8] = b"text/event-stream";

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_secret_is_found_wherever_it_stands(
            secret in "[ab]{1,6}",
            before in "[abc]{0,40}",
            after in "[abc]{0,40}",
            long in prop::bool::ANY,
            bears in prop::bool::ANY,
        ) {
            let padding = if long { "c".repeat(SHORT) } else { String::new() };
            let value = format!("{before}{}{after}{padding}", if bears { &secret } else { "" });
            let sought = Sought::new(secret.as_bytes());
            prop_assert_eq!(sought.stands_in(value.as_bytes()), value.contains(&secret));
        }
    }
}

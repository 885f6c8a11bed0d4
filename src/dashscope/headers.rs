//! Header fields of DashScope's surface, and the fields that may not cross the gateway in either direction.

use std::fmt;
use std::time::Duration;

use hyper::header::{ACCEPT, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use memchr::arch::all::packedpair;
use memchr::memmem;

/// `X-DashScope-Async: enable` asks for a task instead of an answer.
pub const ASYNC: HeaderName = HeaderName::from_static("x-dashscope-async");
/// `X-DashScope-SSE: enable` asks for an event stream.
const SSE: HeaderName = HeaderName::from_static("x-dashscope-sse");
/// The seconds that the client lets a call wait for its turn, instead of an answer 429.
const WAIT_TIMEOUT: HeaderName = HeaderName::from_static("x-dashscope-wait-timeout");
/// If present, DashScope resolves `oss://` URLs in the body.
pub const OSS_RESOLVE: HeaderName = HeaderName::from_static("x-dashscope-ossresourceresolve");
pub const API_KEY: HeaderName = HeaderName::from_static("api-key");
pub const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Cost of a task to its tenant, in the answer that tells the task's end: an amount and a currency.
pub const COST: HeaderName = HeaderName::from_static("x-dashgate-cost");
/// `no` has nginx pass an answer on as it comes (nginx, ngx_http_proxy_module, `proxy_buffering`).
pub const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
/// Read by the DashScope v2 and OpenAI SDKs: `false` stops their retries.
pub const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// True if the client asks for a task. `None` if the gateway and the upstream might read the request differently: two
/// such fields differ, or `Connection` names the field, so that it goes no further than this connection.
pub fn asks_async(headers: &HeaderMap) -> Option<bool> {
    let mut asking =
        headers.get_all(ASYNC).iter().map(|value| value.as_bytes().eq_ignore_ascii_case(b"enable"));
    let Some(first) = asking.next() else { return Some(false) };
    let passes =
        of_this_connection(headers).all(|name| !name.eq_ignore_ascii_case(ASYNC.as_str().as_bytes()));
    (passes && asking.all(|other| other == first)).then_some(first)
}

/// The time that the client lets a call wait, if it gives whole seconds that DashScope takes.
pub fn wait_timeout(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(WAIT_TIMEOUT)?.to_str().ok()?.trim().parse().ok()?;
    (1..=120).contains(&seconds).then(|| Duration::from_secs(seconds))
}

/// True if a header field asks for an event stream. On the compatible surface, `stream` in the body asks for one too.
pub fn asks_events(headers: &HeaderMap) -> bool {
    let enables = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"enable");
    // Media types are case-insensitive (RFC 9110, 8.3.1).
    let is_events = |part: &[u8]| part.eq_ignore_ascii_case(EVENTS);
    let accepts = |value: &HeaderValue| value.as_bytes().windows(EVENTS.len()).any(is_events);
    headers.get_all(SSE).iter().any(enables) || headers.get_all(ACCEPT).iter().any(accepts)
}

/// True for an answer that is an event stream.
pub fn is_event_stream(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.as_bytes().first_chunk());
    kind.is_some_and(|kind: &[u8; EVENTS.len()]| kind.eq_ignore_ascii_case(EVENTS))
}

/// The names in all `Connection` fields, as they are spelt.
fn of_this_connection(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    let lines = headers.get_all(CONNECTION).iter();
    lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b',')).map(<[u8]>::trim_ascii)
}

/// Removes hop-by-hop fields, withheld fields, and fields that hold the secret. Runs before the gateway adds any field
/// of its own: a client's `Connection: authorization` must not remove the gateway's key.
pub fn strip(headers: &mut HeaderMap, is_withheld: fn(&str) -> bool, bears_secret: impl Fn(&[u8]) -> bool) {
    // Most `Connection` fields hold only an option, which names no field.
    let is_option = |name: &&[u8]| OPTIONS.iter().any(|option| name.eq_ignore_ascii_case(option));
    let named = of_this_connection(headers)
        .filter(|name| !is_option(name))
        .filter_map(|name| HeaderName::from_bytes(name).ok())
        // A client must not remove the field that says where the message ends.
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

/// Finds a secret in many values. The secret is never printed.
#[derive(Clone)]
pub struct SecretFinder<S> {
    secret: S,
    /// Two bytes of the secret by which it is found; `None` if it is shorter than two bytes.
    pair: Option<packedpair::Finder>,
}

impl<S: AsRef<[u8]>> SecretFinder<S> {
    pub fn new(secret: S) -> Self {
        let pair = packedpair::Finder::new(secret.as_ref());
        Self { secret, pair }
    }

    /// A finder for one value, which takes no time to choose rare bytes: that takes 950 instructions.
    pub fn for_one_value(secret: S) -> Self {
        let bytes = secret.as_ref();
        let last = u8::try_from(bytes.len().saturating_sub(1)).unwrap_or(u8::MAX);
        let pair = packedpair::Pair::with_indices(bytes, last, last / 2);
        let pair = pair.and_then(|pair| packedpair::Finder::with_pair(bytes, pair));
        Self { secret, pair }
    }

    /// True if the secret stands anywhere in a field's value. Most values are hardly longer than a key, so a search is
    /// used that takes the least preparation.
    pub fn stands_in(&self, value: &[u8]) -> bool {
        let secret = self.secret.as_ref();
        let Some(pair) = self.pair.as_ref().filter(|_| value.len() < SHORT) else {
            return memmem::find(value, secret).is_some();
        };
        let mut rest = value;
        while rest.len() >= secret.len()
            && let Some(place) = pair.find_prefilter(rest)
        {
            if rest[place..].starts_with(secret) {
                return true;
            }
            rest = &rest[place + 1..];
        }
        false
    }
}

impl<S> fmt::Debug for SecretFinder<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// True for hop-by-hop fields (RFC 9110, 7.6.1). Fields that a `Connection` field names are not counted here.
pub fn is_hop_by_hop(name: &str) -> bool {
    matches!(
        name,
        "close"
            | "connection"
            | "http2-settings"
            | "keep-alive"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "proxy-connection"
            | "te"
            | "transfer-encoding"
            | "upgrade"
    )
}

/// True for fields that a client may send and the upstream must not see: credentials, the client's identity, address and
/// page, fields that DashScope's own edge sets or that are the gateway's own, and names that look like one of these.
pub fn is_withheld_from_upstream(name: &str) -> bool {
    match name {
        // The fields of nearly every call are decided first.
        "host" | "accept" | "accept-encoding" | "content-type" | "content-length" | "user-agent" => false,
        // The gateway's own server has answered `Expect`, and the upstream would answer it a second time.
        "expect" => true,
        "authorization" | "x-api-key" | "api-key" | "cookie" => true,
        "x-dashscope-workspace" | "x-dashscope-datainspection" | "x-dashscope-euid" => true,
        "x-dashscope-apikeyid" | "x-dashscope-uid" | "x-dashscope-bwid" | "x-dashscope-apikeyloc" => true,
        other => is_internal(other) || tells_of_client(other) || is_look_alike(other),
    }
}

/// True for fields that only DashScope's own edge may set, and for the gateway's own.
fn is_internal(name: &str) -> bool {
    let rest = name.strip_prefix("x-").unwrap_or_default();
    ["dashscope-inner-", "ds-", "dashgate-"].iter().any(|prefix| rest.starts_with(prefix))
}

/// True for fields that tell the client's address, its place, the page that it came from, or the edges (CDN, firewall,
/// load balancer) that the request came through, whoever wrote them.
fn tells_of_client(name: &str) -> bool {
    !name.starts_with("x-dashscope-")
        // OpenAI's and Anthropic's SDKs send ten of these.
        && !name.starts_with("x-stainless-")
        && (name.split('-').any(|part| CLIENT_PARTS.contains(&part))
            || EDGE_PREFIXES.iter().any(|prefix| name.starts_with(prefix)))
}

/// True for a name that some servers read as another field, which is judged or withheld here: they take `_` and `.` for
/// `-`, as CGI does (RFC 3875, 4.1.18).
fn is_look_alike(name: &str) -> bool {
    if memchr::memchr2(b'_', b'.', name.as_bytes()).is_none() {
        return false;
    }
    let read = name.replace(['_', '.'], "-");
    read.starts_with("x-dashscope-")
        || ["host", "content-length", "content-encoding", "content-type", "prefer"].contains(&&*read)
        || is_hop_by_hop(&read)
        || is_withheld_from_upstream(&read)
}

/// True for fields of the upstream that clients must not see: a load balancer's cookie would tie a client to our
/// connection, its leave for web pages is not ours, and only the gateway says what the gateway did.
pub fn is_withheld_from_client(name: &str) -> bool {
    match name.as_bytes().first() {
        Some(b's') => matches!(name, "set-cookie" | "set-cookie2"),
        Some(b'a') => name.starts_with("access-control-"),
        Some(b'x') => name.starts_with("x-dashgate-"),
        Some(_) | None => false,
    }
}

/// Parts of a field's name, between hyphens, that stand for an address, a place, a page or a way.
const CLIENT_PARTS: [&str; 34] = [
    "addr",
    "address",
    "asn",
    "cdn",
    "cert",
    "city",
    "clientip",
    "country",
    "edge",
    "forwarded",
    "geo",
    "geoip",
    "ip",
    "ipaddr",
    "ipcountry",
    "latitude",
    "longitude",
    "origin",
    "original",
    "originating",
    "port",
    "postal",
    "realip",
    "referer",
    "referrer",
    "region",
    "remote",
    "remoteip",
    "slb",
    "timezone",
    "userip",
    "via",
    "viewer",
    "waf",
];
/// Beginnings of the names that CDNs, firewalls, balancers, meshes and browsers write for themselves.
const EDGE_PREFIXES: [&str; 33] = [
    "akamai-",
    "ali-",
    "cf-",
    "cloudfront-",
    "eagleeye-",
    "eo-",
    "fastly-",
    "fly-",
    "incap-",
    "sec-fetch-",
    "ssl-client-",
    "x-akamai-",
    "x-amz-cf-",
    "x-amzn-",
    "x-appengine-",
    "x-arr-",
    "x-azure-",
    "x-bce-",
    "x-cache",
    "x-cloud-",
    "x-envoy-",
    "x-fastly-",
    "x-fd-",
    "x-iinfo",
    "x-incap-",
    "x-istio-",
    "x-nf-",
    "x-nws-",
    "x-railway-",
    "x-ssl-",
    "x-sucuri-",
    "x-varnish",
    "x-vercel-",
];
/// The usual options in `Connection`. Fields with these names are hop-by-hop, so they are removed anyway.
const OPTIONS: [&[u8]; 2] = [b"keep-alive", b"close"];
/// The length from which a value is searched with `memmem`, in bytes: the search by rare bytes can cost the value's
/// length times the secret's.
const SHORT: usize = 512;
const EVENTS: &[u8; 17] = b"text/event-stream";

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn nothing_that_tells_of_the_client_reaches_dashscope() {
        for name in [
            "x-realip",
            "clientip",
            "x-forwarded-for",
            "x-forwarded",
            "forwarded",
            "x-original-forwarded-for",
            "x-real-ip",
            "x-client-ip",
            "client-ip",
            "true-client-ip",
            "x-cluster-client-ip",
            "cf-connecting-ip",
            "cf-ipcountry",
            "cf-ray",
            "fastly-client-ip",
            "x-envoy-external-address",
            "x-azure-clientip",
            "x-azure-socketip",
            "x-appengine-user-ip",
            "cloudfront-viewer-address",
            "x-amzn-trace-id",
            "wl-proxy-client-ip",
            "ali-cdn-real-ip",
            "x-nws-log-uuid",
            "eo-connecting-ip",
            "x-remote-addr",
            "x-client-port",
            "x-country",
            "x-vercel-ip-city",
            "via",
            "cdn-loop",
            "origin",
            "referer",
            "sec-fetch-site",
            "x-original-url",
            "x-forwarded-client-cert",
            "x-dashgate-webhook",
        ] {
            assert!(is_withheld_from_upstream(name), "{name}");
        }
        for name in [
            "accept",
            "user-agent",
            "x-dashscope-async",
            "x-dashscope-wait-timeout",
            "x-dashscope-plugin",
            "x-request-id",
            "x-stainless-lang",
            "x-client-request-id",
            "traceparent",
            "openai-organization",
            "anthropic-version",
            "accept-language",
            "x-title",
        ] {
            assert!(!is_withheld_from_upstream(name), "{name}");
        }
    }

    #[test]
    fn a_name_that_looks_like_a_judged_one_goes_no_further() {
        for name in [
            "x_dashscope_async",
            "x-dashscope_async",
            "x.dashscope.async",
            "x_api_key",
            "x-api_key",
            "content_length",
            "transfer_encoding",
            "x_forwarded_for",
            "x_real_ip",
            "x-dashscope_uid",
        ] {
            assert!(is_withheld_from_upstream(name), "{name}");
        }
        for name in ["my_field", "x.title", "a_b.c"] {
            assert!(!is_withheld_from_upstream(name), "{name}");
        }
    }

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
            for finder in [SecretFinder::new(secret.as_bytes()), SecretFinder::for_one_value(secret.as_bytes())] {
                prop_assert_eq!(finder.stands_in(value.as_bytes()), value.contains(&secret));
            }
        }
    }
}

//! Spellings of a path, usual and hostile ones.

use super::endpoints::{Endpoint, Treatment};

/// One spelling of a call, and the expected result.
pub(crate) struct Spelling {
    pub(crate) name: &'static str,
    pub(crate) method: &'static str,
    /// `None` where the endpoint can't be written that way.
    pub(crate) target: Option<String>,
    pub(crate) expected: Expected,
    /// The path does not show which surface was meant, so its envelope may be either.
    pub(crate) guesses: bool,
}

pub(crate) enum Expected {
    /// Path seen by the upstream.
    Passes(String),
    Local(u16),
    Refused(u16, &'static str),
    Denied,
    BadPath,
}

/// The task ids that the placeholders stand for.
pub(crate) struct PlaceholderIds<'a> {
    pub(crate) own: &'a str,
    pub(crate) foreign: &'a str,
    pub(crate) none: &'a str,
}

impl PlaceholderIds<'_> {
    fn fill(&self, text: &str) -> String {
        text.replace("{own}", self.own).replace("{foreign}", self.foreign).replace("{none}", self.none)
    }
}

/// Every spelling, in the same order for each endpoint.
pub(crate) fn of(endpoint: &Endpoint, names: &PlaceholderIds<'_>) -> Vec<Spelling> {
    let path = &names.fill(endpoint.path);
    let query = names.fill(endpoint.query);
    let query = if query.is_empty() { query } else { format!("?{query}") };
    let (parent, last) = path.rsplit_once('/').expect("a slash");
    let short = endpoint.is_native().then(|| &path["/api".len()..]);
    let like = |upstream: String| match endpoint.fate {
        Treatment::Passes | Treatment::Submits | Treatment::Shakes => {
            Expected::Passes(format!("{upstream}{query}"))
        }
        Treatment::Local(status) => Expected::Local(status),
        Treatment::Refused(status, reason) => Expected::Refused(status, reason),
        Treatment::Denied => Expected::Denied,
    };
    let honest = |name, target: Option<String>| spelling(name, endpoint, target, &query, like(path.clone()));
    let bad = |name, target: String| spelling(name, endpoint, Some(target), &query, Expected::BadPath);
    let other = |method| {
        // On a WebSocket's path, and on the models', a GET is a listed call, so it is no other method there.
        let takes_get = path.starts_with("/api-ws/") || path == "/compatible-mode/v1/models";
        let target = (method != "GET" || !takes_get).then(|| path.clone());
        Spelling { method, ..spelling("another method", endpoint, target, &query, Expected::Denied) }
    };
    let escaped = format!("{parent}/%{:02x}{}", last.as_bytes()[0], &last[1..]);
    let up: String = "/%2e%2e".repeat(4);
    let from_tasks = format!("/api/v1/tasks/{}", names.own);
    let mut all = vec![
        honest("as it is", Some(path.clone())),
        honest("/wan", Some(format!("/wan{path}"))),
        honest("/alibabacloudapi", Some(format!("/alibabacloudapi{path}"))),
        honest("without /api", short.map(str::to_owned)),
        honest("/wan without /api", short.map(|short| format!("/wan{short}"))),
        honest("/alibabacloudapi without /api", short.map(|short| format!("/alibabacloudapi{short}"))),
        spelling(
            "slash at the end",
            endpoint,
            Some(format!("/wan{path}/")),
            &query,
            like(format!("{path}/")),
        ),
        honest("escaped letter", Some(escaped.clone())),
        honest("escaped letter below /wan", Some(format!("/w%61n{escaped}"))),
        bad("doubled slash", format!("/wan{parent}//{last}")),
        guessing(bad("doubled slash in front", format!("/{path}"))),
        bad("doubled slash at the end", format!("{path}//")),
        bad("dot segment", format!("{parent}/./{last}")),
        bad("up and down", format!("/wan{parent}/x/../{last}")),
        guessing(bad("up from a task", format!("{from_tasks}{up}{path}"))),
        guessing(bad("up from a task, mixed", format!("/wan{from_tasks}/.%2E/..{path}"))),
        bad("parameter", format!("{path};x=1")),
        bad("escaped semicolon", format!("{path}%3Bx")),
        bad("parameter in between", format!("{parent};x/{last}")),
        bad("escaped slash", format!("{parent}%2f{last}")),
        bad("escaped slash at the end", format!("{path}%2F")),
        bad("backslash", format!("{parent}/x\\{last}")),
        bad("escaped backslash", format!("{parent}/x%5c{last}")),
        bad("NUL", format!("{path}%00")),
        bad("line feed", format!("{path}%0a")),
        bad("escaped twice", format!("{parent}/%25{:02x}{}", last.as_bytes()[0], &last[1..])),
        bad("half an escape", format!("{path}%2")),
        bad("not UTF-8", format!("{path}%ff")),
        guessing(spelling("upper case", endpoint, Some(path.to_ascii_uppercase()), &query, Expected::Denied)),
        guessing(spelling(
            "root twice",
            endpoint,
            Some(format!("/wan/api/v1{path}")),
            &query,
            Expected::Denied,
        )),
        guessing(spelling("unknown root", endpoint, Some(format!("/wan/x{path}")), &query, Expected::Denied)),
        other(if endpoint.method == "GET" { "POST" } else { "GET" }),
        other("PATCH"),
        other("OPTIONS"),
    ];
    // Services are listed by their shape, so one in capitals is passed on as it is written.
    let shouted = format!("{parent}/{}", last.to_ascii_uppercase());
    let target = endpoint.is_service().then(|| shouted.clone());
    all.push(spelling("service in upper case", endpoint, target, &query, like(shouted)));
    all
}

fn spelling(
    name: &'static str,
    endpoint: &Endpoint,
    target: Option<String>,
    query: &str,
    expected: Expected,
) -> Spelling {
    let target = target.map(|target| format!("{target}{query}"));
    Spelling { name, method: endpoint.method, target, expected, guesses: false }
}

fn guessing(spelling: Spelling) -> Spelling {
    Spelling { guesses: true, ..spelling }
}

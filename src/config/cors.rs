//! Web pages that may call a mount from a browser.

use std::sync::Arc;

use super::node::Node;
use super::reader::{ConfigReader, Text, ValueFault};
use crate::net::authority;

/// Origins of the web pages that may call a mount from a browser; none by default.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cors(Arc<[Box<str>]>);

impl Cors {
    /// True if no page may call.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// True if pages of this origin, as a browser writes it in `Origin`, may call.
    pub fn allows(&self, origin: &[u8]) -> bool {
        self.0.iter().any(|allowed| allowed.as_bytes() == origin)
    }
}

/// Reads `cors` of a mount, which has only `origins`.
pub(super) fn read(node: Node<'_>) -> Option<Vec<Text>> {
    let hint = "write it like { origins = [\"https://app.example.com\"] }";
    let mut table = node.table(hint)?;
    let origins = table.field("origins").and_then(|node| node.strings(hint));
    table.finish();
    origins
}

pub(super) fn check(reader: &ConfigReader<'_>, origins: &[Text]) -> Option<Cors> {
    // All origins are read, so that all faults are found.
    let checked: Vec<_> = origins.iter().map(|written| reader.check(written, origin)).collect();
    checked.into_iter().collect::<Option<_>>().map(Cors)
}

/// Checks an origin: browsers send scheme, host and port in one spelling, which is compared byte by byte.
pub(super) fn origin(text: &str) -> Result<Box<str>, ValueFault> {
    let wrong = |problem: &str| {
        let hint =
            "write it as browsers send it, like \"https://app.example.com\" or \"http://localhost:3000\"";
        Err(ValueFault::new(problem, hint))
    };
    if text.contains('*') {
        return Err(ValueFault::new("has a *, but pages are allowed one by one", "name each origin"));
    }
    let Some((scheme, place)) = text.split_once("://") else {
        return wrong("is not an origin: it has no scheme and ://");
    };
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return wrong("has capital letters, which browsers do not send");
    }
    if place.contains(['/', '?', '#']) {
        return wrong("has a path; an origin ends with its host or port");
    }
    let in_scheme = |byte: u8| byte.is_ascii_alphanumeric() || b"+.-".contains(&byte);
    let is_scheme =
        scheme.starts_with(|first: char| first.is_ascii_lowercase()) && scheme.bytes().all(in_scheme);
    match authority::split(place).filter(|_| is_scheme) {
        None => wrong("is not an origin: its scheme, host or port is not valid"),
        Some((_, Some(443))) if scheme == "https" => wrong("has the usual port, which browsers leave out"),
        Some((_, Some(80))) if scheme == "http" => wrong("has the usual port, which browsers leave out"),
        Some(_) => Ok(text.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_as_browsers_write_them() {
        for fine in [
            "https://app.example.com",
            "https://app.example.com:8443",
            "http://localhost:3000",
            "http://127.0.0.1",
            "http://[::1]:3000",
            "app://obsidian.md",
            "capacitor://localhost",
            "chrome-extension://abcdefghijklmnop",
        ] {
            assert!(origin(fine).is_ok(), "{fine}");
        }
        for wrong in [
            "",
            "*",
            "null",
            "https://*.example.com",
            "app.example.com",
            "https://",
            "https://app.example.com/",
            "https://App.example.com",
            "https://app.example.com:443",
            "http://app.example.com:80",
            "https://app.example.com:",
            "https://me@app.example.com",
            "://app.example.com",
            "https://app example.com",
            "https://\u{fc}.example",
        ] {
            assert!(origin(wrong).is_err(), "{wrong}");
        }
    }
}

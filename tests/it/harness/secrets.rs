//! Secrets that must never stand in a log. Tests send them in keys, bodies, queries and answers, and search every log:
//! the diagnostics and access logs of the gateways in this process and of the program.

use std::path::{Path, PathBuf};

use super::postgres::PASSWORD;
use super::{ADMIN_TOKEN, OTHER_KEY, TENANT_KEY, UPSTREAM_KEY};

/// A secret in a client's body.
pub(crate) const PROMPT: &str = "planted-prompt-9c02e7b41f";
/// A secret in a URL's query.
pub(crate) const QUERY: &str = "planted-query-51d8a3f60e";
/// A secret in an upstream's answer.
pub(crate) const ANSWER: &str = "planted-answer-e47b90c2d5";

const PLANTED: [&str; 8] =
    [UPSTREAM_KEY, TENANT_KEY, OTHER_KEY, ADMIN_TOKEN, PASSWORD, PROMPT, QUERY, ANSWER];

/// The first line that holds a secret.
pub(crate) fn leak(text: &str) -> Option<&str> {
    let is_leak = |line: &&str| PLANTED.iter().any(|secret| line.contains(secret));
    text.lines().find(is_leak)
}

/// A file of log lines, searched when it is dropped.
pub(crate) struct SearchedLog(PathBuf);

impl SearchedLog {
    pub(crate) fn new(path: &Path) -> Self {
        Self(path.to_owned())
    }
}

impl Drop for SearchedLog {
    fn drop(&mut self) {
        if !std::thread::panicking()
            && let Ok(text) = std::fs::read_to_string(&self.0)
        {
            assert_eq!(leak(&text), None, "a secret is in an access log");
        }
    }
}

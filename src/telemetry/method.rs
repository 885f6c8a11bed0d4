//! Methods that are shown in logs and traces.

use hyper::Method;

/// The method, if HTTP defines it (RFC 9110, 9; RFC 5789): a client may send any text as a method, a secret too.
pub fn method_name(method: &Method) -> Option<&'static str> {
    METHODS.into_iter().find(|known| *known == method.as_str())
}

const METHODS: [&str; 9] = ["GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "CONNECT", "TRACE"];

//! Stage 2: whose key is this?

use std::sync::Arc;
use std::time::SystemTime;

use hyper::header::{AUTHORIZATION, HeaderMap};

use super::peer::Peer;
use super::rejection::Rejection;
use crate::dashscope::headers::{API_KEY, X_API_KEY};
use crate::limits::AuthFailures;
use crate::tenant::caller::{Caller, identify, sidecar_caller};
use crate::tenant::directory::Directory;
use crate::tenant::key::VirtualKey;
use crate::tenant::keyring::Keyring;

/// Finds the caller by the key that it presents, its connection's certificate, or both.
///
/// # Errors
/// `NoKey`, `UnknownKey`, `ExpiredKey`, `RevokedKey`, `NoCertificate`, `OtherCertificate`; `BadRequest` for two
/// different keys.
pub(super) fn authenticate(
    directory: &Arc<Directory>,
    keyring: &Keyring,
    headers: &HeaderMap,
    peer: &Peer,
    now: SystemTime,
) -> Result<Caller, Rejection> {
    let key = presented(headers)?;
    if let Some(caller) = sidecar_caller(directory) {
        return if peer.address.ip().is_loopback() { Ok(caller) } else { Err(Rejection::UnknownKey) };
    }
    let found =
        identify(directory, keyring, key, peer.certificate.as_ref(), now).inspect_err(|stranger| {
            // The client is told the same of every key that opens nothing; whoever helps it may know more.
            tracing::debug!(?stranger, address = %peer.address, "a key opens nothing");
        })?;
    found.ok_or(Rejection::NoKey)
}

/// Counts a failure against its address. A caller with a good key from there is not held up: who shares an address
/// with a guesser, behind one NAT, notices nothing.
pub(super) fn count(
    rejection: Rejection,
    auth_failures: &AuthFailures,
    directory: &Directory,
    peer: &Peer,
) -> Rejection {
    match auth_failures.failed(peer.address.ip(), directory.settings.server.auth_failures_per_second) {
        Ok(()) => rejection,
        Err(wait) => Rejection::AuthRate(wait),
    }
}

/// The one key in `Authorization: Bearer`, `x-api-key` or `api-key`.
///
/// # Errors
/// `BadRequest` where there are two: one that we judge by and another that somebody might read.
pub(super) fn presented(headers: &HeaderMap) -> Result<Option<VirtualKey<'_>>, Rejection> {
    let bearers = headers.get_all(AUTHORIZATION).iter().filter_map(|value| bearer(value.as_bytes()));
    let plain = [X_API_KEY, API_KEY].into_iter().flat_map(|name| headers.get_all(name));
    let mut keys = bearers
        .chain(plain.map(|value| value.as_bytes().trim_ascii()))
        .filter(|key| !key.is_empty())
        .map(VirtualKey::new);
    let first = keys.next();
    if keys.any(|key| Some(key) != first) {
        return Err(Rejection::BadRequest("it bears two different keys"));
    }
    Ok(first)
}

/// What follows the scheme `Bearer`, which has no case (RFC 9110, 11.1).
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = value.split_at_checked(SCHEME.len())?;
    (scheme.eq_ignore_ascii_case(SCHEME) && rest.starts_with(b" ")).then(|| rest.trim_ascii())
}

const SCHEME: &[u8] = b"Bearer";

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::{HeaderName, HeaderValue};

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        fields
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn a_key_is_found_in_each_of_its_places() {
        for fields in [
            [("authorization", "Bearer sk-a")],
            [("authorization", "bearer  sk-a ")],
            [("x-api-key", "sk-a")],
            [("api-key", " sk-a")],
        ] {
            let headers = headers(&fields);
            assert_eq!(presented(&headers), Ok(Some(VirtualKey::new(b"sk-a"))), "{fields:?}");
        }
    }

    #[test]
    fn what_is_no_key_is_none() {
        for fields in [
            ("authorization", "Basic sk-a"),
            ("authorization", "Bearer"),
            ("authorization", "Bearersk-a"),
            ("api-key", ""),
        ] {
            assert_eq!(presented(&headers(&[fields])), Ok(None), "{fields:?}");
        }
    }

    #[test]
    fn the_same_key_twice_is_one_and_two_are_refused() {
        let twice = headers(&[("authorization", "Bearer sk-a"), ("x-api-key", "sk-a")]);
        assert_eq!(presented(&twice), Ok(Some(VirtualKey::new(b"sk-a"))));
        for two in [
            [("authorization", "Bearer sk-a"), ("x-api-key", "sk-b")],
            [("authorization", "Bearer sk-a"), ("authorization", "Bearer sk-b")],
            [("x-api-key", "sk-a"), ("api-key", "sk-b")],
        ] {
            assert!(presented(&headers(&two)).is_err(), "{two:?}");
        }
    }
}

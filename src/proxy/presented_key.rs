//! The key that a request presents.

use hyper::header::{AUTHORIZATION, HeaderMap, HeaderName, SEC_WEBSOCKET_PROTOCOL};

use super::rejection::Rejection;
use super::subprotocol;
use crate::dashscope::headers::{API_KEY, X_API_KEY};
use crate::tenant::key::VirtualKey;

/// Position of the client's key in a head: the one key in `Authorization: Bearer`, `x-api-key` and `api-key`; where there is
/// none, the key among the subprotocols of a page's WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PresentedKey {
    field: KeyField,
    /// Index of the line among the lines with the field's name.
    line: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum KeyField {
    Authorization,
    XApiKey,
    ApiKey,
    Subprotocol,
}

impl PresentedKey {
    /// # Errors
    /// `BadRequest` if the head has two different keys: the gateway would check one, and another server might read the
    /// other.
    pub(super) fn find(headers: &HeaderMap) -> Result<Option<Self>, Rejection> {
        let lines =
            [KeyField::Authorization, KeyField::XApiKey, KeyField::ApiKey].into_iter().flat_map(|field| {
                let secrets = headers
                    .get_all(field.name())
                    .into_iter()
                    .map(move |value| field.secret(value.as_bytes()));
                secrets.enumerate().filter_map(move |(line, secret)| Some((Self { field, line }, secret?)))
            });
        let mut found: Option<(Self, &[u8])> = None;
        for (position, secret) in lines {
            if *found.get_or_insert((position, secret)).1 != *secret {
                return Err(Rejection::BadRequest("it bears two different keys"));
            }
        }
        let of_page = || {
            let line = subprotocol::line_with_key(headers)?;
            Some(Self { field: KeyField::Subprotocol, line })
        };
        Ok(found.map(|(position, _)| position).or_else(of_page))
    }

    /// True if a page presents it with the handshake of a WebSocket.
    pub(super) fn is_of_page(self) -> bool {
        self.field == KeyField::Subprotocol
    }

    /// The key itself, in the head in which it was found.
    pub(super) fn of(self, headers: &HeaderMap) -> Option<VirtualKey<'_>> {
        let value = headers.get_all(self.field.name()).iter().nth(self.line)?;
        self.field.secret(value.as_bytes()).map(VirtualKey::new)
    }
}

impl KeyField {
    const fn name(self) -> HeaderName {
        match self {
            KeyField::Authorization => AUTHORIZATION,
            KeyField::XApiKey => X_API_KEY,
            KeyField::ApiKey => API_KEY,
            KeyField::Subprotocol => SEC_WEBSOCKET_PROTOCOL,
        }
    }

    /// The secret in the field's value, if there is one.
    fn secret(self, value: &[u8]) -> Option<&[u8]> {
        let secret = match self {
            KeyField::Authorization => bearer(value)?,
            KeyField::XApiKey | KeyField::ApiKey => value.trim_ascii(),
            KeyField::Subprotocol => subprotocol::key(value)?,
        };
        (!secret.is_empty()).then_some(secret)
    }
}

/// The credentials after the scheme `Bearer`; the name of a scheme is case-insensitive (RFC 9110, 11.1).
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = value.split_at_checked(SCHEME.len())?;
    (scheme.eq_ignore_ascii_case(SCHEME) && rest.starts_with(b" ")).then(|| rest.trim_ascii())
}

const SCHEME: &[u8] = b"Bearer";

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    fn presented(headers: &HeaderMap) -> Result<Option<VirtualKey<'_>>, Rejection> {
        PresentedKey::find(headers).map(|found| found.and_then(|found| found.of(headers)))
    }

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
            [("sec-websocket-protocol", "dashgate, dashgate.sk-a")],
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

//! The admin tokens, one of which guarded paths need.

use std::sync::Arc;

use hyper::header::{AUTHORIZATION, HeaderMap};

use super::problem::Problem;
use crate::config::AdminRole;
use crate::tenant::token::AdminToken;

/// The holder of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TokenHolder {
    /// `None` for the token without a name.
    pub name: Option<Arc<str>>,
    /// Fingerprint of the token.
    pub token: String,
    pub role: AdminRole,
}

impl TokenHolder {
    /// The caller of a path that needs no token.
    pub(super) const fn nobody() -> Self {
        Self { name: None, token: String::new(), role: AdminRole::Read }
    }
}

/// Finds the holder of the token that a request shows.
///
/// # Errors
/// `Off` where no token is configured, `Unauthorized` for a missing or another token.
pub(super) fn check(tokens: &[AdminToken], headers: &HeaderMap) -> Result<TokenHolder, Problem> {
    if tokens.is_empty() {
        return Err(Problem::Off);
    }
    let mut fields = headers.get_all(AUTHORIZATION).iter();
    let (Some(field), None) = (fields.next(), fields.next()) else { return Err(Problem::Unauthorized) };
    let (scheme, presented) = field.as_bytes().split_at_checked(SCHEME.len()).unwrap_or_default();
    // Every token is compared, so that the time tells nothing of which one it is.
    let found = tokens
        .iter()
        .fold(None, |found, token| if token.is(presented.trim_ascii()) { Some(token) } else { found });
    let token = found.filter(|_| scheme.eq_ignore_ascii_case(SCHEME)).ok_or(Problem::Unauthorized)?;
    Ok(TokenHolder { name: token.name.clone(), token: token.fingerprint(), role: token.role })
}

const SCHEME: &[u8] = b"Bearer ";

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;
    use crate::config::Secret;

    fn tokens() -> [AdminToken; 2] {
        [
            AdminToken::new(&Secret::new("t0ken"), None, AdminRole::Operate),
            AdminToken::new(&Secret::new("watcher-0123"), Some("watcher".into()), AdminRole::Read),
        ]
    }

    #[test]
    fn one_token_opens() {
        let tokens = tokens();
        let check = |field: &'static str| {
            let headers = HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_static(field))]);
            check(&tokens, &headers).is_ok()
        };
        assert!(check("Bearer t0ken") && check("bearer  t0ken"));
        for wrong in
            ["", "t0ken", "Bearer", "Bearer ", "Bearert0ken", "Basic t0ken", "Bearer t0keN", "Bearer t0ken x"]
        {
            assert!(!check(wrong), "{wrong}");
        }
        assert_eq!(format!("{tokens:?}"), "[***, ***]");
    }

    #[test]
    fn the_holder_is_known_by_its_token() {
        let headers =
            HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_static("Bearer watcher-0123"))]);
        let holder = super::check(&tokens(), &headers).expect("a holder");
        assert_eq!((holder.name.as_deref(), holder.role), (Some("watcher"), AdminRole::Read));
    }

    #[test]
    fn two_fields_and_none_are_refused() {
        let tokens = tokens();
        assert!(matches!(super::check(&tokens, &HeaderMap::new()), Err(Problem::Unauthorized)));
        let field = (AUTHORIZATION, HeaderValue::from_static("Bearer t0ken"));
        let twice = HeaderMap::from_iter([field.clone(), field]);
        assert!(matches!(super::check(&tokens, &twice), Err(Problem::Unauthorized)));
        assert!(matches!(super::check(&[], &twice), Err(Problem::Off)));
    }
}

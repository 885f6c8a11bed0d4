//! The admin token, which guarded paths need.

use hyper::header::{AUTHORIZATION, HeaderMap};

use super::problem::Problem;
use crate::tenant::token::AdminToken;

/// Checks the token, and returns its fingerprint.
///
/// # Errors
/// `Off` where no token is configured, `Unauthorized` for a missing or another token.
pub(super) fn check(token: Option<&AdminToken>, headers: &HeaderMap) -> Result<String, Problem> {
    let token = token.ok_or(Problem::Off)?;
    let mut fields = headers.get_all(AUTHORIZATION).iter();
    let (Some(field), None) = (fields.next(), fields.next()) else { return Err(Problem::Unauthorized) };
    let (scheme, presented) = field.as_bytes().split_at_checked(SCHEME.len()).unwrap_or_default();
    if scheme.eq_ignore_ascii_case(SCHEME) && token.is(presented.trim_ascii()) {
        return Ok(token.fingerprint());
    }
    Err(Problem::Unauthorized)
}

const SCHEME: &[u8] = b"Bearer ";

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;
    use crate::config::Secret;

    #[test]
    fn one_token_opens() {
        let token = AdminToken::new(&Secret::new("t0ken"));
        let check = |field: &'static str| {
            let headers = HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_static(field))]);
            check(Some(&token), &headers).is_ok()
        };
        assert!(check("Bearer t0ken") && check("bearer  t0ken"));
        for wrong in
            ["", "t0ken", "Bearer", "Bearer ", "Bearert0ken", "Basic t0ken", "Bearer t0keN", "Bearer t0ken x"]
        {
            assert!(!check(wrong), "{wrong}");
        }
        assert_eq!(format!("{token:?}"), "***");
    }

    #[test]
    fn two_fields_and_none_are_refused() {
        let token = AdminToken::new(&Secret::new("t0ken"));
        assert!(matches!(super::check(Some(&token), &HeaderMap::new()), Err(Problem::Unauthorized)));
        let field = (AUTHORIZATION, HeaderValue::from_static("Bearer t0ken"));
        let twice = HeaderMap::from_iter([field.clone(), field]);
        assert!(matches!(super::check(Some(&token), &twice), Err(Problem::Unauthorized)));
        assert!(matches!(super::check(None, &twice), Err(Problem::Off)));
    }
}

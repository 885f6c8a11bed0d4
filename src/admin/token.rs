//! The admin token.

use std::fmt;

use hyper::header::{AUTHORIZATION, HeaderMap};
use sha2::{Digest, Sha256};

use super::problem::Problem;
use crate::config::Secret;

/// The digest of the configured token.
pub struct Token([u8; 32]);

impl Token {
    pub fn new(secret: &Secret) -> Self {
        Self(Sha256::digest(secret.expose()).into())
    }

    /// Takes the same time whatever is presented.
    fn is(&self, presented: &[u8]) -> bool {
        let presented: [u8; 32] = Sha256::digest(presented).into();
        let pairs = self.0.iter().zip(&presented);
        std::hint::black_box(pairs.fold(0, |unlike, (own, other)| unlike | (own ^ other))) == 0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// # Errors
/// `Off` where no token is configured, `Unauthorized` for everything but the one that is.
pub(super) fn check(token: Option<&Token>, headers: &HeaderMap) -> Result<(), Problem> {
    let token = token.ok_or(Problem::Off)?;
    let mut fields = headers.get_all(AUTHORIZATION).iter();
    let (Some(field), None) = (fields.next(), fields.next()) else { return Err(Problem::Unauthorized) };
    let (scheme, presented) = field.as_bytes().split_at_checked(SCHEME.len()).unwrap_or_default();
    if scheme.eq_ignore_ascii_case(SCHEME) && token.is(presented.trim_ascii()) {
        return Ok(());
    }
    Err(Problem::Unauthorized)
}

const SCHEME: &[u8] = b"Bearer ";

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    #[test]
    fn one_token_opens() {
        let token = Token::new(&Secret::new("t0ken"));
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
        let token = Token::new(&Secret::new("t0ken"));
        assert!(matches!(super::check(Some(&token), &HeaderMap::new()), Err(Problem::Unauthorized)));
        let field = (AUTHORIZATION, HeaderValue::from_static("Bearer t0ken"));
        let twice = HeaderMap::from_iter([field.clone(), field]);
        assert!(matches!(super::check(Some(&token), &twice), Err(Problem::Unauthorized)));
        assert!(matches!(super::check(None, &twice), Err(Problem::Off)));
    }
}

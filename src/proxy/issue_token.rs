//! Browser tokens, issued to the bearer of a key in the shape of DashScope's temporary keys.

use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hyper::header::{CACHE_CONTROL, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Response, StatusCode};
use serde_json::json;

use super::exchange::Exchange;
use super::observe::{self, Observed};
use super::rejection::Rejection;
use super::respond;
use super::worker::Proxy;
use crate::store::{Change, EarlierSecrets, LONGEST_TOKEN, Outcome, TokenSecret};
use crate::unified::UnifiedFault;

/// Answers with a token for the caller's key, which ends with the key at the latest.
///
/// # Errors
/// `BadField` for a life that DashScope does not offer; `NotLookedUp` if there is no secret to sign with and none can be
/// stored.
pub(super) async fn issue_token(
    proxy: &Proxy,
    request: &Parts,
    exchange: &Rc<Exchange>,
) -> Result<Response<Observed>, Rejection> {
    let caller = exchange.permit().caller();
    let asked = life(request.uri.query().unwrap_or(""))?;
    let most = caller.tenant().tokens.as_ref().map_or(LONGEST_TOKEN, |tokens| tokens.rules.longest());
    let ends_at = end(SystemTime::now(), asked.min(most), caller.expires());
    let signer = &proxy.shared.keyring.signer;
    let token = match caller.browser_token(signer, ends_at) {
        Some(token) => token,
        None => {
            keep_first_secret(proxy).await?;
            caller.browser_token(signer, ends_at).ok_or(Rejection::NotLookedUp)?
        }
    };
    let seconds = ends_at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let body = json!({ "token": token, "expires_at": seconds }).to_string();
    let mut response = respond::json(StatusCode::OK, body.into(), &respond::new_request_id());
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(observe::whole(response, exchange))
}

/// Stores a secret to sign with, unless another replica has done so.
async fn keep_first_secret(proxy: &Proxy) -> Result<(), Rejection> {
    let secret = TokenSecret::make(SystemTime::now()).map_err(|_| Rejection::NotLookedUp)?;
    let store = &proxy.shared.store;
    match store.commit(Change::KeepSecret { secret, earlier: EarlierSecrets::Stay }).await {
        Ok(Outcome::Made) => Ok(()),
        Ok(_) => store.catch_up().await.map_err(|_| Rejection::NotLookedUp),
        Err(_) => Err(Rejection::NotLookedUp),
    }
}

/// The life that a query asks for.
fn life(query: &str) -> Result<Duration, Rejection> {
    let value = |pair: &str| pair.strip_prefix("expire_in_seconds=").map(str::to_owned);
    let Some(written) = query.split('&').find_map(value) else { return Ok(USUAL) };
    let seconds = written.parse().ok().filter(|seconds| (1..=LONGEST_TOKEN.as_secs()).contains(seconds));
    let problem = format!("must be a number of seconds from 1 to {}", LONGEST_TOKEN.as_secs());
    let fault = UnifiedFault { field: Some("expire_in_seconds".into()), problem: problem.into() };
    seconds.map(Duration::from_secs).ok_or(Rejection::BadField(fault))
}

/// End of a token that is made at `now`: a whole second, so that it lives as long as was asked, but not longer than the
/// longest life, and not longer than its key.
fn end(now: SystemTime, life: Duration, key_ends: Option<SystemTime>) -> SystemTime {
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let asked = (since + life + Duration::from_nanos(999_999_999)).as_secs();
    let seconds = asked.min((since + LONGEST_TOKEN).as_secs());
    let ends = UNIX_EPOCH + Duration::from_secs(seconds);
    key_ends.map_or(ends, |key_ends| key_ends.min(ends))
}

/// The life that DashScope gives where a call names none.
const USUAL: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_lives_as_long_as_was_asked_and_never_too_long() {
        let at = |millis| UNIX_EPOCH + Duration::from_millis(millis);
        let life = Duration::from_secs;
        assert_eq!(end(at(10_000), life(60), None), at(70_000));
        assert_eq!(end(at(10_900), life(60), None), at(71_000));
        assert_eq!(end(at(10_900), LONGEST_TOKEN, None), at(1_810_000));
        assert_eq!(end(at(10_000), life(60), Some(at(30_000))), at(30_000));
    }

    #[test]
    fn a_life_is_read_as_dashscope_reads_it() {
        for (query, seconds) in
            [("", 60), ("a=b", 60), ("a=b&expire_in_seconds=1", 1), ("expire_in_seconds=1800", 1_800)]
        {
            assert_eq!(life(query), Ok(Duration::from_secs(seconds)), "{query}");
        }
        for query in
            ["expire_in_seconds=", "expire_in_seconds=0", "expire_in_seconds=1801", "expire_in_seconds=60s"]
        {
            assert!(matches!(life(query), Err(Rejection::BadField(_))), "{query}");
        }
    }
}

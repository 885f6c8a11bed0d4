//! Browser tokens: a new secret that signs them, for a case in which the old one has leaked.

use std::time::SystemTime;

use bytes::Bytes;
use hyper::StatusCode;
use serde::Deserialize;
use serde_json::json;

use super::Admin;
use super::audit::AuditEntry;
use super::body;
use super::problem::Problem;
use super::response::{AdminResponse, answer, moment};
use crate::store::{Change, EarlierSecrets, LONGEST_TOKEN, TokenSecret};

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct TokensRotation {
    /// Earlier tokens are refused at once.
    #[serde(default)]
    now: bool,
}

impl Admin {
    /// Makes a new secret. What earlier ones have signed counts for as long as a token lives, or no more.
    pub(super) async fn rotate_tokens(
        &self,
        body: Result<Bytes, Problem>,
        entry: &mut AuditEntry,
    ) -> Result<AdminResponse, Problem> {
        let body = body?;
        let TokensRotation { now: at_once } =
            if body.is_empty() { TokensRotation::default() } else { body::parse(&body)? };
        let earlier = if at_once { EarlierSecrets::End } else { EarlierSecrets::Retire };
        let _turn = self.changing.lock().await;
        let now = SystemTime::now();
        let secret = TokenSecret::make(now)?;
        let kept = self.shared.store.commit(Change::KeepSecret { secret, earlier }).await;
        kept.map_err(Problem::Unassured)?;
        let until = moment(if at_once { now } else { now + LONGEST_TOKEN });
        entry.until = Some(until.clone());
        Ok(answer(StatusCode::OK, &json!({ "old_until": until })))
    }
}

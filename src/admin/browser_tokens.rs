//! Browser tokens: a new secret that signs them, for a case in which the old one has leaked.

use std::time::SystemTime;

use hyper::StatusCode;
use serde_json::json;

use super::Admin;
use super::audit::AuditEntry;
use super::problem::Problem;
use super::response::{AdminResponse, answer, moment};
use crate::store::{Change, LONGEST_TOKEN, TokenSecret};

impl Admin {
    /// Makes a new secret. What earlier ones have signed counts for as long as a token lives.
    pub(super) async fn rotate_tokens(&self, entry: &mut AuditEntry) -> Result<AdminResponse, Problem> {
        let _turn = self.changing.lock().await;
        let now = SystemTime::now();
        let secret = TokenSecret::make(now)?;
        let kept = self.shared.store.commit(Change::KeepSecret { secret, replaces: true }).await;
        kept.map_err(Problem::Unassured)?;
        let until = moment(now + LONGEST_TOKEN);
        entry.until = Some(until.clone());
        Ok(answer(StatusCode::OK, &json!({ "old_until": until })))
    }
}

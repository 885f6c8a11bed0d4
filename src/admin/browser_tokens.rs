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
use crate::store::{
    Change, CommitFault, EarlierSecrets, LONGEST_TOKEN, Outcome, StoreCause, StoreFault, TokenSecret,
};

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
        self.keep_secret(earlier, now).await?;
        let until = moment(if at_once { now } else { now + LONGEST_TOKEN });
        entry.until = Some(until.clone());
        Ok(answer(StatusCode::OK, &json!({ "old_until": until })))
    }

    /// Stores a new secret, which is younger than those of other replicas.
    async fn keep_secret(&self, earlier: EarlierSecrets, now: SystemTime) -> Result<(), Problem> {
        let store = &self.shared.store;
        for _ in 0..MOST_TRIES {
            let secret = TokenSecret::make(self.shared.keyring.signer.next_made_at(now))?;
            let kept =
                store.commit(Change::KeepSecret { secret, earlier }).await.map_err(Problem::Unassured)?;
            if kept == Outcome::Made {
                return Ok(());
            }
            // Another replica has stored one that was made at the same time or later.
            store.catch_up().await.map_err(|fault| Problem::Unassured(CommitFault::NotMade(fault)))?;
        }
        let fault = StoreFault { store: store.path().into(), cause: StoreCause::Crowded };
        Err(Problem::Unassured(CommitFault::NotMade(fault)))
    }
}

/// Tries of a rotation. Only another one at the same moment makes a second try necessary.
const MOST_TRIES: usize = 8;

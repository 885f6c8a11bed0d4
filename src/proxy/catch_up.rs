//! Catch-up: a task or key that this replica does not know may be one that another replica has just recorded.

use std::time::SystemTime;

use hyper::http::request::Parts;

use super::authenticate::RefusedCaller;
use super::exchange::Exchange;
use super::peer::Peer;
use super::rejection::Rejection;
use super::worker::Proxy;
use crate::tenant::caller::{Caller, KeyHolder};

impl Proxy {
    /// Has other replicas' tasks be known where the tenant has no task of this id here. An invented id and one of another
    /// tenant take the same time.
    ///
    /// # Errors
    /// `NotLookedUp`: nobody knows whether there is such a task.
    pub(super) async fn look_for_task(&self, task_id: Option<&str>, tenant: &str) -> Result<(), Rejection> {
        let shared = &self.shared;
        let Some(id) = task_id.filter(|_| shared.store.has_replicas()) else { return Ok(()) };
        if shared.hub.task_index().owns(id, tenant) {
            return Ok(());
        }
        let caught_up = Box::pin(shared.store.catch_up()).await;
        caught_up.map_err(|_| Rejection::NotLookedUp)
    }

    /// Identifies a caller once more whose key is not known here.
    ///
    /// # Errors
    /// The refusal, or `NotLookedUp`: nobody knows whether there is such a key.
    pub(super) async fn look_for_key(
        &self,
        refused: RefusedCaller,
        peer: &Peer,
        exchange: &Exchange,
        request: &Parts,
        now: SystemTime,
    ) -> Result<Caller, Rejection> {
        let may_be_new = refused.is_of_unknown_key() && self.shared.store.has_replicas();
        let rejection = self.refuse_caller(refused, exchange);
        if !may_be_new || !matches!(rejection, Rejection::UnknownKey) {
            return Err(rejection);
        }
        self.shared.store.catch_up().await.map_err(|_| Rejection::NotLookedUp)?;
        self.identify(peer, exchange, request, now).map_err(|_| rejection)
    }

    /// Checks that a key made at run time is known well enough: while the database is away, nobody learns that another
    /// replica has revoked it.
    ///
    /// # Errors
    /// `NotLookedUp` once the database has been away for longer than the configuration allows.
    pub(super) fn check_is_known_lately(
        &self,
        caller: &Caller,
        exchange: &Exchange,
    ) -> Result<(), Rejection> {
        let most = exchange.directory().settings.store.refuse_stale_keys_after();
        let Some(most) = most.filter(|_| caller.is_issued()) else { return Ok(()) };
        if self.shared.store.exchange().away_for() <= most {
            return Ok(());
        }
        exchange.enter_holder(KeyHolder::Caller(caller.clone()));
        Err(Rejection::NotLookedUp)
    }
}

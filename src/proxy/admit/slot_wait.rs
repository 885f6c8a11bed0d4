//! The second try of a submit for which all slots for tasks are taken: a task that holds one may have ended meanwhile.

use std::time::{Instant, SystemTime};

use super::permit::Permit;
use super::take;
use crate::limits::{Limit, LimitKind, LimitRefusal, LimitScope};
use crate::polling::SlotHolder;
use crate::proxy::exchange::Exchange;
use crate::proxy::rejection::Rejection;
use crate::proxy::worker::Proxy;
use crate::telemetry::stopwatch::Awaited;
use crate::tenant::caller::Caller;
use crate::tenant::directory::Tenant;

/// A submit that found no slot, before its client is told.
#[derive(Debug)]
pub(in crate::proxy) struct SlotWait<'e> {
    pub(super) exchange: &'e Exchange,
    /// `None` once the submit is admitted.
    pub(super) caller: Option<Caller>,
    pub(super) adds_async: bool,
    pub(super) refusal: LimitRefusal,
}

impl<'e> SlotWait<'e> {
    /// The tenant of the submit.
    pub(in crate::proxy) fn tenant(&self) -> Option<&Tenant> {
        self.caller.as_ref().map(Caller::tenant)
    }

    /// Tries once more if a task that holds a slot has ended.
    ///
    /// # Errors
    /// `Limited`, or the fault of a key that was revoked meanwhile.
    pub(in crate::proxy) async fn admit(mut self: Box<Self>, proxy: &Proxy) -> Result<&'e Permit, Rejection> {
        let (exchange, refusal) = (self.exchange, self.refusal.clone());
        let Some(caller) = &self.caller else { return Err(Rejection::Limited(refusal)) };
        take_late(caller, refusal.clone(), proxy, exchange).await?;
        if let Some(fault) = caller.fault(&proxy.shared.directory.load(), SystemTime::now()) {
            return Err(fault.into());
        }
        let caller = self.caller.take().ok_or(Rejection::Limited(refusal))?;
        let (adds_async, submits, kind) = (self.adds_async.into(), true.into(), LimitKind::Submit.into());
        Ok(exchange.enter_permit(Permit { caller, adds_async, submits, kind }))
    }
}

/// Also where the client has left: the exchange is recorded with its caller.
impl Drop for SlotWait<'_> {
    fn drop(&mut self) {
        if let Some(caller) = self.caller.take() {
            self.exchange.enter_refused(caller);
        }
    }
}

/// Takes from the caller's limits what a submit needs, after a first try that was refused and so has taken nothing. Where
/// it was refused for want of a slot, some of the caller's tasks without fresh news are asked for first, and this try
/// waits until one is known to have ended.
///
/// # Errors
/// `Limited`, with the first refusal unless a task has ended; then nothing is taken.
pub(super) async fn take_late(
    caller: &Caller,
    refusal: LimitRefusal,
    proxy: &Proxy,
    exchange: &Exchange,
) -> Result<(), Rejection> {
    let key_id = match refusal.limit {
        Limit::Tasks { scope: LimitScope::Key, most: _ } => Some(caller.key_id()),
        Limit::Tasks { scope: LimitScope::Tenant, most: _ } => None,
        Limit::Rate { .. } | Limit::Concurrent { .. } => return Err(Rejection::Limited(refusal)),
    };
    let holder = SlotHolder { tenant: &caller.tenant().name, key_id };
    let max_age = caller.directory().settings.poll.max_age;
    let turn = exchange.stopwatch.start_waiting(Awaited::Turn);
    let is_found = proxy.shared.hub.find_end(holder, max_age, Instant::now()).await;
    drop(turn);
    if !is_found {
        return Err(Rejection::Limited(refusal));
    }
    take(caller, LimitKind::Submit, &proxy.shared.limits, exchange).map_err(Rejection::Limited)
}

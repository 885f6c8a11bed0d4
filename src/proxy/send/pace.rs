//! Pace: a submit waits for its turn, for a while, before it is refused.

use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use hyper::header::HeaderMap;
use tokio::sync::oneshot;
use tokio::time::{sleep, sleep_until};

use super::choose::Choice;
use crate::account::Account;
use crate::account::choice::{NoneAvailable, Pick, TriedAccounts};
use crate::account::pace::{Dispatcher, NextTurn, PaceRequest, SubmitPace, SubmitSlot};
use crate::account::shared_pace::{SharedPaces, Unanswered};
use crate::dashscope::headers;
use crate::polling::hub::PollHub;
use crate::proxy::admit::permit::Permit;
use crate::proxy::exchange::Exchange;
use crate::proxy::rejection::Rejection;
use crate::proxy::worker::Proxy;
use crate::telemetry::stopwatch::{Awaited, Stopwatch};

/// The end of a submit's longest wait, and the sign that its client has left.
pub(in crate::proxy) struct SubmitWait {
    until: Instant,
    client: oneshot::Receiver<Infallible>,
    /// The exchange's stopwatch.
    stopwatch: Rc<Stopwatch>,
}

/// Why no attempt follows.
pub(in crate::proxy) enum NoAttempt {
    AllOut(NoneAvailable),
    Refused(Rejection),
}

/// A submit that asks one account for a turn.
struct PacedSubmit<'a> {
    pace: Arc<SubmitPace>,
    ask: PaceRequest<'a>,
    account: &'a Account,
    model: &'a str,
}

impl SubmitWait {
    /// The client can ask for another wait than the configured one. When the client leaves, the sender of `client` is
    /// dropped.
    pub(in crate::proxy) fn new(
        permit: &Permit,
        asked: &HeaderMap,
        client: oneshot::Receiver<Infallible>,
        exchange: &Exchange,
    ) -> Self {
        let usual = permit.directory().settings.submit.max_wait;
        let until = Instant::now() + headers::wait_timeout(asked).unwrap_or(usual);
        Self { until, client, stopwatch: Rc::clone(&exchange.stopwatch) }
    }
}

impl Proxy {
    /// Chooses the next attempt: an account that takes it now, else the one that will be first. A call without a
    /// `SubmitWait` is not paced.
    pub(in crate::proxy) async fn next<'d>(
        &self,
        choice: &Choice<'d>,
        permit: &Permit,
        tried: &TriedAccounts,
        submit_wait: &mut Option<SubmitWait>,
    ) -> Result<(Pick<'d>, Option<SubmitSlot>), NoAttempt> {
        let pick = |tried: &TriedAccounts| choice.pick(&self.shared.accounts, tried, Instant::now());
        let Some(submit_wait) = submit_wait else {
            return pick(tried).map(|pick| (pick, None)).map_err(NoAttempt::AllOut);
        };
        loop {
            let mut without = tried.clone();
            let mut first: Option<(Option<Instant>, usize, PacedSubmit<'_>)> = None;
            let out = loop {
                let pick = match pick(&without) {
                    Ok(pick) => pick,
                    Err(out) => break out,
                };
                let now = Instant::now();
                let Some(paced) = self.paced(choice, permit, pick.account, now) else {
                    return Ok((pick, None));
                };
                if let Some(mut start) = paced.pace.start(&paced.ask, now)
                    && self.confirm(&paced, &mut start).await.map_err(NoAttempt::Refused)?
                {
                    return Ok((pick, Some(start)));
                }
                without.exclude(pick.index);
                let turn = paced.pace.turn(&paced.ask, now);
                let is_sooner = |(best, _, _): &(Option<Instant>, usize, PacedSubmit<'_>)| {
                    turn.is_some_and(|turn| best.is_none_or(|best| turn < best))
                };
                if first.as_ref().is_none_or(is_sooner) {
                    first = Some((turn, pick.index, paced));
                }
            };
            let Some((_, index, paced)) = first else { return Err(NoAttempt::AllOut(out)) };
            let start = Box::pin(self.wait(paced, submit_wait)).await.map_err(NoAttempt::Refused)?;
            // The account may have been ejected meanwhile; then another one may be left.
            if let Ok(pick) = pick(&tried.excluding_all_but(index, permit.tenant().accounts.iter().copied()))
            {
                return Ok((pick, Some(start)));
            }
        }
    }

    /// True if the replicas together leave room for a submit.
    async fn confirm(&self, paced: &PacedSubmit<'_>, start: &mut SubmitSlot) -> Result<bool, Rejection> {
        let Some(paces) = &self.shared.paces else { return Ok(true) };
        let cell = SharedPaces::cell(&paced.account.name, paced.model);
        paces.confirm(&cell, start).await.map_err(|_| Rejection::StoreUnavailable)
    }

    fn paced<'a>(
        &self,
        choice: &'a Choice<'_>,
        permit: &'a Permit,
        account: &'a Account,
        now: Instant,
    ) -> Option<PacedSubmit<'a>> {
        let model = choice.model.as_deref()?;
        let (pace, rule) = account.pace(model, now)?;
        let (tenant, running) = (permit.tenant(), self.running(account, model, rule.running));
        let ask = PaceRequest { rule, tenant: &tenant.name, weight: tenant.weight, running };
        Some(PacedSubmit { pace, ask, account, model })
    }

    /// Number of the model's running tasks, counted only if it is limited.
    fn running(&self, account: &Account, model: &str, limit: Option<u32>) -> u32 {
        limit.map_or(0, |_| self.shared.hub.task_index().running(&account.name, model, SystemTime::now()))
    }

    /// Waits in the account's queue. Nothing was sent yet, so a client that leaves only gives up its place.
    async fn wait(
        &self,
        mut paced: PacedSubmit<'_>,
        submit_wait: &mut SubmitWait,
    ) -> Result<SubmitSlot, Rejection> {
        let until = submit_wait.until;
        let _turn = submit_wait.stopwatch.start_waiting(Awaited::Turn);
        let (mut place, lead) = match paced.pace.wait(&paced.ask, until, Instant::now()) {
            Ok(place) => place,
            Err(wait) => return Err(paced.rejection(wait)),
        };
        if let Some(lead) = lead {
            let (name, model) = (Arc::clone(&paced.account.name), Box::from(paced.model));
            let paces = self.shared.paces.clone().map(|paces| (paces, SharedPaces::cell(&name, &model)));
            tokio::task::spawn_local(give_turns(lead, Arc::clone(&self.shared.hub), name, model, paces));
        }
        let called = tokio::select! {
            biased;
            _ = &mut submit_wait.client => None,
            () = self.draining.cancelled() => return Err(Rejection::Draining),
            called = place.called() => called,
            () = sleep_until(until.into()) => None,
        };
        called.ok_or_else(|| {
            paced.ask.running = self.running(paced.account, paced.model, paced.ask.rule.running);
            let wait = paced.pace.refuse(&paced.ask, Instant::now());
            paced.rejection(wait)
        })
    }
}

impl PacedSubmit<'_> {
    /// The refusal that names the limit.
    fn rejection(&self, wait: Duration) -> Rejection {
        let rule = self.ask.rule;
        let is_full = self.pace.turn(&self.ask, Instant::now()).is_none();
        let limit = match (rule.requests_per_second.filter(|_| !is_full), rule.running) {
            (None, Some(running)) => format!("{running} running tasks"),
            (submits, _) => format!("{} submits per second", submits.unwrap_or_default()),
        };
        Rejection::Paced { limit: limit.into(), model: self.model.into(), wait }
    }
}

/// Gives turns to the submits in one queue, until none waits. One worker does it for the submits of all workers.
async fn give_turns(
    mut lead: Dispatcher,
    hub: Arc<PollHub>,
    account: Arc<str>,
    model: Box<str>,
    paces: Option<(SharedPaces, Arc<str>)>,
) {
    loop {
        let limit = lead.rule().running;
        let running = limit.map_or(0, |_| hub.task_index().running(&account, &model, SystemTime::now()));
        match (lead.next(running, Instant::now()), &paces) {
            (NextTurn::Over, _) => return,
            (NextTurn::At(next), _) => sleep_until(next.into()).await,
            (NextTurn::Start(slot), None) => lead.give(slot),
            (NextTurn::Start(mut slot), Some((paces, cell))) => match paces.confirm(cell, &mut slot).await {
                Ok(true) => lead.give(slot),
                Ok(false) => {}
                Err(Unanswered) => sleep(UNTIL_AN_ANSWER).await,
            },
        }
    }
}

/// Pause after a store that does not answer.
const UNTIL_AN_ANSWER: Duration = Duration::from_millis(200);

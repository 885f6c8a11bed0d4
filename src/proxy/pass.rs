//! A call whose answer is passed on as it comes.

use std::rc::Rc;
use std::time::{Duration, Instant};

use hyper::{Response, StatusCode, Version};
use tokio::time::timeout_at;

use super::await_answer;
use super::exchange::Exchange;
use super::observe::{self, Observed};
use super::passage::{Destination, Passage};
use super::reading_on::reads_on;
use super::rejection::Rejection;
use super::worker::Proxy;
use crate::dashscope::operation::Operation;
use crate::dashscope::task_id::TaskId;
use crate::polling::{CallPermit, PacedCall};
use crate::telemetry::stopwatch::Awaited;
use crate::upstream::Download;

impl Proxy {
    /// Sends a call and passes its answer on.
    pub(super) async fn pass(
        self: &Rc<Self>,
        passage: Box<Passage>,
    ) -> Result<Response<Observed>, Rejection> {
        let exchange = Rc::clone(&passage.exchange);
        let version = passage.request.version;
        let route = passage.route();
        if route.operation.is_inference() && reads_on(exchange.permit().tenant()) {
            let (proxy, held) = (Rc::clone(self), Rc::clone(&exchange));
            let work = async move {
                let response = proxy.passed(passage, None).await?;
                Ok(proxy.deliver(response, &held, version))
            };
            return await_answer::await_answer(work, &exchange).await;
        }
        let cancels = (route.operation == Operation::TaskCancel)
            .then(|| TaskId::from(route.task_id().unwrap_or_default()));
        let is_poll = route.operation == Operation::TaskGet;
        let response = self.passed(passage, cancels.as_deref()).await?;
        if is_poll && response.status() != StatusCode::OK {
            // No SDK survives an error in the middle of its wait, but for this one.
            return Err(Rejection::NoLiveKey);
        }
        Ok(self.deliver(response, &exchange, version))
    }

    /// Passes an answer on as it comes.
    pub(super) fn deliver(
        &self,
        response: Response<Download>,
        exchange: &Rc<Exchange>,
        version: Version,
    ) -> Response<Observed> {
        if version == Version::HTTP_2 {
            let (response, carry) = observe::pump(response, exchange);
            tokio::task::spawn_local(carry);
            return response;
        }
        observe::stream(response, exchange)
    }

    /// Sends a call and waits for the head of its answer. A call on a task, such as a cancel of `cancels`, waits for its
    /// turn first.
    pub(super) async fn passed(
        &self,
        passage: Box<Passage>,
        cancels: Option<&str>,
    ) -> Result<Response<Download>, Rejection> {
        let exchange = Rc::clone(&passage.exchange);
        cancels.iter().for_each(|id| exchange.note_task(TaskId::from(*id)));
        let permit = match passage.destination {
            Destination::Task(index) => {
                Some(exchange.unless_revoked(Box::pin(self.turn(&passage, index)).as_mut()).await?)
            }
            Destination::Files(_) | Destination::Any => None,
        };
        let response = self.send(passage, None).await?;
        drop(permit);
        if let Some(task_id) = cancels.filter(|_| response.status().is_success()) {
            self.shared.hub.invalidate(task_id, Instant::now());
        }
        Ok(response)
    }

    /// Waits until the task's account may be sent a cancel or a poll: only so many may be sent in a second, and tenants
    /// take fair turns. The caller holds the permit until there is an answer.
    async fn turn(&self, passage: &Passage, account: usize) -> Result<CallPermit, Rejection> {
        let (permit, cancels) = (passage.permit(), passage.route().operation == Operation::TaskCancel);
        let account = &permit.directory().accounts[account].name;
        let turns = self.shared.hub.call_turns(account);
        let call = if cancels { PacedCall::Cancel } else { PacedCall::PassedPoll };
        let (now, tenant) = (Instant::now(), permit.tenant());
        let until = now + TURN_PATIENCE;
        let _turn = passage.exchange.stopwatch.start_waiting(Awaited::Turn);
        if let Ok(mut queued) = turns.wait(call, &tenant.name, tenant.weight, until, now)
            && let Ok(Some(call_permit)) = timeout_at(until.into(), queued.called()).await
            && self.shared.hub.shared_turn(account, call, until).await
        {
            return Ok(call_permit);
        }
        if !cancels {
            // Some SDKs give up a task at 429; all ask again at 503.
            return Err(Rejection::NoLiveKey);
        }
        let now = Instant::now();
        let turn = turns.turn(call, &tenant.name, tenant.weight, now);
        Err(Rejection::AccountsOut(turn.saturating_duration_since(now)))
    }
}

/// Longest wait of a call for its turn. A call whose turn is further ahead is refused.
const TURN_PATIENCE: Duration = Duration::from_secs(5);

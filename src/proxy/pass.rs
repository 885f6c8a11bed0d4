//! A call whose answer is passed on as it comes.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::{Response, StatusCode, Version};

use super::exchange::Exchange;
use super::observe::{self, Observed};
use super::passage::{Destination, Passage};
use super::rejection::Rejection;
use super::worker::Proxy;
use crate::dashscope::operation::Operation;
use crate::polling::{CallPermit, TaskEndpoint};
use crate::telemetry::stopwatch::Awaited;
use crate::upstream::Download;

impl Proxy {
    /// Sends a call and passes its answer on.
    pub(super) async fn pass(&self, passage: Box<Passage>) -> Result<Response<Observed>, Rejection> {
        let exchange = Rc::clone(&passage.exchange);
        let version = passage.request.version;
        let route = passage.route();
        let cancels = (route.operation == Operation::TaskCancel)
            .then(|| Arc::from(route.task_id().unwrap_or_default()));
        let response = self.passed(passage, cancels.as_ref()).await?;
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

    /// Sends a call and waits for the head of its answer. A call that cancels the task `cancels` waits for its turn
    /// first.
    pub(super) async fn passed(
        &self,
        passage: Box<Passage>,
        cancels: Option<&Arc<str>>,
    ) -> Result<Response<Download>, Rejection> {
        let exchange = Rc::clone(&passage.exchange);
        cancels.iter().for_each(|id| exchange.note_task(id));
        let permit = match cancels {
            Some(_) => exchange.unless_revoked(Box::pin(self.turn_to_cancel(&passage)).as_mut()).await?,
            None => None,
        };
        let response = exchange.unless_revoked(self.send(passage, None).as_mut()).await?;
        drop(permit);
        if let Some(task_id) = cancels.filter(|_| response.status() == StatusCode::OK) {
            self.shared.hub.invalidate(task_id, Instant::now());
        }
        Ok(response)
    }

    /// Waits until the task's account may send another cancel: only so many may be sent in a second. The caller holds
    /// the permit until there is an answer.
    async fn turn_to_cancel(&self, passage: &Passage) -> Result<Option<CallPermit>, Rejection> {
        let Destination::Task(index) = passage.destination else { return Ok(None) };
        let poller = self.shared.hub.account_poller(&passage.permit().directory().accounts[index].name);
        let deadline = Instant::now() + CANCEL_PATIENCE;
        let _turn = passage.exchange.stopwatch.start_waiting(Awaited::Turn);
        loop {
            match CallPermit::take(&poller, TaskEndpoint::Cancel, Instant::now()) {
                Ok(permit) => return Ok(Some(permit)),
                Err(time) if time > deadline => return Err(Rejection::AccountsOut(CANCEL_PATIENCE)),
                Err(time) => tokio::time::sleep_until(time.into()).await,
            }
        }
    }
}

/// Longest wait of a cancel for its turn. A cancel whose turn is further ahead is refused.
const CANCEL_PATIENCE: Duration = Duration::from_secs(5);

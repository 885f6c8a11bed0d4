//! In place of the stages that send, in the unified dialect: a delete cancels what waits to run, and hides what has
//! ended.

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use hyper::http::request::Parts;
use hyper::{Method, Response, StatusCode, Uri};

use super::admit::Permit;
use super::choose::Destination;
use super::exchange::Exchange;
use super::judge;
use super::observe::{self, Observed};
use super::rejection::Rejection;
use super::route::Route;
use super::video_fault::VideoFault;
use super::{Passage, Proxy, poll, present, translate};
use crate::dashscope::operation::Operation;
use crate::dashscope::task::Status;
use crate::polling::Watch;
use crate::unified::outcome::Outcome;
use crate::upstream::Upload;

impl Proxy {
    /// # Errors
    /// `VideoRuns` if it can neither be cancelled nor has ended; `StoreUnavailable` if it could not be noted;
    /// whatever a cancel is refused for.
    pub(super) async fn discard(
        &self,
        permit: Permit,
        route: &Route,
        request: Box<Parts>,
        watch: &Arc<Watch>,
        exchange: &Rc<Exchange>,
    ) -> Result<Response<Observed>, Rejection> {
        let id = watch.id();
        exchange.note_task(id);
        let has_ended = self.hub.ledger().task(id).is_none_or(|task| task.status.is_final());
        if !has_ended && let Some(refused) = self.cancel(permit, route, request, watch, exchange).await? {
            return Ok(observe::whole(refused, exchange));
        }
        self.hub.ledger().hide(id).await.map_err(|fault| {
            tracing::error!(task_id = &**id, %fault, "a delete could not be noted");
            Rejection::StoreUnavailable
        })?;
        Ok(observe::whole(present::deleted(id), exchange))
    }

    /// Cancels the task; `None` if it will not run any more. Else what the upstream says.
    async fn cancel(
        &self,
        permit: Permit,
        route: &Route,
        request: Box<Parts>,
        watch: &Arc<Watch>,
        exchange: &Rc<Exchange>,
    ) -> Result<Option<Response<Bytes>>, Rejection> {
        let accounts = &permit.directory().accounts;
        let index = accounts.iter().position(|account| account.name == *watch.account());
        let destination = Destination::Task(index.ok_or(Rejection::UpstreamUnreachable)?);
        let path = format!("/api/v1/tasks/{}/cancel", watch.id());
        let route = route.natively(Operation::TaskCancel, path);
        let request = translate::without_body(request, Method::POST, Uri::from_static("/"));
        let body = Upload::empty();
        let of = Rc::clone(exchange);
        let passage =
            Passage { permit: permit.clone(), route, destination, request, body, exchange: of, asked: None };
        let mut response = self.passed(Box::new(passage), Some(watch.id())).await?;
        if response.status() == StatusCode::OK {
            return Ok(None);
        }
        if response.status() != StatusCode::BAD_REQUEST {
            let text = judge::plain(&mut response, judge::MOST_BYTES).await.unwrap_or_default();
            return Ok(Some(present::refused(response.status(), response.headers(), &text)));
        }
        // It was not pending: it has ended meanwhile, or it runs.
        self.hub.outdate(watch.id());
        let polled = poll::news(self, &permit, watch, None, exchange).await?;
        let outcome = Outcome::read(&polled.answer.body);
        match outcome.map(|outcome| outcome.status) {
            Some(status) if status.is_final() || status == Status::Unknown => Ok(None),
            Some(_) | None => {
                Err(Rejection::Video(VideoFault::Runs("DashScope cancels only what has not begun to run")))
            }
        }
    }
}

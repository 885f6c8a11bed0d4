//! The life of one request: one file for each stage, named by the stage's verb.
//!
//! ```text
//! route ▶ (cors) ▶ authenticate ▶ admit ▶ authorize ▶ (translate) ▶ (decide) ▶ inspect ▶ (ask_usage) ▶ resolve ─┐
//!                                DashScope ◀── send ◀── submit, pass or tunnel ◀───────────────────────┘
//!   respond ◀── Rejection ◀── any stage          │
//!   observe(body, exchange) ◀── claim, of a submit
//!   the exchange is recorded when it is dropped, however it ended
//! ```

mod admit;
mod adopt;
mod ask_usage;
mod authenticate;
mod authorize;
mod await_answer;
mod catch_up;
mod claim;
mod cors;
mod current_tenant;
mod decide;
mod detach;
mod exchange;
mod held_key;
mod held_money;
mod inspect;
mod issue_token;
mod list;
mod meter;
mod models;
mod money_fault;
mod observe;
mod orphan_list;
mod own;
mod pass;
mod passage;
pub mod peer;
mod poll;
mod presented_key;
mod query_model;
mod read_model;
mod reading_on;
mod refusal_row;
mod refuse_storage;
mod rejection;
mod replay;
mod replicas;
mod resolve;
mod respond;
mod response_fault;
mod route;
mod send;
mod shared;
mod socket_judge;
mod socket_meter;
mod submit;
mod subprotocol;
mod take_usage;
mod take_webhook;
mod tunnel;
mod unread;
pub mod upgrade;
mod videos;
mod worker;

use std::convert::Infallible;
use std::pin::pin;
use std::rc::Rc;
use std::time::{Instant, SystemTime};

use hyper::body::{Body, Incoming};
use hyper::header::{CONNECTION, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Request, Response, StatusCode, Version};

pub use adopt::{AssignFault, Assigned, NamedOwner};
pub use exchange::recorder::Recorder;
pub use exchange::revoke::LiveExchanges;
pub use observe::Observed;
pub use own::balance::budgets_in_use;
pub use own::key::{both_limits_in_use, tenant_limits_in_use};
pub use shared::Shared;
pub use worker::Proxy;

use crate::tenant::directory::Tenant;
use crate::upstream::{BEGINNING_BYTES, BudgetShare, Keep, Upload};
use admit::NotAdmitted;
use admit::permit::Permit;
use authorize::Verdict;
use exchange::Exchange;
use passage::{Destination, Passage};
use peer::Peer;
use rejection::Rejection;
use upgrade::UpgradeFields;

impl Proxy {
    /// Answers a request. It never fails: every failure becomes an answer to the client.
    ///
    /// # Errors
    /// None.
    pub async fn serve(
        self: Rc<Self>,
        peer: Peer,
        request: Request<Incoming>,
    ) -> Result<Response<Observed>, Infallible> {
        let (head, body) = request.into_parts();
        // The head is boxed, because it is moved from stage to stage.
        let head = Box::new(head);
        let directory = self.shared.directory.load_full();
        let exchange = Exchange::begin(&self.recorder, directory, &peer, &head, Instant::now());
        let exchange = Rc::new(exchange);
        exchange.trace(&head.headers);
        let version = head.version;
        let origin = cors::origin(&head.headers).cloned();
        let wants_tunnel = UpgradeFields::of(&head.headers).ask_for_websocket() && version != Version::HTTP_2;
        let mut body = Some(body);
        let answered = self.answer(&peer, &exchange, head, &mut body).await;
        exchange.conclude(&answered);
        let mut response = answered.unwrap_or_else(|rejection| {
            observe::whole(respond::refusal(&rejection, &exchange, version), &exchange)
        });
        if let Some(standing) = exchange.standing.get() {
            respond::tell_standing(response.headers_mut(), standing);
        }
        if let Some(mount) = exchange.mount() {
            cors::share(response.headers_mut(), &mount.cors, origin.as_ref());
        }
        if version == Version::HTTP_2 {
            unread::discard(body, &exchange);
        } else if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            peer.connection.become_tunnel();
        } else if wants_tunnel
            || self.parting.get()
            || !unread::discard_small(body, &exchange, &peer.connection, &response)
        {
            // `server::checked_stream` does not check the bytes after a WebSocket handshake, so no further request may
            // follow.
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        Ok(response)
    }

    /// Housekeeping of a worker, twice a second: closes old connections, and ends exchanges whose key is not valid any
    /// more.
    pub fn sweep(&self, now: SystemTime) {
        self.upstream.sweep();
        self.live.sweep(&self.shared.directory.load(), now);
    }

    async fn answer(
        self: &Rc<Self>,
        peer: &Peer,
        exchange: &Rc<Exchange>,
        request: Box<Parts>,
        unread: &mut Option<Incoming>,
    ) -> Result<Response<Observed>, Rejection> {
        if self.draining.is_cancelled() {
            return Err(Rejection::Draining);
        }
        let now = SystemTime::now();
        let directory = exchange.directory();
        let route = route::route(directory, &request, &peer.connection)
            .inspect_err(|_| exchange.enter_unrouted(route::unrouted(directory, request.uri.path())))?;
        let route = exchange.enter(route);
        if cors::is_preflight(&request) {
            let answer = cors::preflight(&request, &route.mount(directory).cors)?;
            return Ok(observe::whole(answer, exchange));
        }
        let caller = match self.identify(peer, exchange, &request, now) {
            Ok(caller) => caller,
            Err(refused) => Box::pin(self.look_for_key(refused, peer, exchange, &request, now)).await?,
        };
        self.check_is_known_lately(&caller, exchange)?;
        self.live.enter(exchange, request.version != Version::HTTP_2);
        let bytes = unread.as_ref().map_or(0, |body| body.size_hint().lower());
        let admitted = admit::admit(caller, route, &request, bytes, &self.shared.limits, exchange);
        if replay::has_key(&request.headers)
            && let Some(tenant) = submitter(&admitted)
            && let Some(earlier) = replay::begin(self, exchange, tenant, &request.headers).await?
        {
            let body = || self.upload_to_compare(exchange, tenant, unread.take());
            return Box::pin(replay::replay(&earlier, &request, body, exchange)).await;
        }
        let permit = match admitted {
            Ok(permit) => permit,
            Err(NotAdmitted::Refused(rejection)) => return Err(rejection),
            Err(NotAdmitted::NoSlot(wait)) => Box::pin(wait.admit(self)).await?,
        };
        self.look_for_task(route.task_id(), &permit.tenant().name).await?;
        let mount = route.mount(directory);
        let verdict = authorize::authorize(&self.shared.hub, permit, route, &request, now)?;
        let is_create = matches!(verdict, Verdict::VideoCreate);
        let destination = match verdict {
            Verdict::Forward(destination) => destination,
            Verdict::VideoCreate => Destination::Any,
            Verdict::Answer { status, body, request_id } => {
                return Ok(observe::whole(respond::json(status, body, &request_id), exchange));
            }
            Verdict::Poll(task) => {
                let show = |answer: &_| Ok(poll::native(answer));
                match poll::poll(self, &request.headers, &task, exchange, &show).await {
                    Err(Rejection::AnswerTooLarge) => poll::passed(self, directory, &task)?,
                    answered => return answered,
                }
            }
            Verdict::VideoGet(task) => {
                let show = |answer: &_| {
                    videos::respond::video(&self.shared.hub, &task.id(), mount.video_statuses, answer)
                };
                return poll::poll(self, &request.headers, &task, exchange, &show).await;
            }
            Verdict::TaskView(task) => {
                let show = |answer: &_| videos::respond::task(&self.shared.hub, &task.id(), answer);
                return poll::poll(self, &request.headers, &task, exchange, &show).await;
            }
            Verdict::TaskList => return Box::pin(list::list(self, &request, exchange)).await,
            Verdict::VideoList => return Box::pin(videos::list::list(self, &request, exchange)).await,
            Verdict::Models => return Box::pin(models::show(self, &request, exchange)).await,
            Verdict::Token => return Box::pin(issue_token::issue_token(self, &request, exchange)).await,
            Verdict::KeyRotation => {
                let body = self.small_body(exchange, unread.take());
                return Box::pin(own::rotate_key(self, body, exchange)).await;
            }
            Verdict::OwnView(view) => return Box::pin(own::show(self, view, &request, exchange)).await,
            Verdict::VideoDelete(task) => {
                return Box::pin(videos::delete::delete(self, request, &task, exchange)).await;
            }
            Verdict::VideoContent(task) => {
                return Box::pin(videos::content::fetch(self, &request, &task, exchange)).await;
            }
        };
        let passage = self.passage(exchange, destination, request, unread.take());
        self.send_on(passage, is_create).await
    }

    /// Joins a request with what was found out about it.
    fn passage(
        &self,
        exchange: &Rc<Exchange>,
        destination: Destination,
        request: Box<Parts>,
        body: Option<Incoming>,
    ) -> Box<Passage> {
        let submits = exchange.permit().submits() || decide::is_open(exchange.permit(), exchange.route());
        let may_repeat = submits || destination != Destination::Any;
        let keep = if may_repeat { Keep::Whole } else { Keep::Beginning };
        let stopwatch = Rc::clone(&exchange.stopwatch);
        let server = &exchange.directory().settings.server;
        let body = body.map_or_else(Upload::empty, |body| {
            let budget_share = self.budget_share(exchange, &body);
            Upload::new(body, server, keep, budget_share, stopwatch)
        });
        if submits && replay::has_key(&request.headers) {
            replay::watch(exchange, &body);
        }
        let progress = body.progress();
        if exchange.permit().tenant().billing.prices.is_some() {
            progress.seek_last_model();
        }
        let _ = exchange.upload.set(progress);
        let exchange = Rc::clone(exchange);
        Box::new(Passage { exchange, native: None, destination, request, body, asked: None, webhook: None })
    }

    /// The body of a call that the gateway answers itself.
    fn small_body(&self, exchange: &Exchange, body: Option<Incoming>) -> Upload {
        let (server, stopwatch) = (&exchange.directory().settings.server, Rc::clone(&exchange.stopwatch));
        body.map_or_else(Upload::empty, |body| Upload::new(body, server, Keep::Beginning, None, stopwatch))
    }

    /// The share of the buffer budget for a body, with a bound for its tenant if there are others. `None` for a body that
    /// is surely as small as the beginning that is kept of each.
    fn budget_share(&self, exchange: &Exchange, body: &Incoming) -> Option<BudgetShare> {
        if body.size_hint().upper().is_some_and(|most| most <= BEGINNING_BYTES as u64) {
            return None;
        }
        let budget = &self.shared.buffer_budget;
        Some(match exchange.directory().tenants() {
            [_] => BudgetShare::nothing(budget),
            _ => BudgetShare::nothing_of(budget, &exchange.permit().tenant().name),
        })
    }

    /// Sends an authorized request and answers the client.
    async fn send_on(
        self: &Rc<Self>,
        mut passage: Box<Passage>,
        is_create: bool,
    ) -> Result<Response<Observed>, Rejection> {
        let exchange = Rc::clone(&passage.exchange);
        let prepared = exchange.unless_revoked(pin!(self.prepare(&mut passage, is_create))).await;
        if prepared.as_ref().is_err_and(Rejection::is_of_caller) {
            exchange.standing.set(self.shared.limits.give_back(exchange.admitted.take()));
        }
        prepared?;
        if exchange.permit().submits()
            && let Some(earlier) =
                replay::begin(self, &exchange, exchange.permit().tenant(), &passage.request.headers).await?
        {
            let Passage { request, body, .. } = *passage;
            return Box::pin(replay::replay(&earlier, &request, || body, &exchange)).await;
        }
        match (exchange.permit().submits(), passage.route().operation.is_socket()) {
            (true, _) => self.submit(passage).await,
            (false, true) => Box::pin(self.tunnel(passage)).await,
            (false, false) => self.pass(passage).await,
        }
    }

    /// Reads of the body what must be known before anything is sent.
    async fn prepare(&self, passage: &mut Passage, is_create: bool) -> Result<(), Rejection> {
        if is_create {
            Box::pin(videos::translate::translate(self, passage)).await?;
        }
        if decide::is_open(passage.permit(), passage.route()) {
            Box::pin(decide::decide(self, passage)).await?;
        }
        passage.webhook = take_webhook::take_webhook(passage)?;
        let streams = inspect::inspect(passage).await?.streams;
        refuse_storage::refuse_storage(passage).await?;
        ask_usage::ask_usage(passage).await?;
        let Passage { exchange, request, body, destination, .. } = passage;
        let permit = exchange.permit();
        if streams {
            admit::become_stream(permit, &self.shared.limits, exchange)?;
        }
        if *destination == Destination::Any
            && let Some(account) = resolve::resolve(&self.shared.uploads, permit, request, body).await?
        {
            *destination = Destination::Files(account);
        }
        Ok(())
    }
}

/// The tenant of a call that makes a task, if it is admitted, or would be but for its slots: a submit that is sent again
/// needs none.
fn submitter<'a>(admitted: &'a Result<&Permit, NotAdmitted<'_>>) -> Option<&'a Tenant> {
    match admitted {
        Ok(permit) => permit.submits().then(|| permit.tenant()),
        Err(NotAdmitted::NoSlot(wait)) => wait.tenant(),
        Err(NotAdmitted::Refused(_)) => None,
    }
}

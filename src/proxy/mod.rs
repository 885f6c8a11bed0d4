//! The life of one request: a file a stage, named by its verb.
//!
//! ```text
//! route ▶ authenticate ▶ admit ▶ authorize ▶ (translate) ▶ inspect ▶ resolve ▶ choose ▶ pace ▶ rewrite ▶ forward ─▶ DashScope
//!   respond ◀── Rejection ◀── any stage                            ▲ attempt again ◀── judge ◀── ▼
//!   observe(body, exchange) ◀── claim ◀──────────────────────────────────────── rewrite(response)
//!   record, when the exchange is dropped, however it ended
//! ```

mod admit;
mod authenticate;
mod authorize;
mod claim;
mod detach;
mod exchange;
mod inspect;
mod observe;
pub mod peer;
mod poll;
mod rejection;
mod resolve;
mod respond;
mod route;
mod send;
mod tunnel;
mod videos;

use std::cell::Cell;
use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use hyper::body::{Body, Incoming};
use hyper::header::{CONNECTION, HeaderValue};
use hyper::http::request::Parts;
use hyper::upgrade::OnUpgrade;
use hyper::{Request, Response, StatusCode, Version};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use exchange::record::Recorder;
pub use exchange::revoke::LiveExchanges;
pub use observe::Observed;

use crate::account::AccountRegistry;
use crate::account::uploads::UploadDirectories;
use crate::dashscope::operation::Operation;
use crate::limits::{self, AuthFailures};
use crate::polling::hub::PollHub;
use crate::polling::{CallPermit, TaskEndpoint};
use crate::telemetry::stopwatch::Awaited;
use crate::tenant::directory::Directory;
use crate::tenant::keyring::Keyring;
use crate::unified::RequestedVideo;
use crate::upstream::{BufferBudget, Download, Keep, Upload, Upstream};
use admit::Permit;
use authorize::Verdict;
use detach::DetachOnDrop;
use exchange::Exchange;
use peer::Peer;
use rejection::Rejection;
use route::Route;
use send::choose::Destination;

/// One worker's share of the gateway.
pub struct Proxy {
    pub directory: Arc<ArcSwap<Directory>>,
    pub keyring: Arc<Keyring>,
    pub hub: Arc<PollHub>,
    pub accounts: Arc<AccountRegistry>,
    pub uploads: Arc<UploadDirectories>,
    pub limits: Arc<limits::Registry>,
    pub auth_failures: Arc<AuthFailures>,
    /// For bodies that are read whole.
    pub buffer_budget: Arc<BufferBudget>,
    pub recorder: Rc<Recorder>,
    pub upstream: Upstream,
    pub draining: CancellationToken,
    /// Another process takes what connects: each connection here is told to close after its answer.
    pub parting: Cell<bool>,
    /// What may outlive its connection: submits that are read to their end, and tunnels.
    pub running: TaskTracker,
    /// Exchanges that end when their key does.
    pub live: Rc<LiveExchanges>,
}

impl Proxy {
    /// Answers a request. Never fails: what goes wrong is told to the client.
    ///
    /// # Errors
    /// None.
    pub async fn serve(
        self: Rc<Self>,
        peer: Peer,
        request: Request<Incoming>,
    ) -> Result<Response<Observed>, Infallible> {
        let (head, body) = request.into_parts();
        // In a box, as it is handed from stage to stage.
        let head = Box::new(head);
        let directory = self.directory.load_full();
        let exchange = Exchange::begin(&self.recorder, directory, &peer, head.method.clone(), Instant::now());
        let exchange = Rc::new(exchange);
        exchange.trace(&head.headers);
        let version = head.version;
        let wants_tunnel = admit::is_websocket(&head.headers) && version != Version::HTTP_2;
        let mut response = self.answer(&peer, &exchange, head, body).await.unwrap_or_else(|rejection| {
            observe::whole(respond::refusal(&rejection, &exchange, version), &exchange)
        });
        if let Some(standing) = exchange.standing.get() {
            respond::tell_standing(response.headers_mut(), standing);
        }
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            peer.connection.become_tunnel();
        } else if wants_tunnel || self.parting.get() && version != Version::HTTP_2 {
            // Below us nobody looks at what follows a handshake, so nothing may.
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        Ok(response)
    }

    /// What is to be done twice a second: old connections are closed, old tasks, keys and idle limits dropped, and exchanges
    /// whose key died are cut.
    pub fn sweep(&self, now: SystemTime) {
        self.upstream.sweep();
        self.hub.task_index().tidy(now);
        self.keyring.tidy();
        self.limits.sweep(now);
        self.live.sweep(&self.directory.load(), now);
    }

    async fn answer(
        self: &Rc<Self>,
        peer: &Peer,
        exchange: &Rc<Exchange>,
        mut request: Box<Parts>,
        body: Incoming,
    ) -> Result<Response<Observed>, Rejection> {
        if self.draining.is_cancelled() {
            return Err(Rejection::Draining);
        }
        let now = SystemTime::now();
        let directory = exchange.directory();
        let (mount, surface) = route::foresee(directory, request.uri.path());
        exchange.mount.set(mount);
        exchange.surface.set(surface);
        let mut route = route::route(directory, &request, &peer.connection)?;
        exchange.enter(route.operation);
        exchange.mount.set(directory.mount(&route.mount));
        exchange.surface.set(route.surface);
        let caller = authenticate::authenticate(directory, &self.keyring, &request.headers, peer, now)
            .map_err(|rejection| authenticate::count(rejection, &self.auth_failures, directory, peer))?;
        let _ = exchange.caller.set(caller.clone());
        self.live.enter(exchange, request.version != Version::HTTP_2);
        let bytes = body.size_hint().lower();
        let mut permit = admit::admit(caller, &route, &request, bytes, &self.limits, exchange)?;
        exchange.submits.set(permit.submits);
        let mut destination = match authorize::authorize(&self.hub, &permit, &route, &request, now)? {
            Verdict::Forward(destination) => destination,
            Verdict::Poll(watch) if route.operation == Operation::VideoDelete => {
                return Box::pin(videos::delete::delete(self, permit, &route, request, &watch, exchange))
                    .await;
            }
            Verdict::Poll(watch)
                if let (Operation::VideoContent, Some(unified)) = (route.operation, &route.unified) =>
            {
                let content =
                    videos::content::fetch(self, &permit, &unified.storage, &request, &watch, exchange);
                return Box::pin(content).await;
            }
            Verdict::Poll(watch) => {
                return poll::poll(self, &permit, &route, &request.headers, &watch, exchange).await;
            }
            Verdict::Answer { status, body, request_id } => {
                return Ok(observe::whole(respond::json(status, body, &request_id), exchange));
            }
        };
        let may_repeat = permit.submits || destination != Destination::Any;
        let keep = if may_repeat { Keep::Whole } else { Keep::Beginning };
        let stopwatch = Rc::clone(&exchange.stopwatch);
        let mut body = Upload::new(
            body,
            directory.settings.server.max_body_bytes,
            directory.settings.server.timeouts.idle,
            keep,
            stopwatch,
        );
        let _ = exchange.upload.set(body.progress());
        let asked = if route.operation == Operation::VideoCreate {
            let native =
                videos::translate::translate(self, &permit, &mut route, &mut request, &mut body, exchange);
            Some(Box::pin(native).await?)
        } else {
            None
        };
        let seen = inspect::inspect(&permit, &route, &request, &mut body, &self.buffer_budget).await;
        if seen.as_ref().is_err_and(Rejection::is_of_caller) {
            exchange.standing.set(self.limits.give_back(exchange.admitted.take()));
        }
        if seen?.streams {
            permit.becomes_stream(&self.limits, exchange)?;
        }
        if destination == Destination::Any {
            let stored = resolve::resolve(&self.uploads, &permit, &request, &mut body);
            destination = stored.await?.map_or(destination, Destination::Files);
        }
        let exchange = Rc::clone(exchange);
        let passage = Box::new(Passage { permit, route, destination, request, body, exchange, asked });
        if passage.permit.submits {
            self.submit(passage).await
        } else if passage.route.operation.is_socket() {
            Box::pin(self.tunnel(passage)).await
        } else {
            self.pass(passage).await
        }
    }

    /// A call whose answer is passed on as it comes.
    async fn pass(&self, passage: Box<Passage>) -> Result<Response<Observed>, Rejection> {
        let exchange = Rc::clone(&passage.exchange);
        let version = passage.request.version;
        let patience = passage.permit.directory().settings.server.timeouts.idle;
        let cancels = (passage.route.operation == Operation::TaskCancel)
            .then(|| Arc::from(passage.route.task_id().unwrap_or_default()));
        let response = self.passed(passage, cancels.as_ref()).await?;
        Ok(self.deliver(response, &exchange, version, patience))
    }

    /// Passes an answer on as it comes.
    fn deliver(
        &self,
        response: Response<Download>,
        exchange: &Rc<Exchange>,
        version: Version,
        patience: Duration,
    ) -> Response<Observed> {
        if version == Version::HTTP_2 {
            let (response, carry) = observe::pump(response, exchange, patience);
            tokio::task::spawn_local(carry);
            return response;
        }
        observe::stream(response, exchange)
    }

    /// Sends it, and waits for the beginning of its answer. A cancel, of this task, takes its turn.
    async fn passed(
        &self,
        passage: Box<Passage>,
        cancels: Option<&Arc<str>>,
    ) -> Result<Response<Download>, Rejection> {
        let exchange = Rc::clone(&passage.exchange);
        cancels.iter().for_each(|id| exchange.note_task(id));
        let spent = match cancels {
            Some(_) => exchange.unless_revoked(Box::pin(self.turn_to_cancel(&passage)).as_mut()).await?,
            None => None,
        };
        let response = exchange.unless_revoked(self.send(passage, None).as_mut()).await?;
        drop(spent);
        if let Some(task_id) = cancels.filter(|_| response.status() == StatusCode::OK) {
            self.hub.invalidate(task_id);
        }
        Ok(response)
    }

    /// Waits for a place among the cancels that the task's account takes a second. It is held until there is an
    /// answer.
    async fn turn_to_cancel(&self, passage: &Passage) -> Result<Option<CallPermit>, Rejection> {
        let Destination::Task(index) = passage.destination else { return Ok(None) };
        let desk = self.hub.account_poller(&passage.permit.directory().accounts[index].name);
        let deadline = Instant::now() + CANCEL_PATIENCE;
        let _turn = passage.exchange.stopwatch.start_waiting(Awaited::Turn);
        loop {
            match desk.spend(TaskEndpoint::Cancel, Instant::now()) {
                Ok(spent) => return Ok(Some(spent)),
                Err(time) if time > deadline => return Err(Rejection::AccountsOut(CANCEL_PATIENCE)),
                Err(time) => tokio::time::sleep_until(time.into()).await,
            }
        }
    }

    /// A call that makes a task. Once it is sent it is paid for, so it is read to its end though the client may
    /// leave.
    async fn submit(self: &Rc<Self>, mut passage: Box<Passage>) -> Result<Response<Observed>, Rejection> {
        let proxy = Rc::clone(self);
        // Dropped with this future, when the client leaves.
        let (_present, client) = oneshot::channel();
        let work = async move {
            let (permit, exchange) = (passage.permit.clone(), Rc::clone(&passage.exchange));
            let mount = Arc::clone(&passage.route.mount);
            let (asked, unified) = (passage.asked.take(), passage.route.unified.take());
            let (response, named) = claim::read(proxy.send(passage, Some(client)).await?).await?;
            let account = exchange.account.get().unwrap_or_default();
            let task = match named {
                Some(named) => {
                    exchange.note_task(&named.task_id);
                    let slot = exchange.admitted.borrow_mut().task.take();
                    if let Some(slot) = slot {
                        proxy.limits.task_reserved(&named.task_id, SystemTime::now(), slot);
                    }
                    let model = exchange.model.get().cloned().unwrap_or_default();
                    Some(claim::claim(&proxy.hub, &permit, account, mount, named, model, asked).await)
                }
                None if response.status() == StatusCode::OK => {
                    tracing::warn!(account, "the answer to a submit names no task; it has no owner");
                    None
                }
                None => None,
            };
            exchange.start.take();
            Ok(match unified {
                None => observe::buffered(response, &exchange),
                Some(unified) => {
                    let created =
                        videos::respond::created(&proxy.hub, unified.statuses, &response, task.as_deref());
                    observe::whole(created, &exchange)
                }
            })
        };
        // A panic in there may have come after the request was sent.
        DetachOnDrop::new(work, &self.running).await.unwrap_or(Err(Rejection::UpstreamLost))
    }

    /// A WebSocket: a refused handshake is an ordinary answer.
    async fn tunnel(&self, mut passage: Box<Passage>) -> Result<Response<Observed>, Rejection> {
        let exchange = Rc::clone(&passage.exchange);
        let patience = passage.permit.directory().settings.server.timeouts.idle;
        let client = passage.request.extensions.remove::<OnUpgrade>();
        let client = client.ok_or(Rejection::BadRequest("a WebSocket handshake takes HTTP/1.1"))?;
        let inspects = inspect::names_models_inside(&passage.permit, &passage.route);
        let inspected = inspects.then(|| passage.permit.clone());
        let response = exchange.unless_revoked(self.send(passage, None).as_mut()).await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Ok(observe::stream(response, &exchange));
        }
        let (response, carry) = tunnel::open(client, response, &exchange, patience, inspected);
        self.running.spawn_local(carry);
        Ok(observe::whole(response, &exchange))
    }
}

/// Cancels of a minute ahead are none that a client would wait for.
const CANCEL_PATIENCE: Duration = Duration::from_secs(5);

/// An authorized request, before it is rewritten. In a box wherever it is handed on.
struct Passage {
    permit: Permit,
    route: Route,
    destination: Destination,
    request: Box<Parts>,
    body: Upload,
    exchange: Rc<Exchange>,
    /// Of a create in the unified dialect.
    asked: Option<Arc<RequestedVideo>>,
}

//! The life of one request: a file a stage, named by its verb.
//!
//! ```text
//! route ▶ authenticate ▶ admit ▶ authorize ▶ rewrite ▶ forward ─▶ DashScope
//!   respond ◀── Rejection ◀── any stage                   ▼
//!   observe(body, exchange) ◀── claim ◀── rewrite(response)
//! ```

mod admit;
mod authenticate;
mod authorize;
mod claim;
mod cut;
mod exchange;
mod forward;
mod observe;
pub mod peer;
mod rejection;
mod respond;
mod rewrite;
mod route;
mod tunnel;

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use hyper::body::{Body, Incoming};
use hyper::http::request::Parts;
use hyper::upgrade::OnUpgrade;
use hyper::{Request, Response, StatusCode, Version};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

pub use cut::Live;
pub use observe::Observed;

use crate::config::Timeouts;
use crate::dashscope::operation::Operation;
use crate::tasks::ledger::Ledger;
use crate::tenant::directory::Directory;
use crate::tenant::keyring::Keyring;
use crate::upstream::{Download, Upload, Upstream};
use admit::Permit;
use authorize::Verdict;
use exchange::Exchange;
use peer::Peer;
use rejection::Rejection;
use route::Route;

/// One worker's share of the gateway.
pub struct Proxy {
    pub directory: Arc<ArcSwap<Directory>>,
    pub keyring: Arc<Keyring>,
    pub ledger: Arc<Ledger>,
    pub upstream: Upstream,
    pub timeouts: Timeouts,
    pub max_body_bytes: u64,
    pub draining: Cell<bool>,
    /// What may outlive its connection: submits that are read to their end, and tunnels.
    pub running: TaskTracker,
    /// Exchanges that end when their key does.
    pub live: Rc<Live>,
}

impl Proxy {
    /// Answers a request. Never fails: what goes wrong is told to the client.
    pub async fn serve(self: Rc<Self>, peer: Peer, request: Request<Incoming>) -> Response<Observed> {
        let exchange = Rc::new(Exchange::begin(&peer, Instant::now()));
        let version = request.version();
        self.answer(&peer, &exchange, request).await.unwrap_or_else(|rejection| {
            observe::whole(respond::refusal(&rejection, &exchange, version), &exchange)
        })
    }

    /// What is to be done twice a second: old connections are closed, and exchanges whose key died are cut.
    pub fn sweep(&self, now: SystemTime) {
        self.upstream.sweep();
        self.live.sweep(&self.directory.load(), now);
    }

    async fn answer(
        self: &Rc<Self>,
        peer: &Peer,
        exchange: &Rc<Exchange>,
        request: Request<Incoming>,
    ) -> Result<Response<Observed>, Rejection> {
        if self.draining.get() {
            return Err(Rejection::Draining);
        }
        let (request, body) = request.into_parts();
        let now = SystemTime::now();
        let directory = self.directory.load_full();
        let route = route::route(&directory, &request, &peer.line)?;
        exchange.operation.set(route.operation);
        exchange.surface.set(route.surface);
        let caller = authenticate::authenticate(&directory, &self.keyring, &request.headers, peer, now)?;
        let _ = exchange.caller.set(caller.clone());
        self.live.enter(exchange, request.version != Version::HTTP_2);
        let permit = admit::admit(caller, &route, &request, body.size_hint().lower(), self.max_body_bytes)?;
        exchange.submits.set(permit.submits);
        let account = match authorize::authorize(&self.ledger, &permit, &route, &request, now)? {
            Verdict::Forward(account) => account,
            Verdict::Answer { status, body, request_id } => {
                return Ok(observe::whole(respond::json(status, body, &request_id), exchange));
            }
        };
        let body = Upload::new(body, self.max_body_bytes, self.timeouts.idle, permit.submits);
        let passage = Passage { permit, route, account, request, body, exchange: Rc::clone(exchange) };
        if passage.permit.submits {
            self.submit(passage).await
        } else if passage.route.operation.is_socket() {
            self.tunnel(passage).await
        } else {
            self.pass(passage).await
        }
    }

    /// To the upstream and back.
    async fn send(&self, passage: Passage) -> Result<Response<Download>, Rejection> {
        let Passage { permit, route, account, request, body, .. } = passage;
        let account = &permit.caller().directory().accounts[account];
        let outbound = rewrite::request(&permit, &route, request, account, body)?;
        let key = outbound.key();
        let sent = forward::forward(&self.upstream, outbound, self.timeouts.upstream, self.max_body_bytes);
        let mut response = sent.await?;
        rewrite::response(&mut response, key);
        Ok(response)
    }

    /// A call whose answer is passed on as it comes; what a query says of its task is noted.
    async fn pass(&self, passage: Passage) -> Result<Response<Observed>, Rejection> {
        let exchange = Rc::clone(&passage.exchange);
        let (operation, version) = (passage.route.operation, passage.request.version);
        let response = exchange.unless_cut(self.send(passage)).await?;
        if operation == Operation::TaskGet {
            let (response, named) = claim::read(response).await?;
            if let Some(named) = named {
                self.ledger.learn(&named.task_id, named.status);
            }
            return Ok(observe::held(response, &exchange));
        }
        if version == Version::HTTP_2 {
            let (response, carry) = observe::pump(response, &exchange, self.timeouts.idle);
            tokio::task::spawn_local(carry);
            return Ok(response);
        }
        Ok(observe::stream(response, &exchange))
    }

    /// A call that makes a task. It is paid for, so it is read to its end though the client may leave.
    async fn submit(self: &Rc<Self>, passage: Passage) -> Result<Response<Observed>, Rejection> {
        let proxy = Rc::clone(self);
        let work = async move {
            let (permit, exchange) = (passage.permit.clone(), Rc::clone(&passage.exchange));
            let (account, progress) = (passage.account, passage.body.progress());
            let (response, named) = claim::read(proxy.send(passage).await?).await?;
            match named {
                Some(named) => {
                    let account = &permit.caller().directory().accounts[account].name;
                    let beginning = progress.beginning();
                    claim::claim(&proxy.ledger, &permit, account, named, &beginning, SystemTime::now());
                }
                None if response.status() == StatusCode::OK => {
                    tracing::warn!(account, "the answer to a submit names no task; it has no owner");
                }
                None => {}
            }
            Ok(observe::held(response, &exchange))
        };
        // A panic in there may have come after the request was sent.
        self.running.spawn_local(work).await.unwrap_or(Err(Rejection::UpstreamLost))
    }

    /// A WebSocket: a refused handshake is an ordinary answer.
    async fn tunnel(&self, mut passage: Passage) -> Result<Response<Observed>, Rejection> {
        let exchange = Rc::clone(&passage.exchange);
        let client = passage.request.extensions.remove::<OnUpgrade>();
        let client = client.ok_or(Rejection::BadRequest("a WebSocket handshake takes HTTP/1.1"))?;
        let response = exchange.unless_cut(self.send(passage)).await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Ok(observe::stream(response, &exchange));
        }
        let (response, carry) = tunnel::open(client, response, &exchange);
        self.running.spawn_local(carry);
        Ok(observe::whole(response, &exchange))
    }
}

/// An authorized request, before it is rewritten.
struct Passage {
    permit: Permit,
    route: Route,
    /// Index into the directory's accounts.
    account: usize,
    request: Parts,
    body: Upload,
    exchange: Rc<Exchange>,
}

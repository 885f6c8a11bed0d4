//! The operator's own listener: health for whoever reaches it, and with the admin token what may be seen and
//! changed at run time. None of it is on the listener of the clients.

mod accounts;
mod answer;
mod body;
mod keys;
mod listener;
mod page;
mod problem;
mod reload;
mod route;
mod tasks;
mod tenants;
mod token;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Instant, SystemTime};

use arc_swap::ArcSwap;
use hyper::body::Incoming;
use hyper::{Request, StatusCode};
use serde_json::json;
use tokio::sync::Mutex;

pub use self::listener::{Listener, start};

use self::answer::{Answer, answer, text};
use self::problem::Problem;
use self::route::Action;
use crate::dashscope::refusal::Cause;
use crate::dashscope::task::Status;
use crate::metrics::{Levels, Metrics};
use crate::reload::Handle;
use crate::store::{Health, Store};
use crate::tasks::hub::Hub;
use crate::tenant::certificate::ClientCertificate;
use crate::tenant::directory::Directory;
use crate::tenant::keyring::Keyring;

/// What the listener shows and changes.
#[derive(Debug)]
pub struct Admin {
    pub directory: Arc<ArcSwap<Directory>>,
    /// None without a file.
    pub reloads: Option<Handle>,
    pub keyring: Arc<Keyring>,
    pub store: Store,
    pub hub: Arc<Hub>,
    pub metrics: Arc<Metrics>,
    pub draining: Arc<AtomicBool>,
    /// Held from the look at what there is to the end of its change.
    pub changing: Mutex<()>,
}

/// Who is at the other end of a connection.
#[derive(Debug, Clone)]
struct Visitor {
    address: SocketAddr,
    certificate: Option<Arc<ClientCertificate>>,
    /// It speaks cleartext to a listener with TLS.
    lost: bool,
}

impl Admin {
    /// Answers a request. Never fails: what goes wrong is told.
    async fn serve(&self, visitor: &Visitor, request: Request<Incoming>) -> Answer {
        let head = request.method() == hyper::Method::HEAD;
        let answer = self.act(visitor, request).await.unwrap_or_else(|problem| problem.answer());
        if head { answer.map(|_| bytes::Bytes::new().into()) } else { answer }
    }

    async fn act(&self, visitor: &Visitor, request: Request<Incoming>) -> Result<Answer, Problem> {
        if visitor.lost {
            return Err(Problem::Cleartext);
        }
        let peer = visitor.address;
        let (request, body) = request.into_parts();
        let path = request.uri.path();
        let query = request.uri.query().unwrap_or_default();
        // A path that nobody without the token may use tells them nothing either, not even whether it exists.
        if route::is_guarded(path) {
            self.check_certificate(visitor)?;
            token::check(self.directory.load().admin_token.as_ref(), &request.headers)?;
        }
        match route::route(&request.method, path)? {
            Action::Live => Ok(answer(StatusCode::OK, &json!({ "status": "live" }))),
            Action::Ready => Ok(self.ready()),
            Action::Metrics => Ok(self.metrics()),
            Action::ListKeys => self.list_keys(query),
            Action::CreateKey => self.create_key(peer, body::read(&request.headers, body).await?).await,
            Action::RotateKey(id) => {
                self.rotate_key(peer, id, body::read(&request.headers, body).await?).await
            }
            Action::RevokeKey(id) => self.revoke_key(peer, id).await,
            Action::ListTenants => self.list_tenants(query),
            Action::ListAccounts => self.list_accounts(query),
            Action::ListTasks => self.list_tasks(query),
            Action::Reload => self.reload(peer).await,
        }
    }

    /// Where clients are asked for certificates, the token needs one beside it.
    fn check_certificate(&self, visitor: &Visitor) -> Result<(), Problem> {
        let directory = self.directory.load();
        let Some(verifier) = directory.admin_tls.as_ref().and_then(|tls| tls.clients.as_ref()) else {
            return Ok(());
        };
        let holds = |certificate: &Arc<ClientCertificate>| certificate.holds(verifier, SystemTime::now());
        if visitor.certificate.as_ref().is_some_and(holds) { Ok(()) } else { Err(Problem::NoCertificate) }
    }

    fn metrics(&self) -> Answer {
        let states = [("pending", Status::Pending), ("running", Status::Running), ("other", Status::Other)];
        let now = Instant::now();
        let directory = self.directory.load();
        let cooldowns = directory.accounts.iter().flat_map(|account| {
            let status = account.status(now);
            Cause::ALL.map(|cause| (Arc::clone(&status.name), cause, status.resting_for(cause)))
        });
        let reloads = self.reloads.as_ref().map(Handle::counts);
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        text(self.metrics.text(&Levels {
            tasks: states.map(|(name, status)| (name, self.hub.count(status))).into(),
            cooldowns: cooldowns.collect(),
            reloads: reloads.map_or((0, 0), |counts| (count(&counts.ok), count(&counts.rejected))),
        }))
    }

    fn ready(&self) -> Answer {
        if self.draining.load(Ordering::Relaxed) {
            return answer(StatusCode::SERVICE_UNAVAILABLE, &json!({ "status": "draining" }));
        }
        match self.store.health() {
            Health::Writable => answer(StatusCode::OK, &json!({ "status": "ready" })),
            Health::Unwritable(fault) => {
                // Whoever asks needs no token, so where the store lies is for the log alone.
                let problem = format!("the store {}", fault.cause);
                answer(StatusCode::SERVICE_UNAVAILABLE, &json!({ "status": "store", "problem": problem }))
            }
        }
    }
}

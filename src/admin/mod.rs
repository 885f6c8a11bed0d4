//! The operator's listener: health without a token; with the admin token, state that may be read and changed at run
//! time, by programs and by the console's page. The listener for clients has none of these paths.

mod accounts;
mod audit;
mod body;
mod browser_tokens;
mod configuration;
mod console;
mod credits;
mod found_key;
mod health;
mod holders;
mod keys;
mod listener;
mod name_page;
mod orphans;
mod problem;
mod reload;
mod response;
mod route;
mod session;
mod task;
mod tasks;
mod tenants;
mod token;
mod usage;
mod webhooks;

use std::cell::RefCell;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use hyper::Request;
use hyper::body::Incoming;
use hyper::header::{CONNECTION, HOST, HeaderMap, HeaderValue};
use tokio::sync::{Mutex, Semaphore};

pub use self::audit::Refusals;
pub use self::listener::{AdminListener, start};
pub use self::usage::MOST_SCANS;

use self::audit::AuditEntry;
use self::problem::Problem;
use self::response::AdminResponse;
use self::route::Action;
use self::token::TokenHolder;
use crate::config::AdminRole;
use crate::lifecycle::liveness::ThreadWatch;
use crate::lifecycle::readiness::{Readiness, Requirement};
use crate::lifecycle::reload::ReloadHandle;
use crate::net::site;
use crate::proxy::Shared;
use crate::store::OperatorKind;
use crate::tenant::certificate::ClientCertificate;
use crate::webhooks::WaitingFigures;

/// State that the listener shows and changes.
pub struct Admin {
    pub shared: Shared,
    /// `None` if the configuration is not from a file.
    pub reloads: Option<ReloadHandle>,
    pub readiness: Arc<Readiness>,
    pub threads: RefCell<ThreadWatch>,
    /// Held from the check of a change to its end, so that changes come one after another.
    pub changing: Mutex<()>,
    pub refusals: Refusals,
    /// A permit for each report that may run.
    pub scans: Arc<Semaphore>,
    /// Webhooks that wait.
    pub webhooks: Arc<WaitingFigures>,
}

/// A request whose caller may make it.
struct AdminRequest<'r> {
    query: &'r str,
    headers: &'r HeaderMap,
    holder: TokenHolder,
    peer: SocketAddr,
}

/// The peer of a connection.
#[derive(Debug, Clone)]
struct Visitor {
    address: SocketAddr,
    certificate: Option<Arc<ClientCertificate>>,
    /// True for a peer that speaks cleartext to a listener with TLS.
    is_cleartext: bool,
}

impl Admin {
    /// Answers a request. A failure is an answer, too.
    async fn serve(&self, visitor: &Visitor, request: Request<Incoming>) -> AdminResponse {
        let head = request.method() == hyper::Method::HEAD;
        let mut answer = self.act(visitor, request).await.unwrap_or_else(|problem| problem.answer());
        if self.readiness.missing().any(|(need, ..)| need == Requirement::Serving) {
            // The client's next request may be for the process that has taken over.
            answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        if head { answer.map(|_| bytes::Bytes::new().into()) } else { answer }
    }

    /// Checks the threads, and logs the number of silenced refusals. To be called once a second.
    fn each_second(&self) {
        self.threads.borrow_mut().check();
        self.shared.directories.drop_retired();
        self.refusals.log_silenced(Instant::now());
    }

    async fn act(&self, visitor: &Visitor, request: Request<Incoming>) -> Result<AdminResponse, Problem> {
        if visitor.is_cleartext {
            return Err(Problem::Cleartext);
        }
        let peer = visitor.address;
        let (request, body) = request.into_parts();
        // After DNS rebinding, a web page in a browser on this machine could read health and metrics.
        let host = request.headers.get(HOST).map(HeaderValue::as_bytes);
        if peer.ip().is_loopback() && host.is_some_and(site::may_be_rebound) {
            return Err(Problem::ForeignHost);
        }
        let (path, headers) = (request.uri.path(), &request.headers);
        if let Some(answer) = console::answer(&request.method, path, headers) {
            return Ok(answer);
        }
        let query = request.uri.query().unwrap_or_default();
        // Without the token, a guarded path that exists is answered like one that does not.
        let holder = if route::is_guarded(path) {
            let opened = self.open(visitor, headers);
            let token = opened.inspect_err(|problem| self.refusals.log(peer, problem, Instant::now()))?;
            // Every replica answers alike. While the database is away, each tells what it knows.
            let _ = self.shared.store.catch_up().await;
            token
        } else {
            TokenHolder::nobody()
        };
        let routed = route::route(&request.method, path)?;
        let asked = AdminRequest { query, headers, holder, peer };
        self.perform(routed, asked, body).await
    }

    /// Does what a request asks for that may ask for it.
    async fn perform(
        &self,
        routed: (Action, &str),
        asked: AdminRequest<'_>,
        body: Incoming,
    ) -> Result<AdminResponse, Problem> {
        let AdminRequest { query, headers, holder, peer } = asked;
        let session = session::answer(&holder);
        let is_for_another_role = holder.role == AdminRole::Read && routed.0.change().is_some();
        let mut audit = AuditEntry::new(routed.0.change(), peer, holder, self.shared.store.clone());
        if is_for_another_role {
            return audit.end(Err(Problem::ReadOnly)).await;
        }
        let entry = &mut audit;
        let read = body::read(headers, body);
        let done = match routed {
            (Action::Live, _) => Ok(self.live()),
            (Action::Ready, _) => Ok(self.ready()),
            (Action::Metrics, _) => Ok(self.metrics().await),
            (Action::Document, _) => Ok(response::document(DOCUMENT)),
            (Action::ListKeys, _) => self.list_keys(query),
            (Action::CreateKey, _) => self.create_key(read.await, entry).await,
            (Action::FindKey, _) => self.find_key(read.await),
            (Action::RotateKey, id) => self.rotate_key(id, read.await, entry).await,
            (Action::ChangeKey, id) => self.change_key(id, read.await, entry).await,
            (Action::RevokeKey, id) => self.revoke_key(id, entry).await,
            (Action::ListTenants, _) => self.list_tenants(query),
            (Action::ShowTenant, name) => self.show_tenant(name).await,
            (Action::CreateTenant, _) => self.create_tenant(read.await, entry).await,
            (Action::ChangeTenant, name) => self.change_tenant(name, read.await, entry).await,
            (Action::DeleteTenant, name) => self.delete_tenant(name, entry).await,
            (Action::ListCredits, tenant) => self.list_money(OperatorKind::Credit, tenant, query).await,
            (Action::EnterCredit, tenant) => {
                self.enter_money(OperatorKind::Credit, tenant, read.await, entry).await
            }
            (Action::ListCorrections, tenant) => {
                self.list_money(OperatorKind::Correction, tenant, query).await
            }
            (Action::EnterCorrection, tenant) => {
                self.enter_money(OperatorKind::Correction, tenant, read.await, entry).await
            }
            (Action::ListAccounts, _) => self.list_accounts(query),
            (Action::ListTasks, _) => self.list_tasks(query).await,
            (Action::ShowTask, id) => self.show_task(id).await,
            (Action::RefreshTask, id) => self.refresh_task(id, entry).await,
            (Action::ListOrphans, _) => self.list_orphans(query).await,
            (Action::AssignOrphan, names) => self.assign_orphan(names, read.await, entry).await,
            (Action::ListDeliveries, _) => self.list_deliveries(query).await,
            (Action::Redeliver, id) => self.redeliver(id, entry).await,
            (Action::TestWebhooks, _) => self.test_webhooks(read.await, entry).await,
            (Action::ReportUsage, _) => self.report_usage(query).await,
            (Action::ListEntries, _) => self.list_entries(query).await,
            (Action::Reprice, _) => self.reprice(read.await, entry).await,
            (Action::RotateTokens, _) => self.rotate_tokens(read.await, entry).await,
            (Action::ListAudit, _) => self.list_audit(query).await,
            (Action::ShowSession, _) => Ok(session),
            (Action::ShowConfiguration, _) => self.show_configuration(),
            (Action::Reload, _) => self.reload().await,
        };
        audit.end(done).await
    }

    /// Checks the token, and the client certificate where one is required.
    fn open(&self, visitor: &Visitor, headers: &HeaderMap) -> Result<TokenHolder, Problem> {
        let directory = self.shared.directory.load();
        if let Some(verifier) = directory.settings.admin.tls.as_ref().and_then(|tls| tls.clients.as_ref()) {
            let holds = |certificate: &Arc<ClientCertificate>| certificate.holds(verifier, SystemTime::now());
            if !visitor.certificate.as_ref().is_some_and(holds) {
                return Err(Problem::NoCertificate);
            }
        }
        token::check(&directory.admin_tokens, headers)
    }
}

/// The API's description, for programs.
const DOCUMENT: &str = include_str!("openapi.json");

#[cfg(test)]
#[path = "openapi_tests.rs"]
mod openapi_tests;

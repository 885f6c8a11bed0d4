//! What the operator asked for: a file is read, every fault in it is found at once, and a [`Config`] is
//! what is true afterwards. Nothing of a `Config` needs checking again.

mod base_url;
mod changes;
mod check;
mod defaults;
mod fault;
mod file;
mod files;
mod interpolate;
mod limits;
mod load;
mod log;
mod node;
mod pace;
mod reader;
mod scalar;
mod secret;
mod sidecar;
mod storage;
mod syntax;
mod tenants;
mod tls;
mod unique;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

pub use self::changes::{Changes, Difference, StartSettings};
pub use self::defaults::ADMIN_LISTEN;
pub use self::fault::{Fault, Position, report};
pub use self::files::{FileStates, Files};
pub use self::interpolate::Environment;
pub use self::limits::{Limits, Rate, Rule};
pub use self::storage::StorageHost;
pub use self::tls::Tls;
use crate::dashscope::operation::Groups;
use crate::unified::StatusSpelling;

/// A whole, checked configuration.
#[derive(Debug, Clone)]
pub struct Config {
    pub settings: GlobalSettings,
    pub accounts: Vec<AccountSettings>,
    pub mounts: Vec<Mount>,
    pub tenants: Vec<TenantSettings>,
    /// No file: any caller of the same host, with any key or none, is the one tenant.
    pub sidecar: bool,
}

/// A configuration that holds, and what the operator should know about it.
#[derive(Debug, Clone)]
pub struct Loaded {
    pub config: Config,
    pub warnings: Vec<Fault>,
}

/// The single tables of the file: settings of the whole gateway.
#[derive(Debug, Clone)]
pub struct GlobalSettings {
    pub server: ServerSettings,
    pub admin: AdminSettings,
    pub store: StoreSettings,
    pub submit: SubmitSettings,
    pub poll: PollSettings,
    pub log: LogSettings,
    pub traces: TraceSettings,
}

#[derive(Debug, Clone)]
pub struct ServerSettings {
    pub listen: SocketAddr,
    /// Worker threads; 0 stands for one per core.
    pub workers: usize,
    pub max_body_bytes: u64,
    /// Of one address; 0 stands for no limit.
    pub auth_failures_per_second: u32,
    pub timeouts: Timeouts,
    /// `None`: clients speak cleartext.
    pub tls: Option<Tls>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Timeouts {
    /// From the first byte of a request's head to its last.
    pub header: Duration,
    /// How long a client may be silent between two requests or inside one, or not read its answer.
    pub idle: Duration,
    /// To a connected (and, with TLS, verified) upstream.
    pub connect: Duration,
    /// How long the upstream may be silent, before its answer or inside it.
    pub upstream: Duration,
    /// From the request to stop until what still runs is cut.
    pub drain: Duration,
}

#[derive(Debug, Clone)]
pub struct AdminSettings {
    pub listen: SocketAddr,
    pub token: Option<Secret>,
    pub tls: Option<Tls>,
}

#[derive(Debug, Clone)]
pub struct StoreSettings {
    pub path: PathBuf,
}

/// What holds for every call that makes a task.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SubmitSettings {
    /// How long one waits for its turn where its client does not say.
    pub max_wait: Duration,
}

/// How task queries are answered.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PollSettings {
    /// How old what is known of a running task may be.
    pub max_age: Duration,
    /// [`Mount::hold`] of the mounts that don't set it.
    pub hold: Duration,
}

/// What becomes of a caller's trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TraceSettings {
    /// It goes on at the upstream, below our own span.
    pub propagate: bool,
}

/// One line for each exchange.
#[derive(Debug, Clone, PartialEq)]
pub struct LogSettings {
    pub access: LogTarget,
    pub format: LogFormat,
    /// The share of ordinary exchanges that have a line, from 0 to 1. Submits, refusals and errors always have one.
    pub sample: f64,
}

/// Where lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogTarget {
    Off,
    Stdout,
    Stderr,
    /// Appended to; opened anew when it is renamed or removed.
    File(PathBuf),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    Json,
    /// For people.
    Text,
}

/// One Alibaba Cloud account: one namespace of tasks, one set of quotas.
#[derive(Debug, Clone, PartialEq)]
pub struct AccountSettings {
    pub name: Arc<str>,
    pub base_url: BaseUrl,
    /// At least one.
    pub keys: Vec<Secret>,
    /// PEM of certificate authorities trusted for this account beside the public ones.
    pub ca_pem: Option<Vec<u8>>,
    pub rates: Rates,
    /// Its share of what may go to any account; 0 leaves it only the tasks that it has already.
    pub weight: u32,
    /// How its submits are paced; the first rule that fits a model counts, before DashScope's own.
    pub pace: Vec<PaceRule>,
}

/// How submits of some models are paced at one account. What is left out is as DashScope has it.
#[derive(Debug, Clone, PartialEq)]
pub struct PaceRule {
    /// Names, or patterns with `*`; at least one.
    pub models: Vec<String>,
    pub requests_per_second: Option<PaceLimit<f64>>,
    /// Tasks that have not ended.
    pub running: Option<PaceLimit<u32>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PaceLimit<T> {
    Unlimited,
    At(T),
}

/// How many queries, lists and cancels of tasks a second an account takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rates {
    pub query: u32,
    pub list: u32,
    pub cancel: u32,
}

/// Where an account's API lives; the path never ends in a slash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseUrl {
    pub tls: bool,
    /// A DNS name or an IP address, without brackets.
    pub host: String,
    pub port: u16,
    /// What stands before `/api/v1`; usually empty.
    pub path: String,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Mount {
    /// `/`, or `/name` without a slash at its end.
    pub prefix: Arc<str>,
    pub dialect: Dialect,
    pub video_statuses: StatusSpelling,
    /// How long a poll of a task that runs waits for its end, where the client says nothing of it.
    pub hold: Duration,
    /// Where a unified mount fetches results from, and puts input files.
    pub storage_hosts: Arc<[StorageHost]>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    Native,
    Unified,
}

#[derive(Debug, Clone, PartialEq)]
pub struct TenantSettings {
    pub name: Arc<str>,
    pub keys: Vec<KeySettings>,
    pub async_header: AsyncHeader,
    /// Indices into [`Config::accounts`]; at least one.
    pub accounts: Vec<usize>,
    /// Patterns with `*`; empty stands for all models.
    pub models: Vec<String>,
    pub allow: Groups,
    /// Its share of the turns, where submits of several tenants wait.
    pub weight: u32,
    /// Of each of its keys.
    pub limits: Limits,
    /// Of all its keys together.
    pub tenant_limits: Limits,
    /// Names as [`crate::net::certificate::names`] gives them. A caller with a certificate of one of them needs no key; where
    /// there are any, a key alone opens nothing.
    pub client_certificates: Vec<Arc<str>>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct KeySettings {
    /// The key's loggable name.
    pub id: Arc<str>,
    /// SHA-256 of the secret: the secret itself is forgotten once the file is read.
    pub sha256: [u8; 32],
    pub expires: Option<SystemTime>,
}

/// What becomes of an async-only call without `X-DashScope-Async: enable`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AsyncHeader {
    /// It is refused as DashScope refuses it.
    Require,
    /// The header is put on.
    Add,
}

impl Config {
    /// Takes what is the same over from the configuration before, so that TLS sessions can still be resumed.
    pub fn succeed(&mut self, before: &Config) {
        let (own, earlier) = (&mut self.settings, &before.settings);
        for (tls, old) in
            [(&mut own.server.tls, &earlier.server.tls), (&mut own.admin.tls, &earlier.admin.tls)]
        {
            if tls == old {
                tls.clone_from(old);
            }
        }
    }
}

/// A credential as the operator wrote it. It is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<str>);

impl Secret {
    pub fn new(text: impl Into<Box<str>>) -> Self {
        Self(text.into())
    }

    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

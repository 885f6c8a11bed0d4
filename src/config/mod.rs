//! Configuration: a file is read, all its faults are found at once, and a file without faults becomes a [`Config`],
//! which needs no further check.
//!
//! `file` reads the tables as written, `check` and `tenants` turn them into settings.

mod base_url;
mod changes;
mod check;
mod cors;
mod database_url;
mod defaults;
mod egress;
mod fault;
mod file;
mod files;
mod interpolate;
mod key_limits;
mod limits;
mod load;
mod log;
mod moment;
mod named_few;
mod networks;
mod node;
mod pace;
mod price_coverage;
mod prices;
mod reader;
mod runtime_tenant;
mod scalar;
mod secret;
mod sidecar;
mod storage;
mod store;
mod syntax;
mod tenants;
mod tls;
mod tokens;
mod unique;
mod webhook_url;
mod webhooks;
mod written;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

pub use self::changes::{Changes, Difference, StartSettings};
pub use self::cors::Cors;
pub use self::database_url::{DatabaseHost, DatabaseUrl, TlsMode};
pub use self::defaults::ADMIN_LISTEN;
pub use self::fault::{Fault, Position, report};
pub use self::files::{FileStates, Files};
pub use self::interpolate::Environment;
pub use self::key_limits::KeyLimits;
pub use self::limits::{Limits, Rate, Rule};
pub use self::named_few::NamedFew;
pub use self::prices::{Billing, LostTasks, Unpriced, UsageSettings};
pub use self::runtime_tenant::check_tenant;
pub use self::storage::StorageHost;
pub use self::store::{SharedStoreSettings, StoreSettings};
pub use self::tls::Tls;
pub use self::tokens::TokenSettings;
pub use self::webhook_url::WebhookUrl;
pub use self::webhooks::{EventType, WebhookEndpoint, WebhookSecret, WebhookSettings};
use crate::dashscope::operation::Groups;
use crate::net::egress_proxy::{EgressProxy, EnvironmentProxies};
use crate::net::networks::Networks;
use crate::unified::StatusSpelling;

/// A whole, checked configuration.
#[derive(Debug, Clone)]
pub struct Config {
    pub settings: GlobalSettings,
    pub accounts: Vec<AccountSettings>,
    pub mounts: Vec<Mount>,
    pub tenants: Vec<TenantSettings>,
    /// The lists of prices, for tenants that are made at run time.
    prices: prices::PriceLists,
    /// There is no file: every caller on the same host is the one tenant, with any key or without a key.
    pub sidecar: bool,
}

/// A valid configuration, and warnings for the operator.
#[derive(Debug, Clone)]
pub struct Loaded {
    pub config: Config,
    pub warnings: Vec<Fault>,
    /// The file as written, without secrets; null without a file.
    pub written: serde_json::Value,
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
    pub usage: UsageSettings,
    pub traces: TraceSettings,
    /// Proxies that the environment names. The environment stays the same as long as the process runs.
    pub proxies: Arc<EnvironmentProxies>,
}

#[derive(Debug, Clone)]
pub struct ServerSettings {
    pub listen: SocketAddr,
    /// Worker threads; 0 stands for one per core.
    pub workers: usize,
    pub max_body_bytes: u64,
    /// Least rate of a body while it is waited for, over each `timeouts.idle`; 0 stands for none.
    pub min_body_bytes_per_second: u64,
    /// Limit for each client address; 0 stands for no limit.
    pub auth_failures_per_second: u32,
    /// Proxies before the gateway, whose `X-Forwarded-For` names the client.
    pub trusted_proxies: Networks,
    /// Connections from trusted proxies begin with a header of the PROXY protocol.
    pub proxy_protocol: bool,
    pub timeouts: Timeouts,
    /// `None`: clients speak cleartext.
    pub tls: Option<Tls>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Timeouts {
    /// Time from the first byte of a request head to its last byte.
    pub header: Duration,
    /// Time for which a client may be silent, between two requests or inside one, or may not read its answer.
    pub idle: Duration,
    /// Time until the upstream is connected and, with TLS, verified.
    pub connect: Duration,
    /// Time for which the upstream may be silent, before its answer or inside it.
    pub upstream: Duration,
    /// Time from the request to stop until running requests are ended.
    pub drain: Duration,
}

#[derive(Debug, Clone)]
pub struct AdminSettings {
    pub listen: SocketAddr,
    /// The token that may do everything, and has no name.
    pub token: Option<Secret>,
    pub tokens: Vec<AdminTokenSettings>,
    pub tls: Option<Tls>,
}

/// A token of the admin API, and who holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminTokenSettings {
    /// The name in the audit.
    pub name: Arc<str>,
    pub token: Secret,
    pub role: AdminRole,
}

/// Role of a token of the admin API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdminRole {
    /// Its holder may look at everything.
    Read,
    /// Its holder may change everything, too.
    Operate,
}

impl AdminSettings {
    /// True if anybody may make changes at run time.
    pub fn can_operate(&self) -> bool {
        self.token.is_some() || self.tokens.iter().any(|token| token.role == AdminRole::Operate)
    }
}

/// Settings of calls that make a task.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SubmitSettings {
    /// Time for which a submit waits for its turn where its client names no time.
    pub max_wait: Duration,
}

/// Settings of task queries.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PollSettings {
    /// Greatest age at which the known status of a running task is still an answer.
    pub max_age: Duration,
    /// Default of [`Mount::hold`].
    pub hold: Duration,
    /// Not in the file, as DashScope's habits set them.
    pub orphans: OrphanTimes,
}

/// Times of the search for tasks that no client was told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OrphanTimes {
    /// Time between two scans of an account's list.
    pub every: Duration,
    /// Time from a lost answer to the scan that looks for its task.
    pub after_loss: Duration,
    /// Age from which a task without an owner is an orphan.
    pub min_age: Duration,
}

/// Settings of traces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TraceSettings {
    /// The caller's trace goes on at the upstream, below the gateway's span.
    pub propagate: bool,
}

/// Settings of the access log, which has one line for each exchange, and of the diagnostics.
#[derive(Debug, Clone, PartialEq)]
pub struct LogSettings {
    pub access: LogTarget,
    pub format: LogFormat,
    /// The share of ordinary exchanges that have a line, from 0 to 1. Submits, refusals and errors always have one.
    pub sample: f64,
    /// Format of the diagnostics on standard error.
    pub diagnostics: LogFormat,
}

/// Destination of the access log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogTarget {
    Off,
    Stdout,
    Stderr,
    /// A file to append to. The file is opened again when it was renamed or removed.
    File(PathBuf),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    Json,
    /// Lines for human readers.
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
    /// The proxy on the way to it, its own or the environment's.
    pub proxy: Option<Arc<EgressProxy>>,
    pub rates: Rates,
    /// The account's share of requests that may go to any account; 0 leaves the account only requests for
    /// its own tasks and files.
    pub weight: u32,
    /// Rules for the pace of submits. The first rule that fits a model counts; DashScope's own limits fill the gaps.
    pub pace: Vec<PaceRule>,
    pub errors: AccountErrors,
    /// Nobody else uses the account.
    pub exclusive: bool,
}

/// The answer to clients when a call is refused for a key or a bill of an account, and is sent nowhere else. Only a refusal
/// that is the HTTP answer counts: errors inside a stream, a WebSocket or a task pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccountErrors {
    /// DashScope's own answer, like 401 InvalidApiKey or 400 Arrearage.
    Pass,
    /// 503, without a word of the account.
    Neutral,
}

/// Pace of the submits of some models at one account. DashScope's limit counts where a field is `None`.
#[derive(Debug, Clone, PartialEq)]
pub struct PaceRule {
    /// Names or patterns with `*`; at least one.
    pub models: Vec<String>,
    pub requests_per_second: Option<PaceLimit<f64>>,
    /// Limit of tasks that have not ended.
    pub running: Option<PaceLimit<u32>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PaceLimit<T> {
    Unlimited,
    At(T),
}

/// Calls per second that an account takes on its task API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rates {
    pub query: u32,
    pub list: u32,
    pub cancel: u32,
}

/// Root URL of an account's API. The path never ends in a slash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseUrl {
    pub tls: bool,
    /// A DNS name or an IP address, without brackets.
    pub host: String,
    pub port: u16,
    /// Path before `/api/v1`; usually empty.
    pub path: String,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Mount {
    /// `/`, or `/name` without a slash at its end.
    pub prefix: Arc<str>,
    pub dialect: Dialect,
    pub video_statuses: StatusSpelling,
    /// Time for which a poll of a running task waits for the end of the task, where the client names no time.
    pub hold: Duration,
    /// Hosts from which a unified mount fetches results, and where it puts input files.
    pub storage_hosts: Arc<[StorageHost]>,
    pub cors: Cors,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    Native,
    Unified,
}

#[derive(Debug, Clone, PartialEq)]
pub struct TenantSettings {
    pub name: Arc<str>,
    /// The name that the tenant had before.
    pub renamed_from: Option<Arc<str>>,
    /// False: all calls of the tenant are refused. What runs goes on.
    pub enabled: bool,
    pub keys: Vec<KeySettings>,
    pub async_header: AsyncHeader,
    pub stream_usage: UsageOption,
    /// Indices into [`Config::accounts`]; at least one.
    pub accounts: Vec<usize>,
    /// Allowed models, as names or patterns with `*`. An empty list allows all models.
    pub models: Vec<String>,
    pub allow: Groups,
    /// The tenant's share where submits of several tenants wait.
    pub weight: u32,
    /// Limits of each key of the tenant.
    pub limits: Limits,
    /// Limits of all keys of the tenant together.
    pub tenant_limits: Limits,
    /// Names in the form of [`crate::net::certificate::names`]. A caller whose certificate has one of these names needs
    /// no key. A tenant with certificate names refuses a key without a certificate.
    pub client_certificates: Vec<Arc<str>>,
    /// From where callers may call who have no addresses of their key's own; empty: from anywhere.
    pub addresses: Networks,
    /// Rules of its browser tokens; `None`: it can make none.
    pub tokens: Option<TokenSettings>,
    pub billing: Billing,
    pub webhooks: WebhookSettings,
}

#[derive(Debug, Clone, PartialEq)]
pub struct KeySettings {
    /// The key's loggable name.
    pub id: Arc<str>,
    /// SHA-256 of the secret: the secret itself is forgotten once the file is read.
    pub sha256: [u8; 32],
    pub expires: Option<SystemTime>,
    /// Addresses that the key is good from, in place of the tenant's; empty: the tenant's count.
    pub addresses: Networks,
}

/// Treatment of an async-only call without the header `X-DashScope-Async: enable`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AsyncHeader {
    /// The call is refused as DashScope refuses it.
    Require,
    /// The header is added.
    Add,
}

/// Treatment of an OpenAI-compatible stream without `stream_options.include_usage`, which tells no use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UsageOption {
    /// The call passes as it came, and its use is estimated.
    AsSent,
    /// The call is refused.
    Require,
    /// The option is put into the body, and the event that it adds is taken out of the answer.
    Add,
}

impl Config {
    /// The number of tenants that can be called as only with keys made at run time.
    pub fn keyless_tenants(&self) -> usize {
        let is_keyless =
            |tenant: &&TenantSettings| tenant.keys.is_empty() && tenant.client_certificates.is_empty();
        let can_be_made = !self.sidecar && self.settings.admin.can_operate();
        if can_be_made { self.tenants.iter().filter(is_keyless).count() } else { 0 }
    }

    /// Keeps the TLS state of the previous configuration where the files are unchanged, so that TLS sessions can be
    /// resumed.
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

/// A credential as the operator wrote it. `Debug` prints `***`.
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

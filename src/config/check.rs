//! From what is written to what is true: values are read, defaults put in, references followed, and what
//! must differ is compared.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::base_url::{base_url, is_private};
use super::file::{self, RawConfig, Text, Whole};
use super::reader::{ConfigReader, Located, ValueFault};
use super::unique::{SecretUse, UniqueSecrets, UniqueValues};
use super::{
    AccountSettings, AdminSettings, BaseUrl, Config, Dialect, GlobalSettings, Mount, PollSettings, Rates,
    ServerSettings, StoreSettings, SubmitSettings, Timeouts, TraceSettings, VideoStatuses, log, pace, scalar,
    storage, tenants, tls,
};

/// The checked configuration; None if anything is wrong, which `reading` has then noted.
pub(super) fn check(reader: &ConfigReader<'_>, file: RawConfig, now: SystemTime) -> Option<Config> {
    let mut secrets = UniqueSecrets::default();
    let server = server(reader, &file.server, now);
    let accounts = accounts(reader, &file.accounts, &mut secrets);
    let admin = admin(reader, &file.admin, &server, &mut secrets, now);
    let poll = poll(reader, &file.poll);
    let mounts = mounts(reader, &file.mounts, poll.hold);
    let tenants = tenants::check(reader, &file, now, &mut secrets);
    let usual = SubmitSettings::default().max_wait;
    let submit = SubmitSettings { max_wait: setting(reader, &file.max_submit_wait, scalar::wait, usual) };
    let path = file.store_path.map_or_else(|| PathBuf::from(STORE_PATH), |path| path.value.into());
    let settings = GlobalSettings {
        server,
        admin,
        store: StoreSettings { path },
        submit,
        poll,
        log: log::check(reader, &file.log),
        traces: TraceSettings { propagate: file.propagate.as_ref().is_some_and(|written| written.value) },
    };
    Some(Config { settings, accounts: accounts?, mounts: mounts?, tenants: tenants?, sidecar: false })
}

/// A key that was left out takes its default; so does a faulty one, and then no config comes of it.
pub(super) fn setting<T>(
    reader: &ConfigReader<'_>,
    written: &Option<Text>,
    check: impl FnOnce(&str) -> Result<T, ValueFault>,
    default: T,
) -> T {
    written.as_ref().and_then(|written| reader.check(written, check)).unwrap_or(default)
}

pub(super) fn number<T: TryFrom<u64>>(written: &Option<Whole>, default: T) -> T {
    written.as_ref().and_then(|written| written.value.try_into().ok()).unwrap_or(default)
}

fn server(reader: &ConfigReader<'_>, file: &file::RawServer, now: SystemTime) -> ServerSettings {
    let duration = |written: &Option<Text>, default| setting(reader, written, scalar::duration, default);
    let default = Timeouts::default();
    ServerSettings {
        listen: setting(reader, &file.listen, scalar::listen, LISTEN),
        workers: number(&file.workers, 0),
        max_body_bytes: number(&file.max_body_bytes, MAX_BODY_BYTES),
        auth_failures_per_second: number(&file.auth_failures_per_second, AUTH_FAILURES_PER_SECOND),
        tls: file.tls.as_ref().and_then(|file| tls::check(reader, file, &[b"h2", b"http/1.1"], now)),
        timeouts: Timeouts {
            header: duration(&file.timeouts.header, default.header),
            idle: duration(&file.timeouts.idle, default.idle),
            connect: duration(&file.timeouts.connect, default.connect),
            upstream: duration(&file.timeouts.upstream, default.upstream),
            drain: duration(&file.timeouts.drain, default.drain),
        },
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            header: Duration::from_secs(10),
            idle: Duration::from_secs(75),
            connect: Duration::from_secs(5),
            upstream: Duration::from_secs(300),
            drain: Duration::from_secs(30),
        }
    }
}

fn admin(
    reader: &ConfigReader<'_>,
    file: &file::RawAdmin,
    server: &ServerSettings,
    secrets: &mut UniqueSecrets,
    now: SystemTime,
) -> AdminSettings {
    let listen = setting(reader, &file.listen, scalar::listen, ADMIN_LISTEN);
    if overlap(listen, server.listen) {
        let problem = "the admin listener and the server would listen on the same port";
        let hint = "give `listen` in [admin] another port";
        match &file.listen {
            Some(written) => reader.fault(&written.location, problem, hint),
            None => reader.fault_at_start("admin.listen", problem, hint),
        }
    }
    if let Some(token) = &file.token {
        secrets.note(reader, token, SecretUse::Admin);
    }
    AdminSettings {
        listen,
        token: file.token.as_ref().map(|token| token.value.clone()),
        tls: file.tls.as_ref().and_then(|file| tls::check(reader, file, &[b"http/1.1"], now)),
    }
}

/// Whether two listeners would take the same connections. Port 0 is any free one.
pub(super) fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let any = one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() != 0 && one.port() == other.port() && (any || one.ip() == other.ip())
}

fn accounts(
    reader: &ConfigReader<'_>,
    files: &[file::RawAccount],
    secrets: &mut UniqueSecrets,
) -> Option<Vec<AccountSettings>> {
    let mut names = UniqueValues::default();
    let checked: Vec<Option<AccountSettings>> =
        files.iter().map(|file| account(reader, file, &mut names, secrets)).collect();
    checked.into_iter().collect()
}

fn account(
    reader: &ConfigReader<'_>,
    file: &file::RawAccount,
    names: &mut UniqueValues<String>,
    secrets: &mut UniqueSecrets,
) -> Option<AccountSettings> {
    let name = file.name.as_ref().and_then(|name| unique_name(reader, name, names));
    let url = file.base_url.as_ref().and_then(|written| {
        let url = reader.check(written, base_url)?;
        warn_of_cleartext(&url, |problem, hint| reader.warn(&written.location, problem, hint));
        Some(url)
    });
    for key in file.keys.iter().flatten() {
        secrets.note(reader, key, SecretUse::Upstream);
    }
    let ca_pem = match &file.ca_pem {
        Some(pem) => Some(reader.check(pem, certificates)?),
        None => None,
    };
    let default = Rates::default();
    Some(AccountSettings {
        name: name?,
        base_url: url?,
        keys: file.keys.as_ref()?.iter().map(|key| key.value.clone()).collect(),
        ca_pem,
        rates: Rates {
            query: number(&file.query_qps, default.query),
            list: number(&file.list_qps, default.list),
            cancel: number(&file.cancel_qps, default.cancel),
        },
        weight: number(&file.weight, WEIGHT),
        pace: file.pace.iter().map(|rule| pace::check(reader, rule)).collect::<Option<_>>()?,
    })
}

/// A name of its kind that nothing before has.
pub(super) fn unique_name(
    reader: &ConfigReader<'_>,
    name: &Located<String>,
    names: &mut UniqueValues<String>,
) -> Option<Arc<str>> {
    reader.check(name, scalar::name)?;
    names.note(reader, name.value.clone(), &name.location, "is the same as", "give each its own");
    Some(name.value.as_str().into())
}

/// Says so when an account's keys would cross the internet unencrypted.
pub(super) fn warn_of_cleartext(url: &BaseUrl, warn: impl FnOnce(&str, &str)) {
    if !url.tls && !is_private(&url.host) {
        warn("sends upstream keys unencrypted to a public host", "write https://");
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<u8>, ValueFault> {
    authorities(pem).map(|_| pem.to_vec())
}

/// Certificate authorities; at least one.
pub(super) fn authorities(pem: &[u8]) -> Result<RootCertStore, ValueFault> {
    let wrong = |problem: &str| ValueFault::new(problem, "give certificate authorities as PEM");
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|_| wrong("is not valid PEM"))?;
        store.add(certificate).map_err(|_| wrong("has a certificate that cannot be read"))?;
    }
    if store.is_empty() { Err(wrong("has no certificate in it")) } else { Ok(store) }
}

fn poll(reader: &ConfigReader<'_>, file: &file::RawPoll) -> PollSettings {
    let default = PollSettings::default();
    PollSettings {
        max_age: setting(reader, &file.max_age, scalar::age, default.max_age),
        hold: setting(reader, &file.hold, scalar::hold, default.hold),
    }
}

impl Default for SubmitSettings {
    fn default() -> Self {
        Self { max_wait: Duration::from_secs(5) }
    }
}

impl Default for Rates {
    /// DashScope's own, which hold for all keys of an account together.
    fn default() -> Self {
        Self { query: 20, list: 20, cancel: 20 }
    }
}

impl Default for PollSettings {
    fn default() -> Self {
        Self { max_age: Duration::from_secs(2), hold: Duration::ZERO }
    }
}

fn mounts(reader: &ConfigReader<'_>, files: &[file::RawMount], hold: Duration) -> Option<Vec<Mount>> {
    if files.is_empty() {
        return Some(vec![Mount { hold, ..Mount::native("/") }]);
    }
    let mut prefixes = UniqueValues::default();
    let checked: Vec<Option<Mount>> =
        files.iter().map(|file| mount(reader, file, hold, &mut prefixes)).collect();
    checked.into_iter().collect()
}

fn mount(
    reader: &ConfigReader<'_>,
    file: &file::RawMount,
    hold: Duration,
    prefixes: &mut UniqueValues<String>,
) -> Option<Mount> {
    let dialect = setting(reader, &file.dialect, scalar::dialect, Dialect::Native);
    let statuses = setting(reader, &file.video_statuses, scalar::video_statuses, VideoStatuses::Openai);
    let hold = setting(reader, &file.hold, scalar::hold, hold);
    let storage_hosts = match &file.storage_hosts {
        Some(hosts) => storage::check(reader, hosts)?,
        None => storage::usual(),
    };
    let prefix = file.prefix.as_ref()?;
    reader.check(prefix, scalar::prefix)?;
    prefixes.note(reader, prefix.value.clone(), &prefix.location, "is the same as", "keep one of them");
    let prefix = prefix.value.as_str().into();
    Some(Mount { prefix, dialect, video_statuses: statuses, hold, storage_hosts })
}

impl Mount {
    pub(super) fn native(prefix: &str) -> Self {
        Self {
            prefix: prefix.into(),
            dialect: Dialect::Native,
            video_statuses: VideoStatuses::Openai,
            hold: Duration::ZERO,
            storage_hosts: storage::usual(),
        }
    }
}

pub(super) const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 8080);
pub const ADMIN_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8081);
/// DashScope's own limit.
pub(super) const MAX_BODY_BYTES: u64 = 64 * 1024 * 1024;
pub(super) const AUTH_FAILURES_PER_SECOND: u32 = 20;
pub(super) const STORE_PATH: &str = "dashgate.db";
pub(super) const WEIGHT: u32 = 1;

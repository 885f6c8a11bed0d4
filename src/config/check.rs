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
use super::file::{self, File, Text, Whole};
use super::reader::{Reading, Written, Wrong};
use super::unique::{Secrets, Unique, Use};
use super::{
    Account, Admin, BaseUrl, Config, Dialect, Mount, Poll, Rates, Server, Store, Submit, Timeouts,
    VideoStatuses, pace, scalar, tenants, tls,
};

/// The checked configuration; None if anything is wrong, which `reading` has then noted.
pub(super) fn check(reading: &Reading<'_>, file: File, now: SystemTime) -> Option<Config> {
    let mut secrets = Secrets::default();
    let server = server(reading, &file.server, now);
    let accounts = accounts(reading, &file.accounts, &mut secrets);
    let admin = admin(reading, &file.admin, &server, &mut secrets, now);
    let poll = poll(reading, &file.poll);
    let mounts = mounts(reading, &file.mounts, poll.hold);
    let tenants = tenants::check(reading, &file, now, &mut secrets);
    let usual = Submit::default().max_wait;
    let submit = Submit { max_wait: setting(reading, &file.max_submit_wait, scalar::wait, usual) };
    let path = file.store_path.map_or_else(|| PathBuf::from(STORE_PATH), |path| path.value.into());
    Some(Config {
        server,
        admin,
        store: Store { path },
        submit,
        poll,
        accounts: accounts?,
        mounts: mounts?,
        tenants: tenants?,
        sidecar: false,
    })
}

/// A key that was left out takes its default; so does a faulty one, and then no config comes of it.
pub(super) fn setting<T>(
    reading: &Reading<'_>,
    written: &Option<Text>,
    check: impl FnOnce(&str) -> Result<T, Wrong>,
    default: T,
) -> T {
    written.as_ref().and_then(|written| reading.check(written, check)).unwrap_or(default)
}

pub(super) fn number<T: TryFrom<u64>>(written: &Option<Whole>, default: T) -> T {
    written.as_ref().and_then(|written| written.value.try_into().ok()).unwrap_or(default)
}

fn server(reading: &Reading<'_>, file: &file::Server, now: SystemTime) -> Server {
    let duration = |written: &Option<Text>, default| setting(reading, written, scalar::duration, default);
    let default = Timeouts::default();
    Server {
        listen: setting(reading, &file.listen, scalar::listen, LISTEN),
        workers: number(&file.workers, 0),
        max_body_bytes: number(&file.max_body_bytes, MAX_BODY_BYTES),
        auth_failures_per_second: number(&file.auth_failures_per_second, AUTH_FAILURES_PER_SECOND),
        tls: file.tls.as_ref().and_then(|file| tls::check(reading, file, &[b"h2", b"http/1.1"], now)),
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
    reading: &Reading<'_>,
    file: &file::Admin,
    server: &Server,
    secrets: &mut Secrets,
    now: SystemTime,
) -> Admin {
    let listen = setting(reading, &file.listen, scalar::listen, ADMIN_LISTEN);
    if overlap(listen, server.listen) {
        let problem = "the admin listener and the server would listen on the same port";
        let hint = "give `listen` in [admin] another port";
        match &file.listen {
            Some(written) => reading.fault(&written.place, problem, hint),
            None => reading.fault_at_start("admin.listen", problem, hint),
        }
    }
    if let Some(token) = &file.token {
        secrets.note(reading, token, Use::Admin);
    }
    Admin {
        listen,
        token: file.token.as_ref().map(|token| token.value.clone()),
        tls: file.tls.as_ref().and_then(|file| tls::check(reading, file, &[b"http/1.1"], now)),
    }
}

/// Whether two listeners would take the same connections. Port 0 is any free one.
pub(super) fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let any = one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() != 0 && one.port() == other.port() && (any || one.ip() == other.ip())
}

fn accounts(reading: &Reading<'_>, files: &[file::Account], secrets: &mut Secrets) -> Option<Vec<Account>> {
    let mut names = Unique::default();
    let checked: Vec<Option<Account>> =
        files.iter().map(|file| account(reading, file, &mut names, secrets)).collect();
    checked.into_iter().collect()
}

fn account(
    reading: &Reading<'_>,
    file: &file::Account,
    names: &mut Unique<String>,
    secrets: &mut Secrets,
) -> Option<Account> {
    let name = file.name.as_ref().and_then(|name| unique_name(reading, name, names));
    let url = file.base_url.as_ref().and_then(|written| {
        let url = reading.check(written, base_url)?;
        warn_of_cleartext(&url, |problem, hint| reading.warn(&written.place, problem, hint));
        Some(url)
    });
    for key in file.keys.iter().flatten() {
        secrets.note(reading, key, Use::Upstream);
    }
    let ca_pem = match &file.ca_pem {
        Some(pem) => Some(reading.check(pem, certificates)?),
        None => None,
    };
    let default = Rates::default();
    Some(Account {
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
        pace: file.pace.iter().map(|rule| pace::check(reading, rule)).collect::<Option<_>>()?,
    })
}

/// A name of its kind that nothing before has.
pub(super) fn unique_name(
    reading: &Reading<'_>,
    name: &Written<String>,
    names: &mut Unique<String>,
) -> Option<Arc<str>> {
    reading.check(name, scalar::name)?;
    names.note(reading, name.value.clone(), &name.place, "is the same as", "give each its own");
    Some(name.value.as_str().into())
}

/// Says so when an account's keys would cross the internet unencrypted.
pub(super) fn warn_of_cleartext(url: &BaseUrl, warn: impl FnOnce(&str, &str)) {
    if !url.tls && !is_private(&url.host) {
        warn("sends upstream keys unencrypted to a public host", "write https://");
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<u8>, Wrong> {
    authorities(pem).map(|_| pem.to_vec())
}

/// Certificate authorities; at least one.
pub(super) fn authorities(pem: &[u8]) -> Result<RootCertStore, Wrong> {
    let wrong = |problem: &str| Wrong::new(problem, "give certificate authorities as PEM");
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|_| wrong("is not valid PEM"))?;
        store.add(certificate).map_err(|_| wrong("has a certificate that cannot be read"))?;
    }
    if store.is_empty() { Err(wrong("has no certificate in it")) } else { Ok(store) }
}

fn poll(reading: &Reading<'_>, file: &file::Poll) -> Poll {
    let default = Poll::default();
    Poll {
        max_age: setting(reading, &file.max_age, scalar::age, default.max_age),
        hold: setting(reading, &file.hold, scalar::hold, default.hold),
    }
}

impl Default for Submit {
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

impl Default for Poll {
    fn default() -> Self {
        Self { max_age: Duration::from_secs(2), hold: Duration::ZERO }
    }
}

fn mounts(reading: &Reading<'_>, files: &[file::Mount], hold: Duration) -> Option<Vec<Mount>> {
    if files.is_empty() {
        return Some(vec![Mount { hold, ..Mount::native("/") }]);
    }
    let mut prefixes = Unique::default();
    let checked: Vec<Option<Mount>> =
        files.iter().map(|file| mount(reading, file, hold, &mut prefixes)).collect();
    checked.into_iter().collect()
}

fn mount(
    reading: &Reading<'_>,
    file: &file::Mount,
    hold: Duration,
    prefixes: &mut Unique<String>,
) -> Option<Mount> {
    let dialect = setting(reading, &file.dialect, scalar::dialect, Dialect::Native);
    if let (Dialect::Unified, Some(written)) = (dialect, &file.dialect) {
        let hint = "requests below this prefix are refused";
        reading.warn(&written.place, "a unified mount is not served by this version", hint);
    }
    let statuses = setting(reading, &file.video_statuses, scalar::video_statuses, VideoStatuses::Openai);
    let hold = setting(reading, &file.hold, scalar::hold, hold);
    let prefix = file.prefix.as_ref()?;
    reading.check(prefix, scalar::prefix)?;
    prefixes.note(reading, prefix.value.clone(), &prefix.place, "is the same as", "keep one of them");
    Some(Mount { prefix: prefix.value.as_str().into(), dialect, video_statuses: statuses, hold })
}

impl Mount {
    pub(super) fn native(prefix: &str) -> Self {
        Self {
            prefix: prefix.into(),
            dialect: Dialect::Native,
            video_statuses: VideoStatuses::Openai,
            hold: Duration::ZERO,
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

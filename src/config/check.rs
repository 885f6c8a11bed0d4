//! The check of the tables as written: values are parsed, defaults filled in, references followed, and values that must
//! be unique compared.

use std::time::{Duration, SystemTime};

use super::base_url::{base_url, warn_of_cleartext};
use super::defaults::{
    ADMIN_LISTEN, AUTH_FAILURES_PER_SECOND, LISTEN, MAX_BODY_BYTES, MIN_BODY_BYTES_PER_SECOND, WEIGHT,
};
use super::file::{self, RawConfig};
use super::reader::{ConfigReader, Text, ValueFault, number};
use super::secret::{check_length, check_upstream_key, shown};
use super::unique::{SecretUse, UniqueSecrets, UniqueValues, unique_name};
use super::{
    AccountErrors, AccountSettings, AdminRole, AdminSettings, AdminTokenSettings, Config, Dialect,
    GlobalSettings, Mount, PollSettings, Rates, ServerSettings, SubmitSettings, Timeouts, TraceSettings,
    cors, egress, log, networks, pace, prices, scalar, storage, store, tenants, tls,
};
use crate::dashscope::region::is_workspace;
use crate::net::egress_proxy::EnvironmentProxies;
use crate::unified::StatusSpelling;

/// The checked configuration. `None` if a fault was found; the reader holds the faults.
pub(super) fn check(reader: &ConfigReader<'_>, file: RawConfig, now: SystemTime) -> Option<Config> {
    let mut secrets = UniqueSecrets::default();
    let server = server(reader, &file.server, now);
    let (proxies, warnings) = egress::of_environment(reader.environment);
    warnings.into_iter().for_each(|warning| reader.warn_elsewhere(warning));
    let accounts = accounts(reader, &file.accounts, &proxies, &mut secrets);
    let admin = admin(reader, &file.admin, &server, &mut secrets, now);
    let poll = poll(reader, &file.poll);
    let mounts = mounts(reader, &file.mounts, poll.hold);
    let lists = prices::PriceLists::check(reader, &file.prices);
    let tenants = tenants::check(reader, &file, &lists, now, &mut secrets);
    let usual = SubmitSettings::default().max_wait;
    let submit = SubmitSettings { max_wait: reader.setting(&file.max_submit_wait, scalar::wait, usual) };
    let settings = GlobalSettings {
        server,
        admin,
        store: store::check(reader, &file.store),
        submit,
        poll,
        log: log::check(reader, &file.log),
        usage: prices::check_usage(reader, &file.usage),
        traces: TraceSettings { propagate: file.propagate.as_ref().is_some_and(|written| written.value) },
        proxies,
    };
    Some(Config {
        settings,
        accounts: accounts?,
        mounts: mounts?,
        tenants: tenants?,
        prices: lists,
        sidecar: false,
    })
}

fn server(reader: &ConfigReader<'_>, file: &file::RawServer, now: SystemTime) -> ServerSettings {
    let duration = |written: &Option<Text>, default| reader.setting(written, scalar::duration, default);
    let default = Timeouts::default();
    ServerSettings {
        listen: reader.setting(&file.listen, scalar::listen, LISTEN),
        workers: number(&file.workers, 0),
        max_body_bytes: number(&file.max_body_bytes, MAX_BODY_BYTES),
        min_body_bytes_per_second: number(&file.min_body_bytes_per_second, MIN_BODY_BYTES_PER_SECOND),
        auth_failures_per_second: number(&file.auth_failures_per_second, AUTH_FAILURES_PER_SECOND),
        trusted_proxies: networks::trusted_proxies(
            reader,
            file.trusted_proxies.as_deref().unwrap_or_default(),
        ),
        proxy_protocol: file.proxy_protocol.as_ref().is_some_and(|written| {
            if written.value && file.trusted_proxies.as_ref().is_none_or(Vec::is_empty) {
                let hint = "name the networks of the proxies in `trusted_proxies`";
                reader.warn(&written.location, "no proxy is trusted to tell a client's address", hint);
            }
            written.value
        }),
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

fn admin(
    reader: &ConfigReader<'_>,
    file: &file::RawAdmin,
    server: &ServerSettings,
    secrets: &mut UniqueSecrets,
    now: SystemTime,
) -> AdminSettings {
    let listen = reader.setting(&file.listen, scalar::listen, ADMIN_LISTEN);
    if scalar::overlap(listen, server.listen) {
        let problem = "the admin listener and the server would listen on the same port";
        let hint = "give `listen` in [admin] another port";
        match &file.listen {
            Some(written) => reader.fault(&written.location, problem, hint),
            None => reader.fault_at_start("admin.listen", problem, hint),
        }
    }
    if let Some(token) = &file.token {
        reader.check(token, check_length);
        secrets.note(reader, token, SecretUse::Admin);
    }
    let mut names = UniqueValues::default();
    let tokens = file.tokens.iter().filter_map(|written| admin_token(reader, written, &mut names, secrets));
    AdminSettings {
        listen,
        token: file.token.as_ref().map(|token| token.value.clone()),
        tokens: tokens.collect(),
        tls: file.tls.as_ref().and_then(|file| tls::check(reader, file, &[b"http/1.1"], now)),
    }
}

/// Checks one of several admin tokens. `None` if it has a fault.
fn admin_token(
    reader: &ConfigReader<'_>,
    written: &file::RawAdminToken,
    names: &mut UniqueValues<String>,
    secrets: &mut UniqueSecrets,
) -> Option<AdminTokenSettings> {
    let name = written.name.as_ref().and_then(|name| unique_name(reader, name, names));
    if let Some(token) = &written.token {
        reader.check(token, check_length);
        secrets.note(reader, token, SecretUse::Admin);
    }
    let role =
        |text: &str| scalar::one_of(text, &[("read", AdminRole::Read), ("operate", AdminRole::Operate)]);
    let role = reader.setting(&written.role, role, AdminRole::Read);
    Some(AdminTokenSettings { name: name?, token: written.token.as_ref()?.value.clone(), role })
}

fn accounts(
    reader: &ConfigReader<'_>,
    files: &[file::RawAccount],
    proxies: &EnvironmentProxies,
    secrets: &mut UniqueSecrets,
) -> Option<Vec<AccountSettings>> {
    let mut names = UniqueValues::default();
    let checked: Vec<Option<AccountSettings>> =
        files.iter().map(|file| account(reader, file, proxies, &mut names, secrets)).collect();
    check_exclusive(reader, files, &checked);
    checked.into_iter().collect()
}

fn account(
    reader: &ConfigReader<'_>,
    file: &file::RawAccount,
    proxies: &EnvironmentProxies,
    names: &mut UniqueValues<String>,
    secrets: &mut UniqueSecrets,
) -> Option<AccountSettings> {
    let name = file.name.as_ref().and_then(|name| unique_name(reader, name, names));
    let url = file.base_url.as_ref().and_then(|written| {
        let url = reader.check(written, base_url)?;
        let whose = shown(&file.name, "account");
        warn_of_cleartext(&url, |problem, hint| {
            reader.warn(&written.location, format!("{whose} {problem}"), hint);
        });
        Some(url)
    });
    for key in file.keys.iter().flatten() {
        reader.check(key, check_upstream_key);
        secrets.note(reader, key, SecretUse::Upstream);
    }
    let ca_pem = match &file.ca_pem {
        Some(pem) => Some(reader.check(pem, certificates)?),
        None => None,
    };
    let url = url?;
    let proxy = match &file.proxy {
        Some(written) => reader.check(written, egress::proxy)?,
        None => url.proxy_of(proxies),
    };
    let default = Rates::default();
    Some(AccountSettings {
        name: name?,
        base_url: url,
        keys: file.keys.as_ref()?.iter().map(|key| key.value.clone()).collect(),
        ca_pem,
        proxy,
        rates: Rates {
            query: number(&file.query_qps, default.query),
            list: number(&file.list_qps, default.list),
            cancel: number(&file.cancel_qps, default.cancel),
        },
        weight: number(&file.weight, WEIGHT),
        pace: file.pace.iter().map(|rule| pace::check(reader, rule)).collect::<Option<_>>()?,
        errors: reader.setting(&file.errors, scalar::account_errors, AccountErrors::Pass),
        exclusive: file.exclusive.as_ref().is_some_and(|written| written.value),
    })
}

/// Refuses `exclusive` for an account whose workspace another table names too: tasks of both are on one list.
fn check_exclusive(
    reader: &ConfigReader<'_>,
    files: &[file::RawAccount],
    accounts: &[Option<AccountSettings>],
) {
    let workspaces: Vec<Option<&str>> = accounts
        .iter()
        .map(|account| {
            let host = account.as_ref()?.base_url.host.trim_end_matches('.');
            is_workspace(host).then_some(host)
        })
        .collect();
    for (index, file) in files.iter().enumerate() {
        let written = file.exclusive.as_ref().filter(|written| written.value);
        let (Some(written), Some(own)) = (written, workspaces[index]) else { continue };
        let same = (0..files.len()).find(|other| *other != index && workspaces[*other] == Some(own));
        if let Some(location) = same.and_then(|other| Some(&files[other].base_url.as_ref()?.location)) {
            let line = reader.position(location).line;
            let problem = format!("is true, and {} in line {line} is the same workspace", location.path);
            let hint = "write all keys of a workspace in one table, or leave `exclusive` out";
            reader.fault(&written.location, problem, hint);
        }
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<u8>, ValueFault> {
    tls::authorities(pem).map(|_| pem.to_vec())
}

fn poll(reader: &ConfigReader<'_>, file: &file::RawPoll) -> PollSettings {
    let default = PollSettings::default();
    PollSettings {
        max_age: reader.setting(&file.max_age, scalar::age, default.max_age),
        hold: reader.setting(&file.hold, scalar::hold, default.hold),
        orphans: default.orphans,
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
    let dialect = reader.setting(&file.dialect, scalar::dialect, Dialect::Native);
    let statuses = reader.setting(&file.video_statuses, scalar::video_statuses, StatusSpelling::Openai);
    let hold = reader.setting(&file.hold, scalar::hold, hold);
    let storage_hosts = match &file.storage_hosts {
        Some(hosts) => storage::check(reader, hosts)?,
        None => storage::usual(),
    };
    let cors = cors::check(reader, file.cors.as_deref().unwrap_or_default())?;
    let prefix = file.prefix.as_ref()?;
    reader.check(prefix, scalar::prefix)?;
    prefixes.note(reader, prefix.value.clone(), &prefix.location, "is the same as", "keep one of them");
    let prefix = prefix.value.as_str().into();
    Some(Mount { prefix, dialect, video_statuses: statuses, hold, storage_hosts, cors })
}

//! The configuration without a file: one upstream key in the environment, and callers of the same host.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use super::base_url::{base_url, warn_of_cleartext};
use super::defaults::{
    ADMIN_LISTEN, AUTH_FAILURES_PER_SECOND, LISTEN, MAX_BODY_BYTES, MIN_BODY_BYTES_PER_SECOND, STORE_PATH,
    WEIGHT,
};
use super::fault::Fault;
use super::interpolate::Environment;
use super::prices::PriceLists;
use super::reader::ValueFault;
use super::{
    AccountErrors, AccountSettings, AdminSettings, AsyncHeader, Billing, Config, GlobalSettings, Limits,
    Loaded, LogSettings, Mount, PollSettings, Rates, Secret, ServerSettings, StoreSettings, SubmitSettings,
    TenantSettings, Timeouts, TraceSettings, UsageOption, UsageSettings, WebhookSettings, egress, scalar,
    secret,
};
use crate::dashscope::operation::Groups;
use crate::net::networks::Networks;

/// The configuration of a sidecar; `None` without `DASHSCOPE_API_KEY`.
pub(super) fn sidecar(environment: Environment<'_>) -> Option<Result<Loaded, Vec<Fault>>> {
    let key = environment(KEY).filter(|key| !key.is_empty())?;
    let mut faults = Vec::new();
    let mut warnings = Vec::new();

    let key = noted(KEY, upstream_key(&key), &mut faults);
    let listen = match environment(LISTEN_AT) {
        Some(text) => noted(LISTEN_AT, loopback(&text), &mut faults),
        None => Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), LISTEN.port())),
    };
    let admin = match environment(ADMIN_LISTEN_AT) {
        Some(text) => noted(ADMIN_LISTEN_AT, scalar::listen(&text), &mut faults),
        None => Some(ADMIN_LISTEN),
    };
    let store = environment(STORE_AT).filter(|path| !path.is_empty());
    let url = environment(UPSTREAM_URL).unwrap_or_else(|| DASHSCOPE.to_owned());
    let url = noted(UPSTREAM_URL, base_url(&url), &mut faults);
    let (proxies, unread) = egress::of_environment(environment);
    warnings.extend(unread);
    if let Some(url) = &url {
        warn_of_cleartext(url, |problem, hint| warnings.push(Fault::elsewhere(UPSTREAM_URL, problem, hint)));
    }
    if let (Some(listen), Some(admin)) = (listen, admin)
        && scalar::overlap(listen, admin)
    {
        let wrong = ValueFault::new("is the admin listener's address", "choose another port");
        noted::<()>(LISTEN_AT, Err(wrong), &mut faults);
    }
    let (Some(key), Some(listen), Some(admin), Some(base_url), true) =
        (key, listen, admin, url, faults.is_empty())
    else {
        return Some(Err(faults));
    };

    let server = ServerSettings {
        listen,
        workers: 0,
        max_body_bytes: MAX_BODY_BYTES,
        min_body_bytes_per_second: MIN_BODY_BYTES_PER_SECOND,
        auth_failures_per_second: AUTH_FAILURES_PER_SECOND,
        trusted_proxies: Networks::default(),
        proxy_protocol: false,
        timeouts: Timeouts::default(),
        tls: None,
    };
    let account = AccountSettings {
        name: "main".into(),
        proxy: base_url.proxy_of(&proxies),
        base_url,
        keys: vec![key],
        ca_pem: None,
        rates: Rates::default(),
        weight: WEIGHT,
        pace: Vec::new(),
        errors: AccountErrors::Pass,
        exclusive: false,
    };
    let tenant = TenantSettings {
        name: "local".into(),
        renamed_from: None,
        enabled: true,
        keys: Vec::new(),
        async_header: AsyncHeader::Require,
        stream_usage: UsageOption::AsSent,
        accounts: vec![0],
        models: Vec::new(),
        allow: Groups::ALL,
        weight: WEIGHT,
        limits: Limits::default(),
        tenant_limits: Limits::default(),
        client_certificates: Vec::new(),
        addresses: Networks::default(),
        tokens: None,
        billing: Billing::default(),
        webhooks: WebhookSettings::default(),
    };
    let settings = GlobalSettings {
        server,
        admin: AdminSettings { listen: admin, token: None, tokens: Vec::new(), tls: None },
        store: StoreSettings::Embedded {
            path: store.map_or_else(|| PathBuf::from(STORE_PATH), PathBuf::from),
        },
        submit: SubmitSettings::default(),
        poll: PollSettings::default(),
        traces: TraceSettings::default(),
        log: LogSettings::default(),
        usage: UsageSettings::default(),
        proxies,
    };
    let config = Config {
        settings,
        accounts: vec![account],
        mounts: ["/alibabacloudapi", "/wan", "/"].map(Mount::native).into(),
        tenants: vec![tenant],
        prices: PriceLists::default(),
        sidecar: true,
    };
    Some(Ok(Loaded { config, warnings, written: serde_json::Value::Null }))
}

fn upstream_key(text: &str) -> Result<Secret, ValueFault> {
    let key = secret::checked(text).and_then(|key| secret::check_upstream_key(&key).map(|()| key));
    let hint = "set it to one key alone, without quotes; for several keys write a configuration file";
    key.map_err(|ValueFault { problem, .. }| ValueFault::new(problem, hint))
}

/// A sidecar takes any key or none, so only its own host may reach it.
fn loopback(text: &str) -> Result<SocketAddr, ValueFault> {
    let listen = scalar::listen(text)?;
    if !listen.ip().is_loopback() {
        return Err(ValueFault::new(
            "is not a loopback address, and a sidecar takes calls without a key",
            "listen on 127.0.0.1 or [::1], or write a configuration file with tenants",
        ));
    }
    Ok(listen)
}

fn noted<T>(variable: &str, checked: Result<T, ValueFault>, faults: &mut Vec<Fault>) -> Option<T> {
    checked
        .map_err(|ValueFault { problem, hint }| faults.push(Fault::elsewhere(variable, problem, hint)))
        .ok()
}

const KEY: &str = "DASHSCOPE_API_KEY";
const LISTEN_AT: &str = "DASHGATE_LISTEN";
const ADMIN_LISTEN_AT: &str = "DASHGATE_ADMIN_LISTEN";
const STORE_AT: &str = "DASHGATE_STORE_PATH";
const UPSTREAM_URL: &str = "DASHGATE_UPSTREAM_URL";
const DASHSCOPE: &str = "https://dashscope.aliyuncs.com";

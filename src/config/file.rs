//! The tables and keys of a configuration file, and the types of their values. `check` decides what the values mean.

use super::Secret;
use super::cors;
use super::limits::{Limits, limits, models};
use super::log;
use super::moment::{self, RawMoment};
use super::node::{Node, Table};
use super::pace::{self, RawPaceRule};
use super::prices::{self, RawBilling, RawPrice, RawUsage};
use super::reader::{Located, Location, Text, Whole};
use super::secret::{bytes_in_file, secret, secret_in_file, secrets_in_file};
use super::tokens::{self, RawTokens};
use super::webhooks::{self, RawWebhooks};
use super::{store, tls};

/// A file as written. A `None` was left out, or has its fault already.
pub(super) struct RawConfig {
    pub(super) server: RawServer,
    pub(super) admin: RawAdmin,
    pub(super) store: store::RawStore,
    pub(super) max_submit_wait: Option<Text>,
    pub(super) poll: RawPoll,
    pub(super) log: log::RawLog,
    pub(super) usage: RawUsage,
    pub(super) prices: Vec<RawPrice>,
    pub(super) propagate: Option<Located<bool>>,
    pub(super) accounts: Vec<RawAccount>,
    pub(super) mounts: Vec<RawMount>,
    pub(super) tenants: Vec<RawTenant>,
}

#[derive(Default)]
pub(super) struct RawServer {
    pub(super) listen: Option<Text>,
    pub(super) workers: Option<Whole>,
    pub(super) max_body_bytes: Option<Whole>,
    pub(super) min_body_bytes_per_second: Option<Whole>,
    pub(super) auth_failures_per_second: Option<Whole>,
    pub(super) trusted_proxies: Option<Vec<Text>>,
    pub(super) proxy_protocol: Option<Located<bool>>,
    pub(super) timeouts: RawTimeouts,
    pub(super) tls: Option<tls::RawTls>,
}

#[derive(Default)]
pub(super) struct RawTimeouts {
    pub(super) header: Option<Text>,
    pub(super) idle: Option<Text>,
    pub(super) connect: Option<Text>,
    pub(super) upstream: Option<Text>,
    pub(super) drain: Option<Text>,
}

#[derive(Default)]
pub(super) struct RawAdmin {
    pub(super) listen: Option<Text>,
    pub(super) token: Option<Located<Secret>>,
    pub(super) tokens: Vec<RawAdminToken>,
    pub(super) tls: Option<tls::RawTls>,
}

pub(super) struct RawAdminToken {
    pub(super) name: Option<Text>,
    pub(super) token: Option<Located<Secret>>,
    pub(super) role: Option<Text>,
}

#[derive(Default)]
pub(super) struct RawPoll {
    pub(super) max_age: Option<Text>,
    pub(super) hold: Option<Text>,
}

pub(super) struct RawAccount {
    pub(super) name: Option<Text>,
    pub(super) base_url: Option<Text>,
    pub(super) keys: Option<Vec<Located<Secret>>>,
    pub(super) ca_pem: Option<Located<Vec<u8>>>,
    /// A secret, as the URL may have a password.
    pub(super) proxy: Option<Located<Secret>>,
    pub(super) query_qps: Option<Whole>,
    pub(super) list_qps: Option<Whole>,
    pub(super) cancel_qps: Option<Whole>,
    pub(super) weight: Option<Whole>,
    pub(super) pace: Vec<RawPaceRule>,
    pub(super) errors: Option<Text>,
    pub(super) exclusive: Option<Located<bool>>,
}

pub(super) struct RawMount {
    pub(super) prefix: Option<Text>,
    pub(super) dialect: Option<Text>,
    pub(super) video_statuses: Option<Text>,
    pub(super) hold: Option<Text>,
    pub(super) storage_hosts: Option<Vec<Text>>,
    pub(super) cors: Option<Vec<Text>>,
}

pub(super) struct RawTenant {
    pub(super) location: Location,
    pub(super) name: Option<Text>,
    pub(super) renamed_from: Option<Text>,
    pub(super) enabled: Option<Located<bool>>,
    pub(super) has_keys: bool,
    pub(super) keys: Vec<RawKey>,
    pub(super) async_header: Option<Text>,
    pub(super) stream_usage: Option<Text>,
    pub(super) accounts: Option<Located<Vec<Text>>>,
    pub(super) models: Option<Vec<String>>,
    pub(super) allow: Option<Located<Vec<Text>>>,
    pub(super) weight: Option<Whole>,
    pub(super) limits: Option<Limits>,
    pub(super) tenant_limits: Option<Limits>,
    pub(super) client_certificates: Option<Located<Vec<Text>>>,
    pub(super) addresses: Option<Located<Vec<Text>>>,
    pub(super) tokens: Option<RawTokens>,
    pub(super) billing: RawBilling,
    pub(super) webhooks: RawWebhooks,
}

pub(super) struct RawKey {
    pub(super) id: Option<Text>,
    pub(super) material: Option<RawSecret>,
    pub(super) expires: Option<RawMoment>,
    pub(super) addresses: Option<Located<Vec<Text>>>,
}

pub(super) enum RawSecret {
    Secret(Located<Secret>),
    Sha256(Text),
}

/// Reads the whole file.
pub(super) fn read(mut root: Table<'_>) -> RawConfig {
    let file = RawConfig {
        server: root.field("server").and_then(server).unwrap_or_default(),
        admin: root.field("admin").and_then(admin).unwrap_or_default(),
        store: root.field("store").and_then(store::read).unwrap_or_default(),
        max_submit_wait: root.field("submit").and_then(pace::max_wait),
        poll: root.field("poll").and_then(poll).unwrap_or_default(),
        log: root.field("log").and_then(log::read).unwrap_or_default(),
        usage: root.field("usage").and_then(prices::read_usage).unwrap_or_default(),
        prices: root.tables("prices").into_iter().map(prices::read_price).collect(),
        propagate: root.field("traces").and_then(propagate),
        accounts: root.tables("accounts").into_iter().map(account).collect(),
        mounts: root.tables("mounts").into_iter().map(mount).collect(),
        tenants: root.tables("tenants").into_iter().map(tenant).collect(),
    };
    for (name, what) in [
        ("accounts", "[[accounts]] with name, base_url and keys"),
        ("tenants", "[[tenants]] with name and keys"),
    ] {
        if !root.has_items(name) {
            root.missing(&format!("has no {name}"), &format!("add {what}"));
        }
    }
    root.finish();
    file
}

/// Reads a document with one tenant alone.
pub(super) fn read_tenant(mut root: Table<'_>) -> Option<RawTenant> {
    let written = root.tables("tenants").into_iter().map(tenant).next();
    root.finish();
    written
}

fn server(node: Node<'_>) -> Option<RawServer> {
    let mut table = node.table("write [server]")?;
    let server = RawServer {
        listen: table.field("listen").and_then(|node| node.string(LISTEN_HINT)),
        workers: table.field("workers").and_then(|node| node.whole(0..=1024)),
        max_body_bytes: table.field("max_body_bytes").and_then(|node| node.whole(1..=1 << 40)),
        min_body_bytes_per_second: table
            .field("min_body_bytes_per_second")
            .and_then(|node| node.whole(0..=1_000_000)),
        auth_failures_per_second: table
            .field("auth_failures_per_second")
            .and_then(|node| node.whole(0..=1_000_000)),
        trusted_proxies: table.field("trusted_proxies").and_then(|node| node.strings(NETWORKS_HINT)),
        proxy_protocol: table.field("proxy_protocol").and_then(|node| node.boolean()),
        timeouts: table.field("timeouts").and_then(timeouts).unwrap_or_default(),
        tls: table.field("tls").and_then(|node| tls::read(&node)),
    };
    table.finish();
    Some(server)
}

fn timeouts(node: Node<'_>) -> Option<RawTimeouts> {
    let mut table = node.table("write it like { header = \"10s\", idle = \"75s\" }")?;
    let mut text = |name| table.field(name).and_then(|node| node.string("write it like \"10s\""));
    let timeouts = RawTimeouts {
        header: text("header"),
        idle: text("idle"),
        connect: text("connect"),
        upstream: text("upstream"),
        drain: text("drain"),
    };
    table.finish();
    Some(timeouts)
}

fn admin(node: Node<'_>) -> Option<RawAdmin> {
    let mut table = node.table("write [admin]")?;
    let listen = table.field("listen").and_then(|node| node.string(LISTEN_HINT));
    let token = table.field("token");
    let key_file = table.field("key_file");
    if let (Some(_), Some(second)) = (&token, &key_file) {
        second.reader.fault(&second.location, "`token` is given too", "keep one of them");
    }
    let token = token.and_then(|node| secret(&node));
    let token = key_file.and_then(|node| secret_in_file(&node)).or(token);
    let tokens = table.tables("tokens").into_iter().map(admin_token).collect();
    let tls = table.field("tls").and_then(|node| tls::read(&node));
    table.finish();
    Some(RawAdmin { listen, token, tokens, tls })
}

fn admin_token(mut table: Table<'_>) -> RawAdminToken {
    let name = table.required("name", "give it the name of who holds it, for the audit");
    let token = table.required("token", "make one with: openssl rand -hex 24");
    let token = RawAdminToken {
        name: name.and_then(|node| node.string("write it in quotes")),
        token: token.and_then(|node| secret(&node)),
        role: table.field("role").and_then(|node| node.string("\"read\" or \"operate\"")),
    };
    table.finish();
    token
}

fn poll(node: Node<'_>) -> Option<RawPoll> {
    let mut table = node.table("write [poll]")?;
    let mut text = |name| table.field(name).and_then(|node| node.string("write it like \"2s\""));
    let poll = RawPoll { max_age: text("max_age"), hold: text("hold") };
    table.finish();
    Some(poll)
}

fn propagate(node: Node<'_>) -> Option<Located<bool>> {
    let mut table = node.table("write [traces]")?;
    let propagate = table.field("propagate").and_then(|node| node.boolean());
    table.finish();
    propagate
}

/// Reads `poll` of a mount, which has only `hold`.
fn hold(node: Node<'_>) -> Option<Text> {
    let mut table = node.table("write it like { hold = \"30s\" }")?;
    let hold = table.field("hold").and_then(|node| node.string("write it like \"30s\""));
    table.finish();
    hold
}

fn account(mut table: Table<'_>) -> RawAccount {
    let name = table.required("name", "give it a name, which tenants refer to");
    let base_url = table.required("base_url", "for example \"https://dashscope.aliyuncs.com\"");
    let keys = table.field("keys");
    let key_file = table.field("key_file");
    match (&keys, &key_file) {
        (Some(_), Some(second)) => {
            second.reader.fault(&second.location, "`keys` are given too", "keep one of them");
        }
        (None, None) if !table.has("keys") && !table.has("key_file") => {
            table.missing(
                "has neither `keys` nor `key_file`",
                "for example keys = [\"${DASHSCOPE_API_KEY}\"]",
            );
        }
        _ => {}
    }
    let from_file = key_file.and_then(|node| secrets_in_file(&node));
    let account = RawAccount {
        name: name.and_then(|node| node.string("write it in quotes")),
        base_url: base_url.and_then(|node| node.string("write it in quotes")),
        keys: keys.and_then(upstream_keys).or(from_file),
        ca_pem: table.field("ca_file").and_then(|node| {
            let (value, _) = bytes_in_file(&node, MAX_CA_FILE_BYTES)?;
            Some(Located { value, location: node.location })
        }),
        proxy: table.field("proxy").and_then(|node| secret(&node)),
        query_qps: table.field("query_qps").and_then(rate),
        list_qps: table.field("list_qps").and_then(rate),
        cancel_qps: table.field("cancel_qps").and_then(rate),
        weight: table.field("weight").and_then(|node| node.whole(0..=MAX_WEIGHT)),
        pace: table.field("pace").map(pace::read).unwrap_or_default(),
        errors: table.field("errors").and_then(|node| node.string("\"pass\" or \"neutral\"")),
        exclusive: table.field("exclusive").and_then(|node| node.boolean()),
    };
    table.finish();
    account
}

/// A number of calls per second.
fn rate(node: Node<'_>) -> Option<Whole> {
    node.whole(1..=u64::from(u32::MAX))
}

fn upstream_keys(node: Node<'_>) -> Option<Vec<Located<Secret>>> {
    let hint = "write it like keys = [\"${DASHSCOPE_API_KEY}\"]";
    let items = node.items(hint)?;
    if items.is_empty() {
        node.reader.fault(&node.location, "is empty", hint);
        return None;
    }
    // All keys are read, so that all faults are found.
    Some(items.iter().filter_map(secret).collect())
}

fn mount(mut table: Table<'_>) -> RawMount {
    let prefix = table.required("prefix", "the path that clients write first, like \"/wan\" or \"/\"");
    let mut text = |name| table.field(name).and_then(|node| node.string("write one of its words in quotes"));
    let mount = RawMount {
        prefix: prefix.and_then(|node| node.string("write a path in quotes")),
        dialect: text("dialect"),
        video_statuses: text("video_statuses"),
        hold: table.field("poll").and_then(hold),
        storage_hosts: table.field("storage").and_then(storage_hosts),
        cors: table.field("cors").and_then(cors::read),
    };
    table.finish();
    mount
}

fn storage_hosts(node: Node<'_>) -> Option<Vec<Text>> {
    let mut table = node.table("write it like { hosts = [\"dashscope-*.oss-*.aliyuncs.com\"] }")?;
    let hosts =
        table.field("hosts").and_then(|node| node.strings("write host names in quotes between [ and ]"));
    table.finish();
    hosts
}

fn tenant(mut table: Table<'_>) -> RawTenant {
    let name = table.required("name", "give it a name, for logs and metrics");
    let list = |node: Node<'_>| {
        let value = node.strings("write words in quotes between [ and ]")?;
        Some(Located { value, location: node.location })
    };
    let tenant = RawTenant {
        location: table.location.clone(),
        name: name.and_then(|node| node.string("write it in quotes")),
        enabled: table.field("enabled").and_then(|node| node.boolean()),
        renamed_from: table.field("renamed_from").and_then(|node| node.string("write a name in quotes")),
        has_keys: table.has_items("keys"),
        keys: table.field("keys").and_then(keys).unwrap_or_default(),
        async_header: table.field("async_header").and_then(|node| node.string("\"require\" or \"add\"")),
        stream_usage: table
            .field("stream_usage")
            .and_then(|node| node.string("\"as_sent\", \"require\" or \"add\"")),
        accounts: table.field("accounts").and_then(list),
        models: table.field("models").and_then(models),
        allow: table.field("allow").and_then(list),
        weight: table.field("weight").and_then(|node| node.whole(1..=MAX_WEIGHT)),
        limits: table.field("limits").and_then(|node| limits(node, true)),
        tenant_limits: table.field("tenant_limits").and_then(|node| limits(node, false)),
        client_certificates: table.field("client_certificates").and_then(list),
        addresses: table.field("addresses").and_then(addresses),
        tokens: table.field("tokens").and_then(|node| tokens::read(&node)),
        billing: prices::read_billing(&mut table),
        webhooks: webhooks::read(&mut table),
    };
    table.finish();
    tenant
}

fn keys(node: Node<'_>) -> Option<Vec<RawKey>> {
    let hint = "write it like keys = [{ id = \"acme-prod\", key = \"${ACME_KEY}\" }]";
    let items = node.items(hint)?;
    Some(items.iter().filter_map(|item| item.table(hint)).map(key).collect())
}

fn key(mut table: Table<'_>) -> RawKey {
    let id = table.required("id", "give the key a name for logs and metrics: the key itself is never shown");
    let key = table.field("key");
    let key_file = table.field("key_file");
    let sha256 = table.field("sha256");
    let written = MATERIALS.iter().filter(|name| table.has(name)).count();
    let hint = "give exactly one of `key`, `key_file` and `sha256`";
    if written == 0 {
        table.missing("has no key", hint);
    } else if written > 1 {
        table.reader.fault(&table.location, "has more than one key", hint);
    }
    let key = key.and_then(|node| secret(&node));
    let from_file = key_file.and_then(|node| secret_in_file(&node));
    let sha256 = sha256.and_then(|node| {
        node.reader.hide(&node.location);
        node.string("write 64 hex digits in quotes")
    });
    let material = key.or(from_file).map(RawSecret::Secret).or(sha256.map(RawSecret::Sha256));
    let key = RawKey {
        id: id.and_then(|node| node.string("write it in quotes")),
        material,
        expires: table
            .field("expires")
            .and_then(|node| moment::read(&node, "write it like \"2027-01-01T00:00:00Z\"")),
        addresses: table.field("addresses").and_then(addresses),
    };
    table.finish();
    key
}

fn addresses(node: Node<'_>) -> Option<Located<Vec<Text>>> {
    let value = node.strings(NETWORKS_HINT)?;
    Some(Located { value, location: node.location })
}

const LISTEN_HINT: &str = "write it like \"0.0.0.0:8080\"";
const NETWORKS_HINT: &str = "write it like [\"10.0.0.0/8\"]";
const MATERIALS: [&str; 3] = ["key", "key_file", "sha256"];
const MAX_WEIGHT: u64 = 1000;
const MAX_CA_FILE_BYTES: u64 = 4 * 1024 * 1024;

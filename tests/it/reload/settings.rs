//! Reload of each key of the configuration. The example file has all of them, so none is
//! forgotten here.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use dashgate::config::Difference;
use dashgate::lifecycle::reload::Reloaded;
use toml::Table;

use super::upstream;
use crate::harness::gateway::CONFIG_FILE;
use crate::harness::tls::{Authority, Identity};
use crate::harness::{ADMIN_TOKEN, Gateway, needs_the_file};

/// The answer to a reload for a key that has changed.
#[derive(Debug, Clone, Copy)]
enum ReloadResult {
    /// The change is in force, and the answer names this key.
    Setting(&'static str),
    /// The change is in force, and the answer names this item of the list.
    Changes(&'static str, &'static str),
    /// The key names an item: the answer lists the new item and the old one.
    Renames(&'static str),
    /// The change waits for the next start.
    Restart(&'static str),
}

use ReloadResult::{Changes, Renames, Restart, Setting};

/// A key, its text in the example, and its new text.
type Row = (&'static str, &'static str, &'static str, ReloadResult);

const ACCOUNT: ReloadResult = Changes("accounts", "main");
const TENANT: ReloadResult = Changes("tenants", "acme");
const KEY: ReloadResult = Changes("keys", "acme-prod");

#[rustfmt::skip]
const ROWS: &[Row] = &[
    ("server.listen", "listen = \"127.0.0.1:0\"", "listen = \"127.0.0.2:0\"", Restart("server.listen")),
    ("server.workers", "workers = 1", "workers = 2", Restart("server.workers")),
    ("server.max_body_bytes", "max_body_bytes = 9000", "max_body_bytes = 9001", Setting("server.max_body_bytes")),
    ("server.min_body_bytes_per_second", "min_body_bytes_per_second = 500", "min_body_bytes_per_second = 501", Setting("server.min_body_bytes_per_second")),
    ("server.auth_failures_per_second", "auth_failures_per_second = 20", "auth_failures_per_second = 21", Setting("server.auth_failures_per_second")),
    ("server.trusted_proxies", "trusted_proxies = [\"10.0.0.0/8\"]", "trusted_proxies = [\"10.0.0.0/9\"]", Setting("server.trusted_proxies")),
    ("server.proxy_protocol", "proxy_protocol = false", "proxy_protocol = true", Setting("server.proxy_protocol")),
    ("server.tls.cert", "[server.tls]\ncert = \"tls.crt\"", "[server.tls]\ncert = \"other.crt\"", Setting("server.tls")),
    ("server.tls.key", "key = \"server.key\"", "key = \"other.key\"", Setting("server.tls")),
    ("server.tls.client_ca", "client_ca = \"ca.pem\" # server", "client_ca = \"other.pem\"", Setting("server.tls")),
    ("server.tls.client_crl", "client_crl = \"ca.crl\" # server", "client_crl = \"other.crl\"", Setting("server.tls")),
    ("server.timeouts.header", "header = \"10s\"", "header = \"11s\"", Setting("server.timeouts")),
    ("server.timeouts.idle", "idle = \"75s\"", "idle = \"76s\"", Setting("server.timeouts")),
    ("server.timeouts.connect", "connect = \"5s\"", "connect = \"6s\"", Setting("server.timeouts")),
    ("server.timeouts.upstream", "upstream = \"300s\"", "upstream = \"301s\"", Setting("server.timeouts")),
    ("server.timeouts.drain", "drain = \"30s\"", "drain = \"31s\"", Setting("server.timeouts")),
    ("admin.listen", "listen = \"127.0.0.3:0\"", "listen = \"127.0.0.4:0\"", Restart("admin.listen")),
    ("admin.token", "token = \"${UNSET:-admin-4c1d7be09f2a5836}\"", "token = \"another-token-0123\"", Setting("admin.token")),
    ("admin.tokens.name", "name = \"night-watch\"", "name = \"day-watch\"", Setting("admin.tokens")),
    ("admin.tokens.token", "watcher-4c1d7be09f2a5836", "watcher-another-0123", Setting("admin.tokens")),
    ("admin.tokens.role", "role = \"read\"", "role = \"operate\"", Setting("admin.tokens")),
    ("admin.tls.cert", "[admin.tls]\ncert = \"tls.crt\"", "[admin.tls]\ncert = \"other.crt\"", Setting("admin.tls")),
    ("admin.tls.key", "key = \"admin.key\"", "key = \"other.key\"", Setting("admin.tls")),
    ("admin.tls.client_ca", "client_ca = \"ca.pem\" # admin", "client_ca = \"other.pem\"", Setting("admin.tls")),
    ("admin.tls.client_crl", "client_crl = \"ca.crl\" # admin", "client_crl = \"other.crl\"", Setting("admin.tls")),
    ("store.path", "dashgate.db", "other.db", Restart("store.path")),
    ("store.url", "[store]", "[store]\nurl = \"postgres://me@db/db\"", Restart("store.url")),
    ("store.password_file", "[store]", "[store]\nurl = \"postgres://me@db/db\"\npassword_file = \"keys\"", Restart("store.url")),
    ("store.refuse_stale_keys_after", "[store]", "[store]\nurl = \"postgres://me@db/db\"\nrefuse_stale_keys_after = \"1h\"", Restart("store.url")),
    ("poll.max_age", "max_age = \"2s\"", "max_age = \"3s\"", Setting("poll")),
    ("poll.hold", "hold = \"0s\"", "hold = \"1s\"", Setting("poll")),
    ("log.access", "access.log", "other.log", Setting("log")),
    ("log.format", "format = \"json\"", "format = \"text\"", Setting("log")),
    ("log.sample", "sample = 1.0", "sample = 0.5", Setting("log")),
    ("log.diagnostics", "diagnostics = \"text\"", "diagnostics = \"json\"", Setting("log")),
    ("traces.propagate", "propagate = false", "propagate = true", Setting("traces.propagate")),
    ("usage.currency", "currency = \"CNY\"", "currency = \"USD\"", Setting("usage.currency")),
    ("usage.zone", "zone = \"+08:00\"", "zone = \"+00:00\"", Restart("usage.zone")),
    ("usage.keep", "keep = \"400d\"", "keep = \"90d\"", Restart("usage.keep")),
    ("usage.lost", "lost = \"free\"", "lost = \"hold\"", Setting("usage.lost")),
    ("usage.strict", "strict = false", "strict = true", Setting("usage.strict")),
    ("prices.list", "list = \"default\" # moves", "list = \"second\"", TENANT),
    ("prices.models", "models = [\"wan2.7-r2v\"]", "models = [\"wan2.7-videoedit\"]", TENANT),
    ("prices.unit", "unit = \"input_token\"", "unit = \"output_token\"", TENANT),
    ("prices.class", "class = \"720P\"", "class = \"1080P\"", TENANT),
    ("prices.over_tokens", "over_tokens = 9", "over_tokens = 10", TENANT),
    ("prices.price", "price = \"0.60\"", "price = \"0.61\"", TENANT),
    ("prices.per", "per = 1000", "per = 1001", TENANT),
    ("prices.from", "from = \"2026-12-01T00:00:00+08:00\"", "from = \"2027-12-01T00:00:00+08:00\"", TENANT),
    ("submit.max_wait", "max_wait = \"5s\"", "max_wait = \"6s\"", Setting("submit.max_wait")),
    ("accounts.name", "name = \"spare\"", "name = \"other\"", Renames("accounts")),
    ("accounts.base_url", "/base", "/other", ACCOUNT),
    ("accounts.keys", "sk-upstream-1", "sk-upstream-2", ACCOUNT),
    ("accounts.ca_file", "ca_file = \"authorities.pem\"", "", ACCOUNT),
    ("accounts.proxy", "proxy = \"http://proxy:3128\"", "proxy = \"none\"", ACCOUNT),
    ("accounts.query_qps", "query_qps = 20", "query_qps = 21", ACCOUNT),
    ("accounts.list_qps", "list_qps = 20", "list_qps = 21", ACCOUNT),
    ("accounts.cancel_qps", "cancel_qps = 20", "cancel_qps = 21", ACCOUNT),
    ("accounts.weight", "weight = 7", "weight = 8", ACCOUNT),
    ("accounts.pace.models", "models = [\"wan2.7-t2v\"]", "models = [\"wan2.7-*\"]", ACCOUNT),
    ("accounts.pace.requests_per_second", "requests_per_second = 5.5", "requests_per_second = 6", ACCOUNT),
    ("accounts.pace.running", "running = \"unlimited\"", "running = 9", ACCOUNT),
    ("accounts.errors", "errors = \"pass\"", "errors = \"neutral\"", ACCOUNT),
    ("accounts.exclusive", "exclusive = false", "exclusive = true", ACCOUNT),
    ("mounts.prefix", "prefix = \"/spare\"", "prefix = \"/other\"", Renames("mounts")),
    ("mounts.dialect", "dialect = \"native\"", "dialect = \"unified\"", Changes("mounts", "/wan")),
    ("mounts.video_statuses", "video_statuses = \"openai\"", "video_statuses = \"opeai\"", Changes("mounts", "/wan")),
    ("mounts.poll.hold", "hold = \"30s\"", "hold = \"31s\"", Changes("mounts", "/wan")),
    ("mounts.storage.hosts", "hosts = [\"a.example.com\"]", "hosts = [\"b.example.com\"]", Changes("mounts", "/wan")),
    ("mounts.cors.origins", "origins = [\"https://a.example.com\"]", "origins = [\"https://b.example.com\"]", Changes("mounts", "/wan")),
    ("tenants.name", "name = \"spare-tenant\"", "name = \"other-tenant\"", Renames("tenants")),
    ("tenants.renamed_from", "renamed_from = \"acme-old\"", "renamed_from = \"acme-older\"", TENANT),
    ("tenants.enabled", "enabled = true", "enabled = false", TENANT),
    ("tenants.async_header", "async_header = \"require\"", "async_header = \"add\"", TENANT),
    ("tenants.stream_usage", "stream_usage = \"as_sent\"", "stream_usage = \"add\"", TENANT),
    ("tenants.accounts", "accounts = [\"main\"]", "accounts = [\"main\", \"spare\"]", TENANT),
    ("tenants.allow", "allow = [\"generate\", \"tasks\"]", "allow = [\"generate\", \"tasks\", \"uploads\"]", TENANT),
    ("tenants.weight", "weight = 3", "weight = 4", TENANT),
    ("tenants.models", "models = [\"wan*\"]", "models = [\"qwen*\"]", TENANT),
    ("tenants.limits.requests_per_second", "limits.requests_per_second = 10", "limits.requests_per_second = 11", TENANT),
    ("tenants.limits.burst", "limits.burst = 20", "limits.burst = 21", TENANT),
    ("tenants.limits.concurrent_requests", "limits.concurrent_requests = 50", "limits.concurrent_requests = 51", TENANT),
    ("tenants.limits.tasks_in_flight", "limits.tasks_in_flight = 20", "limits.tasks_in_flight = 21", TENANT),
    ("tenants.limits.max_duration_seconds", "limits.max_duration_seconds = 10", "limits.max_duration_seconds = 11", TENANT),
    ("tenants.limits.max_resolution", "limits.max_resolution = \"1080P\"", "limits.max_resolution = \"720P\"", TENANT),
    ("tenants.limits.models", "limits.models = [\"wan2.7-*\"]", "limits.models = [\"wan3.0\"]", TENANT),
    ("tenants.limits.polls.requests_per_second", "requests_per_second = 30", "requests_per_second = 31", TENANT),
    ("tenants.limits.polls.burst", "burst = 40", "burst = 41", TENANT),
    ("tenants.limits.submits.requests_per_second", "requests_per_second = 2,", "requests_per_second = 3,", TENANT),
    ("tenants.limits.submits.burst", "burst = 5 ", "burst = 6 ", TENANT),
    ("tenants.limits.streams.concurrent_requests", "concurrent_requests = 15 ", "concurrent_requests = 16 ", TENANT),
    ("tenants.tenant_limits.requests_per_second", "requests_per_second = 100,", "requests_per_second = 101,", TENANT),
    ("tenants.tenant_limits.burst", "burst = 110,", "burst = 111,", TENANT),
    ("tenants.tenant_limits.concurrent_requests", "concurrent_requests = 200,", "concurrent_requests = 201,", TENANT),
    ("tenants.tenant_limits.tasks_in_flight", "tasks_in_flight = 120,", "tasks_in_flight = 121,", TENANT),
    ("tenants.tenant_limits.max_duration_seconds", "max_duration_seconds = 12,", "max_duration_seconds = 13,", TENANT),
    ("tenants.tenant_limits.max_resolution", "max_resolution = \"720P\"", "max_resolution = \"480P\"", TENANT),
    ("tenants.tenant_limits.polls.requests_per_second", "requests_per_second = 50,", "requests_per_second = 55,", TENANT),
    ("tenants.tenant_limits.polls.burst", "burst = 51 ", "burst = 55 ", TENANT),
    ("tenants.tenant_limits.submits.requests_per_second", "requests_per_second = 52,", "requests_per_second = 55,", TENANT),
    ("tenants.tenant_limits.submits.burst", "burst = 53 ", "burst = 55 ", TENANT),
    ("tenants.tenant_limits.streams.concurrent_requests", "concurrent_requests = 54 ", "concurrent_requests = 55 ", TENANT),
    ("tenants.addresses", "addresses = [\"192.0.2.0/24\"]", "addresses = [\"192.0.2.0/25\"]", TENANT),
    ("tenants.tokens.seconds", "tokens.seconds = 600", "tokens.seconds = 601", TENANT),
    ("tenants.tokens.allow", "tokens.allow = [\"generate\"]", "tokens.allow = [\"tasks\"]", TENANT),
    ("tenants.tokens.models", "tokens.models = [\"wan2.7-*\"]", "", TENANT),
    ("tenants.tokens.origin", "tokens.origin = \"https://app.example.com\"", "", TENANT),
    ("tenants.prices", "prices = \"default\"", "prices = \"second\"", TENANT),
    ("tenants.price_factor", "price_factor = \"0.85\"", "price_factor = \"0.86\"", TENANT),
    ("tenants.budgets.amount", "amount = \"500.00\"", "amount = \"501.00\"", TENANT),
    ("tenants.budgets.period", "period = \"month\"", "period = \"week\"", TENANT),
    ("tenants.prepaid", "prepaid = false", "prepaid = true", TENANT),
    ("tenants.unpriced", "unpriced = \"refuse\"", "unpriced = \"allow\"", TENANT),
    ("tenants.webhooks.url", "url = \"https://acme.example/a\"", "url = \"https://acme.example/b\"", TENANT),
    ("tenants.webhooks.secrets", "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "whsec_BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB", TENANT),
    ("tenants.webhooks.events", "events = [\"task.*\"]", "events = [\"*\"]", TENANT),
    ("tenants.webhooks.include", "include = \"none\"", "include = \"output\"", TENANT),
    ("tenants.webhooks.private", "private = false", "private = true", TENANT),
    ("tenants.webhook_hosts", "webhook_hosts = [\"*.acme.example\"]", "webhook_hosts = [\"acme.example\"]", TENANT),
    ("tenants.client_certificates", "CN=acme-prod", "CN=acme-test", TENANT),
    ("tenants.keys.id", "id = \"spare-key\"", "id = \"other-key\"", Renames("keys")),
    ("tenants.keys.key", "sk-tenant-0123456789", "sk-tenant-9876543210", KEY),
    ("tenants.keys.expires", "expires = \"2040-01-01T00:00:00Z\"", "expires = \"2041-01-01T00:00:00Z\"", KEY),
    ("tenants.keys.addresses", "addresses = [\"192.0.2.7\"]", "addresses = [\"192.0.2.8\"]", KEY),
    // Keys that the example names only in comments.
    ("accounts.key_file", "keys = [\"sk-spare\"]", "key_file = \"keys\"", Changes("accounts", "spare")),
    ("admin.key_file", "token = \"${UNSET:-admin-4c1d7be09f2a5836}\"", "key_file = \"keys\"", Setting("admin.token")),
    ("tenants.keys.key_file", "key = \"sk-tenant-spare-012345\"", "key_file = \"keys\"", Changes("keys", "spare-key")),
    ("tenants.keys.sha256", "key = \"sk-tenant-spare-012345\"", "sha256 = \"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08\"", Changes("keys", "spare-key")),
    ("tenants.limits.polls.concurrent_requests", "burst = 40", "burst = 40, concurrent_requests = 1", TENANT),
    ("tenants.limits.submits.concurrent_requests", "burst = 5 ", "burst = 5, concurrent_requests = 1 ", TENANT),
    ("tenants.limits.streams.requests_per_second", "concurrent_requests = 15 ", "concurrent_requests = 15, requests_per_second = 1 ", TENANT),
    ("tenants.limits.streams.burst", "concurrent_requests = 15 ", "concurrent_requests = 15, requests_per_second = 1, burst = 9 ", TENANT),
];

/// Number of the first rows, whose keys the example shows.
const SHOWN: usize = 124;

const PRICES: &str = r#"
[usage]
currency = "CNY"
zone = "+08:00"
keep = "400d"
lost = "free"
strict = false
[[prices]]
list = "default" # moves
models = ["wan2.7-r2v"]
unit = "input_token"
class = "720P"
over_tokens = 9
price = "0.60"
per = 1000
from = "2026-12-01T00:00:00+08:00"
[[prices]]
list = "default"
models = ["wan-*"]
unit = "video_second"
price = "0.7"
[[prices]]
list = "second"
models = ["wan-*"]
unit = "video_second"
price = "0.8"
"#;

/// A second tenant.
const SPARE_TENANT: &str = r#"[[tenants]]
name = "spare-tenant"
accounts = [ "main" ]
keys = [{ id = "spare-key", key = "sk-tenant-spare-012345" }]
"#;

/// Limits of the keys, and of the tenant.
const LIMITS: &str = r#"limits.requests_per_second = 10
limits.burst = 20
limits.concurrent_requests = 50
limits.tasks_in_flight = 20
limits.max_duration_seconds = 10
limits.max_resolution = "1080P"
limits.models = ["wan2.7-*"]
limits.polls = { requests_per_second = 30, burst = 40 }
limits.submits = { requests_per_second = 2, burst = 5 }
limits.streams = { concurrent_requests = 15 }
tenant_limits = { requests_per_second = 100, burst = 110, concurrent_requests = 200, tasks_in_flight = 120, max_duration_seconds = 12, max_resolution = "720P", polls = { requests_per_second = 50, burst = 51 }, submits = { requests_per_second = 52, burst = 53 }, streams = { concurrent_requests = 54 } }
"#;

fn base(upstream: &str) -> String {
    format!(
        r#"
[server]
listen = "127.0.0.1:0"
workers = 1
max_body_bytes = 9000
min_body_bytes_per_second = 500
auth_failures_per_second = 20
trusted_proxies = ["10.0.0.0/8"]
proxy_protocol = false
[server.tls]
cert = "tls.crt"
key = "server.key"
client_ca = "ca.pem" # server
client_crl = "ca.crl" # server
[server.timeouts]
header = "10s"
idle = "75s"
connect = "5s"
upstream = "300s"
drain = "30s"
[admin]
listen = "127.0.0.3:0"
token = "${{UNSET:-{ADMIN_TOKEN}}}"
tokens = [{{ name = "night-watch", token = "watcher-4c1d7be09f2a5836", role = "read" }}]
[admin.tls]
cert = "tls.crt"
key = "admin.key"
client_ca = "ca.pem" # admin
client_crl = "ca.crl" # admin
[poll]
max_age = "2s"
hold = "0s"
[submit]
max_wait = "5s"
{PRICES}[traces]
propagate = false
[[accounts]]
name = "main"
base_url = "http://{upstream}/base"
keys = ["sk-upstream-1"]
ca_file = "authorities.pem"
proxy = "http://proxy:3128"
query_qps = 20
list_qps = 20
cancel_qps = 20
weight = 7
pace = [{{ models = ["wan2.7-t2v"], requests_per_second = 5.5, running = "unlimited" }}]
errors = "pass"
exclusive = false
[[accounts]]
name = "spare"
base_url = "http://{upstream}"
keys = ["sk-spare"]
[[mounts]]
prefix = "/spare"
poll = {{ hold = "29s" }}
[[mounts]]
prefix = "/wan"
dialect = "native"
video_statuses = "openai"
poll = {{ hold = "30s" }}
storage = {{ hosts = ["a.example.com"] }}
cors = {{ origins = ["https://a.example.com"] }}
[[tenants]]
name = "acme"
renamed_from = "acme-old"
enabled = true
async_header = "require"
stream_usage = "as_sent"
accounts = ["main"]
allow = ["generate", "tasks"]
client_certificates = ["CN=acme-prod"]
addresses = ["192.0.2.0/24"]
tokens.seconds = 600
tokens.allow = ["generate"]
tokens.models = ["wan2.7-*"]
tokens.origin = "https://app.example.com"
prices = "default"
price_factor = "0.85"
budgets = [{{ amount = "500.00", period = "month" }}]
prepaid = false
unpriced = "refuse"
webhooks = [{{ url = "https://acme.example/a", secrets = ["whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"], events = ["task.*"], include = "none", private = false }}]
webhook_hosts = ["*.acme.example"]
weight = 3
models = ["wan*"]
{LIMITS}[[tenants.keys]]
id = "acme-prod"
key = "sk-tenant-0123456789"
expires = "2040-01-01T00:00:00Z"
addresses = ["192.0.2.7"]
{SPARE_TENANT}"#
    )
}

/// Every key of the example, with those of the lines that start with `# key =`.
fn keys_of_the_example() -> BTreeSet<String> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/dashgate.example.toml"));
    let uncomment = |line: &str| {
        let bare = line.strip_prefix("# ").unwrap_or_default();
        let name = bare.split_once(" = ").map(|(name, _)| name);
        let is_key = name.is_some_and(|name| {
            name.bytes()
                .all(|byte| byte.is_ascii_lowercase() || b"._".contains(&byte) || byte.is_ascii_digit())
        });
        if is_key { bare.to_owned() } else { line.to_owned() }
    };
    let text: Vec<String> = text.expect("the example").lines().map(uncomment).collect();
    let table: Table = text.join("\n").parse().expect("TOML");
    let mut keys = BTreeSet::new();
    collect("", &toml::Value::Table(table), &mut keys);
    keys
}

fn collect(path: &str, value: &toml::Value, keys: &mut BTreeSet<String>) {
    match value {
        toml::Value::Table(table) => table.iter().for_each(|(name, value)| {
            collect(&if path.is_empty() { name.clone() } else { format!("{path}.{name}") }, value, keys);
        }),
        toml::Value::Array(items) if items.iter().any(toml::Value::is_table) => {
            items.iter().for_each(|item| collect(path, item, keys));
        }
        toml::Value::String(_)
        | toml::Value::Integer(_)
        | toml::Value::Float(_)
        | toml::Value::Boolean(_)
        | toml::Value::Datetime(_)
        | toml::Value::Array(_) => {
            keys.insert(path.to_owned());
        }
    }
}

#[test]
fn every_key_of_the_example_has_its_row() {
    let rows: BTreeSet<String> = ROWS[..SHOWN].iter().map(|(key, ..)| (*key).to_owned()).collect();
    assert_eq!(keys_of_the_example(), rows);
}

#[test]
fn each_key_takes_effect_or_says_that_it_needs_a_restart() {
    if needs_the_file() {
        return;
    }
    let upstream = upstream();
    let folder = tempfile::tempdir().expect("a folder");
    write_files(folder.path());
    let file = folder.path().join(CONFIG_FILE);
    let text = base(&upstream.address.to_string());
    let write = |text: &str| fs::write(&file, text).expect("written");
    let gateway = Gateway::from_file_in(folder, &text);
    // The configuration with the store and the access log, which the harness puts behind it.
    let base = fs::read_to_string(&file).expect("the file");
    for (key, written, instead, takes) in ROWS {
        assert_eq!(base.matches(written).count(), 1, "{key}: {written}");
        write(&base);
        load(&gateway);
        write(&base.replace(written, instead));
        let Reloaded { changes, needs_restart, .. } = load(&gateway);
        let (named, at_the_next_start) = expected(*takes);
        assert_eq!(needs_restart, at_the_next_start, "{key}: {changes}");
        let kinds = [
            ("tenants", &changes.tenants),
            ("keys", &changes.keys),
            ("accounts", &changes.accounts),
            ("mounts", &changes.mounts),
        ];
        let mut found = Vec::new();
        for (kind, Difference { added, removed, changed }) in kinds {
            found.extend(added.iter().map(|_| format!("{kind} added")));
            found.extend(removed.iter().map(|_| format!("{kind} removed")));
            found.extend(changed.iter().map(|name| format!("{kind} ~{name}")));
        }
        found.extend(changes.settings.iter().map(|name| (*name).to_owned()));
        if *key == "tenants.name" {
            // The tenant's key belongs to another tenant after the reload.
            found.retain(|name| name != "keys ~spare-key");
        }
        assert_eq!(found, named, "{key}: {changes}");
    }
}

/// Writes the files that the configuration names, and another file of each kind.
fn write_files(folder: &Path) {
    let authority = Authority::new();
    let Identity { certificate, key } = authority.server();
    let write = |name: &str, text: String| fs::write(folder.join(name), text).expect("written");
    write("other.crt", certificate.clone() + &authority.pem());
    write("tls.crt", certificate);
    write("other.key", key.clone() + "\n");
    write("server.key", key.clone());
    write("admin.key", key);
    for name in ["ca.pem", "authorities.pem"] {
        write(name, authority.pem());
    }
    write("other.pem", authority.pem() + &Authority::new().pem());
    write("ca.crl", authority.revoking(&[7]));
    write("other.crl", authority.revoking(&[7, 8]));
    write("keys", "sk-from-a-file-0123456789\n".to_owned());
}

/// Reloads without the admin listener, whose token and certificates differ from row to row.
fn load(gateway: &Gateway) -> Reloaded {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let outcome = runtime.block_on(gateway.running.reloads().expect("a file").reload());
    outcome.expect("an outcome").unwrap_or_else(|faults| panic!("{faults:#?}"))
}

fn expected(takes: ReloadResult) -> (Vec<String>, Vec<&'static str>) {
    match takes {
        Setting(name) => (vec![name.to_owned()], Vec::new()),
        Changes(kind, name) => (vec![format!("{kind} ~{name}")], Vec::new()),
        Renames(kind) => (vec![format!("{kind} added"), format!("{kind} removed")], Vec::new()),
        Restart(name) => (Vec::new(), vec![name]),
    }
}

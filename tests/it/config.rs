//! A configuration is read whole: every fault at once, at its line and column, and no secret is shown.

mod faults;
mod prices;
mod secrets;
mod sources;

use std::path::Path;
use std::time::Duration;

use dashgate::config::{AsyncHeader, BaseUrl, Config, Dialect, Fault, Loaded, Rate, Rule, Secret, report};
use dashgate::dashscope::operation::Groups;
use dashgate::unified::StatusSpelling;

const ACME_KEY: &str = "vk-acme-0123456789abcdef";
const UPSTREAM_KEY: &str = "sk-upstream-0123456789";
const ADMIN_TOKEN: &str = "admin-0123456789abcdef";

fn environment(name: &str) -> Option<String> {
    let value = match name {
        "ACME_KEY" => ACME_KEY,
        "DASHSCOPE_API_KEY" => UPSTREAM_KEY,
        "DASHGATE_ADMIN_TOKEN" => ADMIN_TOKEN,
        "EMPTY" => "",
        _ => return None,
    };
    Some(value.to_owned())
}

fn parse(text: &str) -> Result<Loaded, Vec<Fault>> {
    Config::parse(text, Path::new("/nonexistent"), &environment)
}

fn problems(faults: &[Fault]) -> Vec<String> {
    let lines = report("f", faults);
    lines.lines().filter_map(|line| line.strip_prefix("f:")).map(str::to_owned).collect()
}

/// The faults of a text without their hints, as `line:column: path: problem`.
fn faults(text: &str) -> Vec<String> {
    parse(text).map(|_| Vec::new()).unwrap_or_else(|faults| problems(&faults))
}

fn warnings(text: &str) -> Vec<String> {
    problems(&parse(text).unwrap_or_else(|faults| panic!("{}", report("f", &faults))).warnings)
}

/// A whole file around some lines, which start at line 1. It names an account `a` and a tenant `t`.
fn around(lines: &str) -> String {
    format!("{lines}\n{ACCOUNT}{TENANT}")
}

const ACCOUNT: &str = "[[accounts]]\nname = \"a\"\nbase_url = \"https://h\"\nkeys = [\"sk-1\"]\n";
const TENANT: &str = "[[tenants]]\nname = \"t\"\nkeys = [{ id = \"k\", key = \"0123456789abcdef\" }]\n";

/// An account with some lines more, which start at line 2.
fn account(lines: &str) -> String {
    format!("[[accounts]]\n{lines}\n{TENANT}")
}

/// A tenant with some lines more, which start at line 6.
fn tenant(lines: &str) -> String {
    format!("{ACCOUNT}[[tenants]]\n{lines}\n")
}

/// A tenant with one key table, which starts at 7:9.
fn key(table: &str) -> String {
    tenant(&format!("name = \"t\"\nkeys = [{table}]"))
}

#[test]
fn the_shortest_file_takes_the_defaults() {
    let Loaded { config, warnings, .. } = parse(&around("")).unwrap();
    assert_eq!(warnings, []);
    assert_eq!(config.settings.server.listen.to_string(), "0.0.0.0:8080");
    assert_eq!((config.settings.server.workers, config.settings.server.max_body_bytes), (0, 67_108_864));
    let timeouts = config.settings.server.timeouts;
    assert_eq!(timeouts.header, Duration::from_secs(10));
    assert_eq!(timeouts.idle, Duration::from_secs(75));
    assert_eq!(timeouts.connect, Duration::from_secs(5));
    assert_eq!(timeouts.upstream, Duration::from_secs(300));
    assert_eq!(timeouts.drain, Duration::from_secs(30));
    assert_eq!(
        (config.settings.admin.listen.to_string().as_str(), config.settings.admin.token),
        ("127.0.0.1:8081", None)
    );
    assert_eq!(config.settings.store.path(), Some(Path::new("dashgate.db")));
    assert_eq!((config.accounts[0].rates.query, config.accounts[0].weight), (20, 1));
    assert_eq!(config.mounts.len(), 1);
    assert_eq!((&*config.mounts[0].prefix, config.mounts[0].dialect), ("/", Dialect::Native));
    let tenant = &config.tenants[0];
    assert_eq!(tenant.accounts, [0]);
    assert_eq!(tenant.allow, Groups::ALL);
    assert_eq!(tenant.async_header, AsyncHeader::Require);
    assert!(tenant.models.is_empty() && !config.sidecar);
}

/// The example of the design document, with a whole digest in place of a shortened one.
const CONTRACT: &str = r#"
[server]
listen = "0.0.0.0:8080"
workers = 0                          # 0: one per core
max_body_bytes = 67108864            # DashScope's own limit
# tls = { cert = "tls.crt", key = "tls.key", client_ca = "ca.crt" }
timeouts = { header = "10s", idle = "75s", connect = "5s", upstream = "300s", drain = "30s" }

[admin]
listen = "127.0.0.1:8081"
token = "${DASHGATE_ADMIN_TOKEN}"    # no token: health and metrics only

[store]
path = "dashgate.db"                 # embedded. Replicas: url = "redis://..."

[[accounts]]
name = "main"
base_url = "https://dashscope.aliyuncs.com"
keys = ["${DASHSCOPE_API_KEY}"]
query_qps = 20

[[mounts]]
prefix = "/alibabacloudapi"          # /alibabacloudapi/v1/... and /alibabacloudapi/api/v1/...
[[mounts]]
prefix = "/wan"
[[mounts]]
prefix = "/"                         # /api/v1/... as on DashScope itself
[[mounts]]
prefix = "/v1"
dialect = "unified"                  # /v1/videos and /v1/tasks/{id}
video_statuses = "openai"            # or "opeai": QUEUED, IN_PROGRESS, SUCCESS, FAILURE

[[tenants]]
name = "acme"
keys = [{ id = "acme-prod", key = "${ACME_KEY}" }, { id = "acme-ci", sha256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", expires = "2099-01-01T00:00:00Z" }]
async_header = "require"             # or "add": put it on for clients that can't
accounts = ["main"]                  # which it may use; default all
models = ["wan2.7-*", "qwen*"]       # default all
allow = ["generate", "tasks", "uploads", "compatible", "realtime"]   # the default
limits = { requests_per_second = 10, burst = 20, concurrent_requests = 50, tasks_in_flight = 20 }   # each of its keys
"#;

#[test]
fn the_contract_loads() {
    let Loaded { config, .. } = parse(CONTRACT).unwrap_or_else(|faults| panic!("{}", report("f", &faults)));
    assert_eq!(config.settings.admin.token.as_ref().map(Secret::expose), Some(ADMIN_TOKEN));
    assert_eq!(config.accounts[0].keys[0].expose(), UPSTREAM_KEY);
    let url = BaseUrl { tls: true, host: "dashscope.aliyuncs.com".into(), port: 443, path: String::new() };
    assert_eq!(config.accounts[0].base_url, url);
    assert_eq!(config.mounts[3].dialect, Dialect::Unified);
    assert_eq!(config.mounts[3].video_statuses, StatusSpelling::Openai);
    let tenant = &config.tenants[0];
    assert_eq!(tenant.keys[1].sha256[..2], [0x9f, 0x86]);
    assert!(tenant.keys[0].expires.is_none() && tenant.keys[1].expires.is_some());
    assert_eq!(tenant.models, ["wan2.7-*", "qwen*"]);
    let rate = Rate { requests_per_second: 10.0, burst: 20 };
    assert_eq!(tenant.limits.all, Rule { rate: Some(rate), concurrent_requests: Some(50) });
    assert_eq!(tenant.limits.tasks_in_flight, Some(20));
    assert_eq!(warnings(CONTRACT), [] as [&str; 0]);
    assert!(!format!("{config:?}").contains(UPSTREAM_KEY));
}

#[test]
fn the_example_loads_and_shows_the_defaults() {
    let text = include_str!("../../deploy/dashgate.example.toml");
    let Loaded { config, warnings, .. } =
        parse(text).unwrap_or_else(|faults| panic!("{}", report("f", &faults)));
    assert_eq!(warnings, []);
    let bare = parse(&around("")).unwrap().config;
    assert_eq!(format!("{:?}", config.settings.server), format!("{:?}", bare.settings.server));
    assert_eq!(config.settings.admin.listen, bare.settings.admin.listen);
    assert_eq!(config.settings.store, bare.settings.store);
    assert_eq!(config.accounts[0].rates, bare.accounts[0].rates);
    assert_eq!(
        (config.settings.poll.max_age, config.settings.poll.hold),
        (bare.settings.poll.max_age, bare.settings.poll.hold)
    );
    assert_eq!(config.accounts[0].weight, bare.accounts[0].weight);
    assert_eq!(config.settings.submit.max_wait, bare.settings.submit.max_wait);
    assert_eq!(config.tenants[0].weight, bare.tenants[0].weight);
    assert_eq!(config.tenants[0].allow, bare.tenants[0].allow);
    let unified =
        config.mounts.iter().find(|mount| mount.dialect == Dialect::Unified).expect("a unified mount");
    assert_eq!(unified.storage_hosts, bare.mounts[0].storage_hosts);
    assert_eq!(unified.video_statuses, bare.mounts[0].video_statuses);
    // Lines that are commented out in the example are valid too.
    let whole = text.replace("\n# models", "\nmodels").replace("\n# limits", "\nlimits");
    let whole = whole.replace("\n# pace", "\npace");
    let whole = whole.replace("\n# tenant_limits", "\ntenant_limits").replace("\n# expires", "\nexpires");
    let Loaded { config, warnings, .. } =
        parse(&whole).unwrap_or_else(|faults| panic!("{}", report("f", &faults)));
    assert_eq!(warnings, []);
    let tenant = &config.tenants[0];
    assert_eq!(tenant.limits.polls.rate, Some(Rate { requests_per_second: 20.0, burst: 40 }));
    assert_eq!((tenant.limits.max_duration_seconds, tenant.limits.max_resolution), (Some(10), Some(1080)));
    assert_eq!(tenant.tenant_limits.all.rate, Some(Rate { requests_per_second: 100.0, burst: 200 }));
}

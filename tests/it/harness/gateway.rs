//! A gateway in this process, on a port of its own.

use std::net::SocketAddr;
use std::path::Path;

use dashgate::app::{self, Running};
use dashgate::config::Config;

use super::client;
use super::message::Message;

pub(crate) const UPSTREAM_KEY: &str = "sk-upstream-5f0c1e9ab7d24c38";
pub(crate) const TENANT_KEY: &str = "sk-tenant-one-3b9d6c70e1f84a52";
pub(crate) const OTHER_KEY: &str = "sk-tenant-two-8a17e4d2906bc3f5";

pub(crate) struct Gateway {
    pub(crate) address: SocketAddr,
    pub(crate) running: Running,
}

impl Gateway {
    /// Mounts `/alibabacloudapi`, `/wan` and `/`, the tenants `one` and `two`, one account.
    pub(crate) fn start(upstream: SocketAddr) -> Self {
        Self::with(upstream, "", "")
    }

    /// The same, with more lines in `[server]` and in the tenant `one`.
    pub(crate) fn with(upstream: SocketAddr, server: &str, tenant: &str) -> Self {
        let server = format!("listen = \"127.0.0.1:0\"\nworkers = 1\n{server}");
        Self::configured(&configuration(&server, &[("main", upstream, &[UPSTREAM_KEY], "")], tenant))
    }

    /// The same with several accounts, and two workers.
    pub(crate) fn pooled(accounts: &[Account<'_>]) -> Self {
        Self::configured(&configuration("listen = \"127.0.0.1:0\"\nworkers = 2", accounts, ""))
    }

    /// Keeps its tasks in memory, unless the text names a store.
    pub(crate) fn configured(text: &str) -> Self {
        let loaded =
            Config::parse(text, Path::new("."), &|_| None).unwrap_or_else(|faults| panic!("{faults:#?}"));
        let mut config = loaded.config;
        config.store.path = config.store.path.filter(|path| path.is_absolute());
        let running = app::start(&config).expect("a gateway");
        Self { address: running.address(), running }
    }

    /// One request on a connection of its own.
    pub(crate) fn ask(&self, request: impl AsRef<[u8]>) -> Message {
        client::once(self.address, request)
    }
}

/// A name, where its upstream is, its keys, and more lines.
pub(crate) type Account<'a> = (&'a str, SocketAddr, &'a [&'a str], &'a str);

/// Accounts, mounts and two tenants, with lines in `[server]` and in the tenant `one`.
pub(crate) fn configuration(server: &str, accounts: &[Account<'_>], tenant: &str) -> String {
    let account = |(name, upstream, keys, more): &Account<'_>| {
        format!("[[accounts]]\nname = {name:?}\nbase_url = \"http://{upstream}\"\nkeys = {keys:?}\n{more}\n")
    };
    let accounts: String = accounts.iter().map(account).collect();
    format!(
        r#"
[server]
{server}

[admin]
listen = "127.0.0.1:0"

{accounts}
[[mounts]]
prefix = "/alibabacloudapi"
[[mounts]]
prefix = "/wan"
[[mounts]]
prefix = "/"

[[tenants]]
name = "one"
keys = [{{ id = "one-key", key = "{TENANT_KEY}" }}]
{tenant}

[[tenants]]
name = "two"
keys = [{{ id = "two-key", key = "{OTHER_KEY}" }}]
"#
    )
}

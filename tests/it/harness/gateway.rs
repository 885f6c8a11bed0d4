//! A gateway in this process, on a port of its own.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output};

use dashgate::app::{self, RunningGateway};
use dashgate::config::{Config, LogTarget};

use super::client;
use super::logs;
use super::message::{Message, message};
use super::openapi;
use super::secrets::SearchedLog;
use super::state::StateDirectory;

pub(crate) const UPSTREAM_KEY: &str = "sk-upstream-5f0c1e9ab7d24c38";
pub(crate) const TENANT_KEY: &str = "sk-tenant-one-3b9d6c70e1f84a52";
pub(crate) const OTHER_KEY: &str = "sk-tenant-two-8a17e4d2906bc3f5";

/// Token of the admin API in the configurations of the tests.
pub(crate) const ADMIN_TOKEN: &str = "admin-4c1d7be09f2a5836";

pub(crate) struct Gateway {
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) running: RunningGateway,
    /// The log, searched for secrets when the gateway has ended.
    _searched: SearchedLog,
    /// Directory of the access log and the store, or of the access log beside a database; removed with the gateway.
    pub(crate) directory: StateDirectory,
}

impl Gateway {
    /// A gateway with the mounts `/alibabacloudapi`, `/wan` and `/`, the tenants `one` and `two`, and one account.
    pub(crate) fn start(upstream: SocketAddr) -> Self {
        Self::with(upstream, "", "")
    }

    /// The usual gateway with more lines in `[server]` and in the tenant `one`.
    pub(crate) fn with(upstream: SocketAddr, server: &str, tenant: &str) -> Self {
        let server = format!("listen = \"127.0.0.1:0\"\nworkers = 1\n{server}");
        Self::configured(&configuration(&server, &[("main", upstream, &[UPSTREAM_KEY], "")], tenant))
    }

    /// A gateway with several accounts and two workers; each task query asks the upstream.
    pub(crate) fn pooled(accounts: &[Account<'_>]) -> Self {
        let server = "listen = \"127.0.0.1:0\"\nworkers = 2\n[poll]\nmax_age = \"0s\"";
        Self::configured(&configuration(server, accounts, ""))
    }

    /// A gateway with this configuration, but for its admin listener, which takes any free port, and its store and log.
    pub(crate) fn configured(text: &str) -> Self {
        Self::over(StateDirectory::new(), text)
    }

    /// A gateway over the store in the directory.
    pub(crate) fn over(directory: impl Into<StateDirectory>, text: &str) -> Self {
        let loaded =
            Config::parse(text, Path::new("."), &|_| None).unwrap_or_else(|faults| panic!("{faults:#?}"));
        let gateway = Self::of(directory, loaded.config);
        gateway.directory.wait_for_lead();
        gateway
    }

    /// A sidecar: a gateway without a configuration file, which takes any key or none.
    pub(crate) fn sidecar(upstream: SocketAddr) -> Self {
        let environment = |name: &str| match name {
            "DASHSCOPE_API_KEY" => Some(UPSTREAM_KEY.to_owned()),
            "DASHGATE_LISTEN" => Some("127.0.0.1:0".to_owned()),
            "DASHGATE_UPSTREAM_URL" => Some(format!("http://{upstream}")),
            _ => None,
        };
        let loaded = Config::sidecar(&environment).expect("a sidecar");
        let config = loaded.unwrap_or_else(|faults| panic!("{faults:#?}")).config;
        Self::of(StateDirectory::new(), config)
    }

    /// A gateway with a configuration, over the store in the directory.
    pub(crate) fn of(directory: impl Into<StateDirectory>, mut config: Config) -> Self {
        let directory = directory.into();
        config.settings.admin.listen.set_port(0);
        // A configuration that names a database keeps it.
        if config.settings.store.url().is_none() {
            config.settings.store = directory.settings();
        }
        config.settings.log.access = LogTarget::File(directory.path().join(ACCESS_LOG));
        logs::capture();
        let running = app::start(&config).expect("a gateway");
        let admin = running.admin_address().expect("an admin listener");
        let _searched = SearchedLog::new(&directory.path().join(ACCESS_LOG));
        Self { address: running.address(), admin, running, _searched, directory }
    }

    /// A gateway with a configuration file beside its store, which a test can rewrite.
    pub(crate) fn from_file(text: &str) -> Self {
        Self::from_file_in(StateDirectory::new(), text)
    }

    /// A gateway with a configuration file in a directory that holds other files already.
    pub(crate) fn from_file_in(directory: impl Into<StateDirectory>, text: &str) -> Self {
        let directory = directory.into();
        write_config_over(directory.path(), &directory.lines(), text);
        let (files, loaded) = Config::load_with_files(&directory.path().join(CONFIG_FILE));
        let loaded = loaded.unwrap_or_else(|faults| panic!("{faults:#?}"));
        logs::capture();
        let running = app::start_from(&loaded, files).expect("a gateway");
        let admin = running.admin_address().expect("an admin listener");
        let _searched = SearchedLog::new(&directory.path().join(ACCESS_LOG));
        directory.wait_for_lead();
        Self { address: running.address(), admin, running, _searched, directory }
    }

    /// Rewrites the configuration file and reloads it.
    pub(crate) fn reload(&self, text: &str) -> Message {
        write_config_over(self.directory.path(), &self.directory.lines(), text);
        self.administer("POST /admin/reload", "")
    }

    /// Stops the gateway, and leaves its store.
    pub(crate) fn stop(self) -> StateDirectory {
        let Self { running, directory, .. } = self;
        drop(running);
        directory
    }

    /// The lines of the access log so far.
    pub(crate) fn lines(&self) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(self.directory.path().join(ACCESS_LOG)).expect("an access log");
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    /// Sends a request to the admin listener with its token, and checks the answer against the OpenAPI document.
    #[track_caller]
    pub(crate) fn administer(&self, request_line: &str, body: &str) -> Message {
        administer(self.admin, request_line, body)
    }

    /// Runs a command of the program as a client of the admin listener.
    pub(crate) fn command(&self, name: &str, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_dashgate"))
            .args([name, "--admin", &format!("http://{}", self.admin)])
            .args(arguments)
            .env("DASHGATE_ADMIN_TOKEN", ADMIN_TOKEN)
            .output()
            .expect("the program")
    }

    /// Output of a command that succeeds.
    #[track_caller]
    pub(crate) fn printed(&self, name: &str, arguments: &[&str]) -> String {
        let output = self.command(name, arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    }

    /// Sends a request on a connection of its own, and returns the answer.
    pub(crate) fn ask(&self, request: impl AsRef<[u8]>) -> Message {
        client::once(self.address, request)
    }
}

/// Sends a request to any admin listener with the token, and checks the answer against the OpenAPI document.
#[track_caller]
pub(crate) fn administer(admin: SocketAddr, request_line: &str, body: &str) -> Message {
    let token = format!("Authorization: Bearer {ADMIN_TOKEN}");
    let fields = [&*token, "Content-Type: application/json"];
    let answer = client::once(admin, message(request_line, &fields, body));
    openapi::check(request_line, body, &answer);
    answer
}

pub(crate) const CONFIG_FILE: &str = "dashgate.toml";
pub(crate) const ACCESS_LOG: &str = "access.log";

/// Writes the configuration, with a store beside it.
pub(crate) fn write_config(folder: &Path, text: &str) {
    write_config_over(folder, &format!("path = {:?}\n", folder.join("dashgate.db")), text);
}

/// Writes the configuration, with these lines of `[store]`.
pub(crate) fn write_config_over(folder: &Path, store: &str, text: &str) {
    let file = folder.join(CONFIG_FILE);
    let log = folder.join(ACCESS_LOG);
    let own = format!(
        "[store]\n{store}[log]\naccess = {log:?}\nformat = \"json\"\nsample = 1.0\ndiagnostics = \"text\"\n"
    );
    std::fs::write(file, format!("{text}\n{own}")).expect("written");
}

/// An account: its name, its upstream, its keys, and more lines.
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
token = "{ADMIN_TOKEN}"

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

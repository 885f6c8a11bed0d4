//! The peer between the clients and the simulator: the gateway, nginx, or none.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use clap::ValueEnum;
use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::client::Client;
use crate::rig;
use crate::rig::process::{Process, Taken, address_after};
use crate::simulator::UPSTREAM_KEY;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Through {
    /// dashgate with a plain configuration.
    Gateway,
    /// nginx as a plain proxy that swaps the key.
    Nginx,
    /// Nothing: the clients have the upstream key.
    Direct,
}

impl Through {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Through::Gateway => "gateway",
            Through::Nginx => "nginx",
            Through::Direct => "direct",
        }
    }
}

/// `[poll]` of the gateway's configuration; a setting that is `None` is left out.
#[derive(Clone, Default)]
pub(crate) struct Poll {
    pub(crate) max_age: Option<String>,
    pub(crate) hold: Option<String>,
}

pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    admin: Option<SocketAddr>,
    process: Option<Process>,
    /// True when the peer swaps the client's key for the account's.
    swaps_keys: bool,
    /// Directory of the configuration and the store; removed with the peer.
    _directory: TempDir,
}

impl Peer {
    pub(crate) async fn start(through: Through, upstream: SocketAddr, poll: &Poll) -> io::Result<Peer> {
        let directory = tempfile::tempdir()?;
        let (process, address, admin) = match through {
            Through::Direct => (None, upstream, None),
            Through::Gateway => gateway(directory.path(), upstream, poll)?,
            Through::Nginx => nginx(directory.path(), upstream).await?,
        };
        let swaps_keys = through != Through::Direct;
        Ok(Peer { address, admin, process, swaps_keys, _directory: directory })
    }

    /// The clients of one of two tenants. Only the gateway can tell them apart.
    pub(crate) fn client(&self, tenant: Tenant) -> Client {
        Client::new(self.address, self.key(tenant))
    }

    pub(crate) fn key(&self, tenant: Tenant) -> &'static str {
        match tenant {
            Tenant::One | Tenant::Two if !self.swaps_keys => UPSTREAM_KEY,
            Tenant::One => ONE_KEY,
            Tenant::Two => TWO_KEY,
        }
    }

    pub(crate) fn taken(&self) -> Taken {
        self.process.as_ref().map(Process::taken).unwrap_or_default()
    }

    /// `/metrics` of the gateway, when it has them.
    pub(crate) async fn metrics(&self) -> Option<String> {
        let (status, body) = Client::new(self.admin?, ONE_KEY).get("/metrics").await.ok()?;
        (status == 200).then(|| String::from_utf8_lossy(&body).into_owned())
    }
}

#[derive(Clone, Copy)]
pub(crate) enum Tenant {
    One,
    Two,
}

type Started = (Option<Process>, SocketAddr, Option<SocketAddr>);

fn gateway(directory: &Path, upstream: SocketAddr, poll: &Poll) -> io::Result<Started> {
    let setting = |name: &str, value: &Option<String>| {
        value.as_ref().map(|value| format!("{name} = {value:?}\n")).unwrap_or_default()
    };
    let poll = setting("max_age", &poll.max_age) + &setting("hold", &poll.hold);
    let poll = if poll.is_empty() { poll } else { format!("[poll]\n{poll}") };
    let config = format!(
        r#"
[server]
listen = "127.0.0.1:0"
[admin]
listen = "127.0.0.1:0"
[store]
path = "{store}"
{poll}
[[accounts]]
name = "main"
base_url = "http://{upstream}"
keys = ["{UPSTREAM_KEY}"]
[[mounts]]
prefix = "/"
[[tenants]]
name = "one"
keys = [{{ id = "one", key = "{ONE_KEY}" }}]
[[tenants]]
name = "two"
keys = [{{ id = "two", key = "{TWO_KEY}" }}]
"#,
        store = directory.join("dashgate.db").display()
    );
    let file = directory.join("dashgate.toml");
    std::fs::write(&file, config)?;
    let mut command = Command::new(env!("CARGO_BIN_EXE_dashgate"));
    let process = Process::start(command.env("RUST_LOG", "info").args(["serve", "-c"]).arg(&file))?;
    let line = process.line_with(LISTENING)?;
    let (address, admin) = (address_after(&line, LISTENING)?, address_after(&line, "admin http://").ok());
    Ok((Some(process), address, admin))
}

async fn nginx(directory: &Path, upstream: SocketAddr) -> io::Result<Started> {
    let mut command = rig::fetch::program("nginx")?;
    // nginx can't report which port it took, so it gets one that was free a moment ago.
    let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
    let place = directory.display();
    let config = format!(
        r#"
daemon off;
pid {place}/pid;
error_log stderr error;
worker_processes auto;
events {{ worker_connections 8192; }}
http {{
  access_log off;
  client_body_temp_path {place}/body;
  proxy_temp_path {place}/proxy;
  fastcgi_temp_path {place}/fastcgi;
  uwsgi_temp_path {place}/uwsgi;
  scgi_temp_path {place}/scgi;
  upstream dashscope {{ server {upstream}; keepalive 64; }}
  server {{
    listen {address} backlog=4096;
    location / {{
      proxy_pass http://dashscope;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Authorization "Bearer {UPSTREAM_KEY}";
      proxy_read_timeout 300s;
    }}
  }}
}}
"#
    );
    let file = directory.join("nginx.conf");
    std::fs::write(&file, config)?;
    let process =
        Process::start(command.arg("-p").arg(directory).arg("-c").arg(&file).args(["-e", "stderr"]))?;
    for _ in 0..500 {
        if TcpStream::connect(address).await.is_ok() {
            return Ok((Some(process), address, None));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Err(io::Error::other(format!("nginx does not listen on {address}:\n{}", process.said())))
}

/// Keys of a gateway on loopback: nothing that they open is worth anything.
const ONE_KEY: &str = "sk-bench-tenant-one-2b7d09e4";
const TWO_KEY: &str = "sk-bench-tenant-two-91c3f6a8";
const LISTENING: &str = "listening on http://";

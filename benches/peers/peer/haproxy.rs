//! HAProxy, doing what it can of the job; and as a relay of bytes.

use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;

use super::{confined, free_address, write};
use crate::job::{self, Job, PREFIX, RATE, UPSTREAM_KEY};
use crate::rig::fetch;
use crate::rig::process::Process;

pub(super) fn start(job: &Job<'_>) -> io::Result<(Process, SocketAddr)> {
    let mut map = String::new();
    for key in 0..job.keys {
        let _ = writeln!(map, "{} key-{key}", job::key(key));
    }
    let map = write(job, "keys.map", &map)?;
    let address = free_address()?;
    let (bind, server) = tls(job);
    let config = format!(
        r#"{global}
defaults
  mode http
  option http-keep-alive
  option http-no-delay
  http-reuse always
  log global
  log-format '{{"time":"%tr","request_id":"%ID","key_id":"%[var(txn.key_id)]","method":"%HM","uri":"%HPO","code":%ST,"bytes_in":%U,"bytes_out":%B,"ms":%Ta}}'
  {timeouts}
backend limits
  stick-table type string len 32 size 1m expire 60s store http_req_rate(1s)
frontend gateway
  bind {address} {bind} backlog 16384
  unique-id-format %[uuid()]
  http-request set-var(txn.key_id) req.hdr(authorization),word(2,' '),map_str({map})
  http-request deny deny_status 401 unless {{ var(txn.key_id) -m found }}
  http-request track-sc0 var(txn.key_id) table limits
  http-request deny deny_status 429 if {{ sc_http_req_rate(0,limits) gt {RATE} }}
  http-request deny deny_status 404 unless {{ path_beg {PREFIX}/ }}
  http-request deny deny_status 403 if {{ path_beg {PREFIX}/api/v1/services/aigc/video-generation/ }} !{{ req.hdr(x-dashscope-async) enable }}
  http-request replace-path {PREFIX}/(.*) /\1
  http-request set-header authorization "Bearer {UPSTREAM_KEY}"
  http-request del-header cookie
  default_backend dashscope
backend dashscope
  server one {upstream} {server}
"#,
        global = global(job),
        timeouts = TIMEOUTS,
        map = map.display(),
        upstream = job.upstream,
    );
    run(job, "haproxy.cfg", &config, address)
}

pub(super) fn relay(job: &Job<'_>) -> io::Result<(Process, SocketAddr)> {
    let address = free_address()?;
    let config = format!(
        "{global}\ndefaults\n  mode tcp\n  {TIMEOUTS}\nfrontend relay\n  bind {address} backlog 16384\n  default_backend upstream\n\
         backend upstream\n  server one {upstream}\n",
        global = global(job),
        upstream = job.upstream,
    );
    run(job, "relay.cfg", &config, address)
}

fn run(job: &Job<'_>, name: &str, config: &str, address: SocketAddr) -> io::Result<(Process, SocketAddr)> {
    let file = write(job, name, config)?;
    let mut command = fetch::program("haproxy")?;
    command.args(["-db", "-f"]).arg(&file);
    let mut command = confined(job, &command);
    // HAProxy's log lines go to a file, as those of the other peers do.
    Ok((Process::start_with_output(&mut command, &job.directory.join("access.log"))?, address))
}

fn global(job: &Job<'_>) -> String {
    format!(
        "global\n  nbthread {}\n  maxconn 9800\n  log stdout format raw local0\n  ssl-server-verify none\n",
        job.workers
    )
}

fn tls(job: &Job<'_>) -> (String, String) {
    job.identity.map_or_else(Default::default, |identity| {
        let both = identity.both();
        let bind = format!("ssl crt {} ssl-min-ver TLSv1.2", both.display());
        let server =
            format!("ssl verify required ca-file {} verifyhost localhost", identity.certificate().display());
        (bind, server)
    })
}

const TIMEOUTS: &str =
    "timeout client 300s\n  timeout server 300s\n  timeout connect 5s\n  timeout http-keep-alive 300s";

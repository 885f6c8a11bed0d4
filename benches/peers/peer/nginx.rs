//! nginx, doing what it can of the job: it knows no tasks.

use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;

use super::{confined, free_address, write};
use crate::job::{self, Job, PREFIX, RATE, UPSTREAM_KEY};
use crate::rig::fetch;
use crate::rig::process::Process;

pub(super) fn start(job: &Job<'_>) -> io::Result<(Process, SocketAddr)> {
    let address = free_address()?;
    let mut map = String::new();
    for key in 0..job.keys {
        let _ = writeln!(map, "\"Bearer {}\" key-{key};", job::key(key));
    }
    write(job, "keys.map", &map)?;
    let file = write(job, "nginx.conf", &config(job, address))?;
    let mut command = fetch::program("nginx")?;
    command.arg("-p").arg(job.directory).arg("-c").arg(&file).args(["-e", "stderr"]);
    Ok((Process::start(&mut confined(job, &command))?, address))
}

fn config(job: &Job<'_>, address: SocketAddr) -> String {
    let place = job.directory.display();
    let (listen, tls, scheme) = match job.identity {
        None => ("", String::new(), "http"),
        Some(identity) => {
            let tls = format!(
                "ssl_certificate {}; ssl_certificate_key {}; ssl_protocols TLSv1.2 TLSv1.3; ssl_session_cache shared:tls:10m;\n\
                 proxy_ssl_protocols TLSv1.2 TLSv1.3; proxy_ssl_session_reuse on; proxy_ssl_verify on; \
                 proxy_ssl_name localhost; proxy_ssl_trusted_certificate {};",
                identity.certificate().display(),
                identity.key().display(),
                identity.certificate().display()
            );
            ("ssl", tls, "https")
        }
    };
    format!(
        r#"
daemon off;
pid {place}/pid;
error_log stderr error;
worker_processes {workers};
worker_rlimit_nofile 20000;
events {{ worker_connections 20000; }}
http {{
  log_format gateway escape=json '{{"time":"$time_iso8601","request_id":"$request_id","key_id":"$key_id","method":"$request_method","uri":"$uri","code":$status,"bytes_in":$request_length,"bytes_out":$bytes_sent,"seconds":$request_time,"upstream_seconds":"$upstream_response_time"}}';
  access_log {place}/access.log gateway buffer=64k flush=1s;
  client_body_temp_path {place}/body;
  proxy_temp_path {place}/proxy;
  fastcgi_temp_path {place}/fastcgi;
  uwsgi_temp_path {place}/uwsgi;
  scgi_temp_path {place}/scgi;
  keepalive_requests 100000000;
  keepalive_timeout 300s;
  client_max_body_size 64m;
  tcp_nodelay on;
  map_hash_max_size {hash};
  map_hash_bucket_size 128;
  map $http_authorization $key_id {{ default ""; include {place}/keys.map; }}
  limit_req_zone $key_id zone=keys:64m rate={RATE}r/s;
  limit_req_status 429;
  upstream dashscope {{ server {upstream}; keepalive 128; keepalive_requests 100000000; keepalive_timeout 300s; }}
  server {{
    listen {address} {listen} backlog=16384;
    {tls}
    if ($key_id = "") {{ return 401 '{{"code":"InvalidApiKey","message":"Invalid API-key provided."}}'; }}
    limit_req zone=keys burst={RATE} nodelay;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_set_header Authorization "Bearer {UPSTREAM_KEY}";
    proxy_set_header Cookie "";
    proxy_buffering off;
    proxy_request_buffering off;
    proxy_read_timeout 300s;
    location {PREFIX}/api/v1/services/aigc/video-generation/ {{
      if ($http_x_dashscope_async != "enable") {{ return 403 '{{"code":"AccessDenied"}}'; }}
      rewrite ^{PREFIX}/(.*)$ /$1 break;
      proxy_pass {scheme}://dashscope;
    }}
    location {PREFIX}/ {{ proxy_pass {scheme}://dashscope/; }}
    location / {{ return 404; }}
  }}
}}
"#,
        workers = job.workers,
        hash = (job.keys * 2).next_power_of_two(),
        upstream = job.upstream,
    )
}

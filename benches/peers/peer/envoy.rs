//! Envoy, doing what it can of the job without code of one's own: it has no map of keys.

use std::io;
use std::net::SocketAddr;

use super::{confined, free_address, write};
use crate::job::{Job, PREFIX, RATE, UPSTREAM_KEY};
use crate::rig::fetch;
use crate::rig::process::Process;

pub(super) fn start(job: &Job<'_>) -> io::Result<(Process, SocketAddr)> {
    let address = free_address()?;
    let file = write(job, "envoy.yaml", &config(job, address))?;
    let mut command = fetch::program("envoy")?;
    command.arg("-c").arg(&file).args(["--concurrency", &job.workers.to_string()]);
    command.args(["--log-level", "error", "--disable-hot-restart", "--use-dynamic-base-id"]);
    Ok((Process::start(&mut confined(job, &command))?, address))
}

fn config(job: &Job<'_>, address: SocketAddr) -> String {
    let route = format!(
        r#"typed_per_filter_config: {{}}
                request_headers_to_remove: [cookie]
                request_headers_to_add:
                - {{ header: {{ key: authorization, value: "Bearer {UPSTREAM_KEY}" }}, append_action: OVERWRITE_IF_EXISTS_OR_ADD }}"#
    );
    let (listener_tls, cluster_tls) = tls(job);
    format!(
        r#"
static_resources:
  listeners:
  - name: gateway
    address: {{ socket_address: {{ address: {ip}, port_value: {port} }} }}
    tcp_backlog_size: 16384
    filter_chains:
    - {listener_tls}
      filters:
      - name: http
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: gateway
          codec_type: HTTP1
          access_log:
          - name: file
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog
              path: {log}
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:
              - match:
                  prefix: "{PREFIX}/api/v1/services/aigc/video-generation/"
                  headers: [{{ name: x-dashscope-async, string_match: {{ exact: enable }} }}]
                route: {{ cluster: dashscope, prefix_rewrite: "/api/v1/services/aigc/video-generation/", timeout: 300s }}
                {route}
              - match: {{ prefix: "{PREFIX}/api/v1/services/aigc/video-generation/" }}
                direct_response: {{ status: 403 }}
              - match: {{ prefix: "{PREFIX}/" }}
                route: {{ cluster: dashscope, prefix_rewrite: "/", timeout: 300s }}
                {route}
          http_filters:
          - name: local_ratelimit
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit
              stat_prefix: limit
              token_bucket: {{ max_tokens: {RATE}0, tokens_per_fill: {RATE}0, fill_interval: 1s }}
              filter_enabled: {{ default_value: {{ numerator: 100, denominator: HUNDRED }} }}
              filter_enforced: {{ default_value: {{ numerator: 100, denominator: HUNDRED }} }}
          - name: router
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
  clusters:
  - name: dashscope
    type: STATIC
    connect_timeout: 5s
    {cluster_tls}
    circuit_breakers: {{ thresholds: [{{ max_connections: 20000, max_pending_requests: 20000, max_requests: 20000 }}] }}
    load_assignment:
      cluster_name: dashscope
      endpoints:
      - lb_endpoints:
        - endpoint: {{ address: {{ socket_address: {{ address: {up_ip}, port_value: {up_port} }} }} }}
"#,
        ip = address.ip(),
        port = address.port(),
        log = job.directory.join("access.log").display(),
        up_ip = job.upstream.ip(),
        up_port = job.upstream.port(),
    )
}

fn tls(job: &Job<'_>) -> (String, String) {
    let Some(identity) = job.identity else { return (String::from("name: plain"), String::new()) };
    let (certificate, key) = (identity.certificate(), identity.key());
    let listener = format!(
        r#"transport_socket:
        name: tls
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
          common_tls_context:
            tls_certificates: [{{ certificate_chain: {{ filename: {} }}, private_key: {{ filename: {} }} }}]"#,
        certificate.display(),
        key.display()
    );
    let cluster = format!(
        r#"transport_socket:
      name: tls
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
        common_tls_context:
          tls_params: {{ tls_maximum_protocol_version: TLSv1_3 }}
          validation_context: {{ trusted_ca: {{ filename: {} }} }}"#,
        certificate.display()
    );
    (listener, cluster)
}

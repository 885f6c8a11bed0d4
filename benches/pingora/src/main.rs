//! The job of `benches/peers` on Pingora, as somebody who knows it would write it: key map, rate limit, header check,
//! prefix rewrite, access log.
//!
//! `pingora-peer LISTEN UPSTREAM WORKERS KEYS PREFIX UPSTREAM_KEY RATE LOG [CERTIFICATE KEY]`

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::sync::mpsc::{self, SyncSender};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use http::header::{AUTHORIZATION, COOKIE};
use pingora::http::RequestHeader;
use pingora::listeners::tls::TlsSettings;
use pingora::prelude::*;
use pingora::server::configuration::ServerConf;
use pingora_limits::rate::Rate;

struct Gateway {
    keys: HashMap<Box<str>, Arc<str>>,
    prefix: String,
    credential: String,
    rate: Rate,
    most: isize,
    upstream: HttpPeer,
    log: SyncSender<String>,
}

struct Exchange {
    began: Instant,
    key_id: Option<Arc<str>>,
}

#[async_trait]
impl ProxyHttp for Gateway {
    type CTX = Exchange;

    fn new_ctx(&self) -> Exchange {
        Exchange { began: Instant::now(), key_id: None }
    }

    async fn request_filter(&self, session: &mut Session, exchange: &mut Exchange) -> Result<bool> {
        let head = session.req_header();
        let field = head.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let key = field.and_then(|value| value.strip_prefix("Bearer "));
        let Some(key_id) = key.and_then(|key| self.keys.get(key)) else {
            session.respond_error(401).await?;
            return Ok(true);
        };
        exchange.key_id = Some(Arc::clone(key_id));
        if self.rate.observe(key_id, 1) > self.most {
            session.respond_error(429).await?;
            return Ok(true);
        }
        let path = head.uri.path();
        let Some(rest) = path.strip_prefix(&*self.prefix) else {
            session.respond_error(404).await?;
            return Ok(true);
        };
        let is_submit = rest.starts_with("/api/v1/services/aigc/video-generation/");
        if is_submit && head.headers.get("x-dashscope-async").is_none_or(|value| value != "enable") {
            session.respond_error(403).await?;
            return Ok(true);
        }
        Ok(false)
    }

    async fn upstream_peer(&self, _: &mut Session, _: &mut Exchange) -> Result<Box<HttpPeer>> {
        Ok(Box::new(self.upstream.clone()))
    }

    async fn upstream_request_filter(
        &self,
        _: &mut Session,
        request: &mut RequestHeader,
        _: &mut Exchange,
    ) -> Result<()> {
        let target = request.uri.path_and_query().map_or("/", |target| target.as_str());
        let rest = target.strip_prefix(&*self.prefix).unwrap_or(target);
        let uri = rest.parse().map_err(|_| Error::new(ErrorType::InvalidHTTPHeader))?;
        request.set_uri(uri);
        request.insert_header(AUTHORIZATION, &self.credential)?;
        request.remove_header(&COOKIE);
        Ok(())
    }

    async fn logging(&self, session: &mut Session, _: Option<&Error>, exchange: &mut Exchange) {
        let head = session.req_header();
        let code = session.response_written().map_or(0, |response| response.status.as_u16());
        let mut line = String::with_capacity(256);
        let _ = writeln!(
            line,
            r#"{{"key_id":"{}","method":"{}","uri":"{}","code":{code},"bytes_out":{},"seconds":{:.6}}}"#,
            exchange.key_id.as_deref().unwrap_or("-"),
            head.method,
            head.uri.path(),
            session.body_bytes_sent(),
            exchange.began.elapsed().as_secs_f64()
        );
        let _ = self.log.try_send(line);
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [listen, upstream, workers, keys, prefix, credential, rate, log, identity @ ..] = arguments.as_slice() else {
        panic!("see the source for its arguments");
    };
    let keys = std::fs::read_to_string(keys).expect("the file of keys");
    let keys = keys.lines().filter_map(|line| line.split_once(' '));
    let mut peer = HttpPeer::new(upstream.as_str(), !identity.is_empty(), "127.0.0.1".to_owned());
    // The bench's certificate is self-signed, and only the cost of the cipher is measured.
    peer.options.verify_cert = false;
    peer.options.verify_hostname = false;
    peer.options.idle_timeout = Some(Duration::from_secs(300));
    let gateway = Gateway {
        keys: keys.map(|(key, id)| (key.into(), id.into())).collect(),
        prefix: prefix.clone(),
        credential: format!("Bearer {credential}"),
        rate: Rate::new(Duration::from_secs(1)),
        most: rate.parse().expect("a rate"),
        upstream: peer,
        log: write_to(File::create(log).expect("the log")),
    };
    let threads = workers.parse().expect("a number of workers");
    let conf = ServerConf { threads, upstream_keepalive_pool_size: 128, ..ServerConf::default() };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let mut service = http_proxy_service(&server.configuration, gateway);
    match identity {
        [certificate, key] => {
            let settings = TlsSettings::intermediate(certificate, key).expect("the certificate");
            service.add_tls_with_settings(listen, None, settings);
        }
        _ => service.add_tcp(listen),
    }
    server.add_service(service);
    server.run_forever();
}

/// Starts a thread that writes the log's lines, a buffer at a time.
fn write_to(file: File) -> SyncSender<String> {
    let (sender, lines) = mpsc::sync_channel::<String>(65_536);
    std::thread::spawn(move || {
        let mut file = BufWriter::with_capacity(65_536, file);
        while let Ok(line) = lines.recv() {
            let _ = file.write_all(line.as_bytes());
            while let Ok(line) = lines.try_recv() {
                let _ = file.write_all(line.as_bytes());
            }
            let _ = file.flush();
        }
    });
    sender
}

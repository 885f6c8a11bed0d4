//! A gateway before the simulator and a scripted upstream with every fault. Both upstreams count their requests.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dashgate::sim::{Simulator, SimulatorOptions};

use super::kinds::{self, Observation};
use crate::harness::upstream::{ClosedPort, until_closed};
use crate::harness::{
    ADMIN_TOKEN, Client, Gateway, Message, OTHER_KEY, TENANT_KEY, UPSTREAM_KEY, Upstream, answer, chunked,
    eventually, secrets,
};

pub(super) struct Installation {
    pub(super) gateway: Gateway,
    simulator: Simulator,
    script: Upstream,
    counted: Arc<UpstreamCounts>,
    /// The port of the account `nowhere`, on which nobody listens.
    _nowhere: ClosedPort,
    /// The client that holds the one slot of the tenant `crowd`.
    crowd: Mutex<Option<Client>>,
    /// A key that was revoked while its stream was open.
    pub(super) revoked: Mutex<String>,
}

/// Answers of the scripted upstream, by the account's key and the status.
#[derive(Default)]
pub(super) struct UpstreamCounts {
    answers: Mutex<BTreeMap<String, f64>>,
    throttled: Mutex<usize>,
    /// Numbers of the arrived requests that get no answer.
    arrived: Mutex<BTreeSet<String>>,
}

impl Installation {
    pub(super) fn start() -> Self {
        let options = SimulatorOptions {
            listen: ([127, 0, 0, 1], 0).into(),
            run: Duration::from_millis(200),
            query_qps: 1_000_000,
            submit_rps: Some(1_000_000),
            running: Some(1_000_000),
            stream_events: 3,
            stream_interval: Duration::from_millis(1),
            journal: 1_000_000,
            ..SimulatorOptions::default()
        };
        let simulator = Simulator::start(options).expect("a simulator");
        let counted = Arc::<UpstreamCounts>::default();
        let shared = Arc::clone(&counted);
        let script = Upstream::start(move |request, stream| shared.serve(request, stream));
        let nowhere = ClosedPort::reserve();
        let account = |name: &str, address: std::net::SocketAddr, more: &str| {
            format!(
                "[[accounts]]\nname = {name:?}\nbase_url = \"http://{address}\"\nkeys = [\"sk-account-{name}\"]\n{more}\n"
            )
        };
        let text = [
            format!(
                "[server]\nlisten = \"127.0.0.1:0\"\nworkers = 2\nmax_body_bytes = 4096\nauth_failures_per_second = 0\n\
                 timeouts = {{ header = \"1s\" }}\n[admin]\ntoken = \"{ADMIN_TOKEN}\"\n\
                 [submit]\nmax_wait = \"0s\"\n[[mounts]]\nprefix = \"/wan\"\n[[mounts]]\nprefix = \"/b\"\n\
                 [[accounts]]\nname = \"sim\"\nbase_url = \"http://{}\"\nkeys = [\"{UPSTREAM_KEY}\"]\nquery_qps = 100000\n",
                simulator.address()
            ),
            account("script", script.address, ""),
            account("full", script.address, ""),
            account("also-full", script.address, ""),
            account("slow", script.address, "pace = [{ models = [\"*\"], requests_per_second = 0.01 }]"),
            account("nowhere", nowhere.address(), ""),
            kinds::tenants(),
        ]
        .concat();
        let gateway = Gateway::configured(&text);
        let (crowd, revoked) = (Mutex::default(), Mutex::default());
        Self { gateway, simulator, script, counted, _nowhere: nowhere, crowd, revoked }
    }

    /// Setup: one slot is taken for good, and a key is revoked under a stream.
    pub(super) fn prelude(&self) -> Vec<Observation> {
        let mut holder = Client::connect(self.gateway.address);
        holder.send(kinds::call(kinds::CROWD_KEY, "endless", ""));
        assert_eq!(holder.head().status(), 200);
        kinds::read_chunk(&mut holder);
        *self.crowd.lock().expect("no panic") = Some(holder);

        let created = self.gateway.administer("POST /admin/keys", r#"{"tenant":"two"}"#);
        let key = created.json()["key"].as_str().expect("a secret").to_owned();
        let id = created.json()["id"].as_str().expect("an id").to_owned();
        let mut doomed = Client::connect(self.gateway.address);
        doomed.send(kinds::call(&key, "endless", ""));
        assert_eq!(doomed.head().status(), 200);
        kinds::read_chunk(&mut doomed);
        assert_eq!(self.gateway.administer(&format!("DELETE /admin/keys/{id}"), "").status(), 200);
        doomed.rest();
        *self.revoked.lock().expect("no panic") = key;
        vec![Observation {
            status: Some(200),
            bytes_out: kinds::CHUNK.len(),
            ..Observation::of("two", "withdrawn")
        }]
    }

    /// Ends the setup's requests.
    pub(super) fn finale(&self) -> Vec<Observation> {
        self.crowd.lock().expect("no panic").take().expect("the holder").leave();
        let left = Observation {
            status: Some(200),
            bytes_out: kinds::CHUNK.len(),
            ..Observation::of("crowd", "abandoned")
        };
        vec![left, kinds::half_a_head(self)]
    }

    /// Waits until the scripted upstream has a request that it will never answer.
    pub(super) fn wait_for(&self, number: &str) {
        eventually("the request has arrived", || {
            self.counted.arrived.lock().expect("no panic").contains(number)
        });
    }

    /// Attempts by account and status, as the upstreams counted them; for the account `nowhere`, as the access log
    /// counts them.
    pub(super) fn upstreams_counted(&self) -> BTreeMap<String, f64> {
        let mut counts = self.counted.answers.lock().expect("no panic").clone();
        for seen in self.simulator.requests() {
            let code = seen.status.map_or("none".to_owned(), |status| status.to_string());
            *counts.entry(format!("sim {code}")).or_default() += 1.0;
        }
        // No upstream counts attempts that do not arrive, so the access log lines do.
        let lines = self.gateway.lines();
        let unreached: f64 = lines
            .iter()
            .filter(|line| ["lonely", "many"].contains(&line["tenant"].as_str().unwrap_or_default()))
            .map(|line| {
                let attempts = line["attempts"].as_f64().expect("a number");
                attempts - f64::from(u8::from(line["account"] == "script"))
            })
            .sum();
        if unreached > 0.0 {
            counts.insert("nowhere none".to_owned(), unreached);
        }
        counts
    }

    pub(super) fn throttled(&self) -> usize {
        *self.counted.throttled.lock().expect("no panic")
    }
}

impl Drop for Installation {
    fn drop(&mut self) {
        // Clients send all their secrets; none of them may reach an upstream.
        for seen in self.script.requests() {
            for key in [TENANT_KEY, OTHER_KEY, ADMIN_TOKEN] {
                assert!(std::thread::panicking() || !seen.holds(key), "an upstream was told {key}");
            }
        }
    }
}

impl UpstreamCounts {
    fn count(&self, request: &Message, code: &str) {
        let key = request.field("authorization").expect("a key");
        let account = key.strip_prefix("Bearer sk-account-").expect("a key of ours").to_owned();
        *self.answers.lock().expect("no panic").entry(format!("{account} {code}")).or_default() += 1.0;
    }

    /// Answers a request by its kind, which is the last segment of the path or the model of a submit.
    fn serve(&self, request: &Message, stream: &mut TcpStream) -> bool {
        let line = request.start_line();
        let path = line.split([' ', '?']).nth(1).unwrap_or_default().to_owned();
        let last = path.rsplit('/').next().unwrap_or_default();
        let kind = if request.text().contains("too-much") { "throttled" } else { last };
        let json = "Content-Type: application/json";
        let code = match kind {
            "cut" | "endless" | "leave" => "200",
            "throttled" => "429",
            "broken" => "500",
            "lost" | "silent" => "none",
            "inference" if request.field("upgrade").is_some() => "101",
            "realtime" => "403",
            _ => "200",
        };
        self.count(request, code);
        let body = secrets::ANSWER;
        match kind {
            "cut" => {
                let head = "HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n";
                stream.write_all(format!("{head}{}", kinds::CHUNK).as_bytes()).expect("written");
                false
            }
            "endless" | "leave" => {
                let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
                let chunk = format!("{head}{:x}\r\n{}\r\n", kinds::CHUNK.len(), kinds::CHUNK);
                stream.write_all(chunk.as_bytes()).expect("written");
                until_closed(stream);
                false
            }
            "throttled" => {
                *self.throttled.lock().expect("no panic") += 1;
                let body = r#"{"code":"Throttling.RateQuota","message":"slow down","request_id":"r"}"#;
                stream.write_all(&answer("429 Too Many Requests", &[json], body)).is_ok()
            }
            "broken" => stream.write_all(&answer("500 Internal Server Error", &[json], body)).is_ok(),
            "lost" => false,
            "silent" => {
                let number = request.field("x-number").expect("a number");
                self.arrived.lock().expect("no panic").insert(number);
                until_closed(stream);
                false
            }
            "inference" if code == "101" => {
                stream.write_all(kinds::ACCEPT.as_bytes()).expect("written");
                let mut bytes = [0; 256];
                while let Ok(read @ 1..) = stream.read(&mut bytes) {
                    stream.write_all(&bytes[..read]).expect("written");
                }
                false
            }
            "realtime" => stream.write_all(&answer("403 Forbidden", &[json], body)).is_ok(),
            "chunked" => stream.write_all(&chunked("200 OK", &[], &["one", body, "three"], &[])).is_ok(),
            "video-synthesis" => {
                let id = uuid();
                stream.write_all(&crate::harness::calls::task(&id, "PENDING")).is_ok()
            }
            _ => stream.write_all(&answer("200 OK", &[json, "X-Request-Id: up-1"], body)).is_ok(),
        }
    }
}

fn uuid() -> String {
    use std::sync::atomic::{AtomicU64, Ordering};
    static LAST: AtomicU64 = AtomicU64::new(0);
    format!("00000000-0000-4000-8000-{:012x}", LAST.fetch_add(1, Ordering::Relaxed))
}

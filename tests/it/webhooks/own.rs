//! Deliveries to addresses that submits name: over TLS, to a public host alone, and signed by the first endpoint's secrets.

use std::io::{BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;

use dashgate::config::Config;
use dashgate::proxy::Shared;
use dashgate::webhooks::WaitingFigures;
use dashgate::webhooks::sender::WebhookSender;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};
use tokio::runtime::{Builder, LocalOptions};
use tokio_util::sync::CancellationToken;

use super::addresses::submit;
use super::{SECRETS, configured, endpoint, hook, learn_end, listed, upstream, verified};
use crate::egress::ScriptedProxy;
use crate::harness::calls::check_refusal;
use crate::harness::tls::{Authority, Identity};
use crate::harness::{Gateway, Message, PATIENCE, StateDirectory, answer, eventually, message};

const HOST: &str = "hooks.acme.example";

/// An endpoint that speaks TLS, and redirects what comes to `/moved`.
struct TlsEndpoint {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Message>>>,
}

impl TlsEndpoint {
    fn start(identity: &Identity, moved_to: String) -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let chain = CertificateDer::from_pem_slice(identity.certificate.as_bytes()).expect("PEM");
        let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).expect("PEM");
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![chain], key);
        let config = Arc::new(config.expect("a configuration"));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = listener.local_addr().expect("an address");
        let seen = Arc::<Mutex<Vec<Message>>>::default();
        let shared = Arc::clone(&seen);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
                let session = ServerConnection::new(Arc::clone(&config)).expect("a session");
                let mut stream = BufReader::new(StreamOwned::new(session, stream));
                let Ok(Some(mut request)) = message::read_head(&mut stream) else { continue };
                message::read_body(&mut request, &mut stream, false);
                let is_moved = request.start_line().starts_with("POST /moved ");
                let told = if is_moved {
                    answer("307 Temporary Redirect", &[&moved_to], "")
                } else {
                    answer("204 No Content", &[], "")
                };
                shared.lock().expect("no panic").push(request);
                let _ = stream.get_mut().write_all(&told);
            }
        });
        Self { address, seen }
    }

    fn seen(&self) -> Vec<Message> {
        self.seen.lock().expect("no panic").clone()
    }
}

fn config(text: &str, proxy: SocketAddr) -> Config {
    let url = format!("http://{proxy}");
    let environment = |name: &str| (name == "HTTPS_PROXY").then(|| url.clone());
    let loaded = Config::parse(text, Path::new("."), &environment);
    loaded.unwrap_or_else(|faults| panic!("{faults:#?}")).config
}

/// Sends what waits in the store of a gateway that has ended, with trust in an authority of the tests, until `is_done`.
fn send_until(
    directory: &StateDirectory,
    config: &Config,
    tls: Arc<ClientConfig>,
    is_done: impl Fn() -> bool,
) {
    let (shared, _pollers) = Shared::load(config, directory.open()).expect("the state");
    let stop = CancellationToken::new();
    let (store, directory, stopped) = (shared.store.clone(), Arc::clone(&shared.directory), stop.clone());
    let sending = thread::spawn(move || {
        let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
        let sender = WebhookSender::new(store, directory, Arc::<WaitingFigures>::default(), tls);
        runtime.expect("a runtime").block_on(sender.work(stopped));
    });
    eventually("all are sent", is_done);
    stop.cancel();
    sending.join().expect("no panic");
    shared.store.close();
}

/// The host is known to the proxy alone, and its certificate is of an authority that the gateway does not know. So the
/// gateway that took the submits can't deliver; a sender over its store, which knows the authority, can.
#[test]
fn an_address_of_a_submit_gets_its_task_s_end_and_redirects_lead_nowhere() {
    let (upstream, inside, authority) = (upstream(), endpoint("200 OK", &[]), Authority::new());
    let moved_to = format!("Location: http://{}/", inside.address);
    let own = TlsEndpoint::start(&authority.server_named(HOST), moved_to);
    let proxy = ScriptedProxy::joining(own.address);
    let hooks = [hook(inside.address, ", events = [\"key.expiring\"]")];
    let text = configured(&upstream, &hooks, "webhook_hosts = [\"*.acme.example\"]");
    let config = config(&text, proxy.address());
    let gateway = Gateway::of(StateDirectory::new(), config.clone());
    gateway.directory.wait_for_lead();
    for (id, path) in [("t-1", "jobs/1?key=k"), ("failed-1", "jobs/2"), ("t-2", "moved")] {
        let made = gateway.ask(submit(id, &[&format!("X-Dashgate-Webhook: https://{HOST}/{path}")]));
        assert_eq!(made.status(), 200, "{}", made.text());
        learn_end(gateway.address, id);
    }
    eventually("each was tried", || {
        let problem = |one: &Value| one["problem"].to_string().contains("TLS");
        listed(&gateway, "?state=waiting").iter().filter(|one| problem(one)).count() == 3
    });
    assert_eq!(own.seen().len(), 0, "nothing is sent to a host that proves nothing");
    let directory = gateway.stop();
    let mut settings = config;
    settings.settings.store = directory.settings();
    assert_eq!(directory.change("UPDATE deliveries SET due_at = 0"), 3);
    send_until(&directory, &settings, authority.trusted(None, &["http/1.1"]), || own.seen().len() >= 3);
    let mut seen = own.seen();
    seen.sort_by_key(|delivery| delivery.start_line().to_owned());
    let lines: Vec<&str> = seen[..2].iter().map(Message::start_line).collect();
    assert_eq!(lines, ["POST /jobs/1?key=k HTTP/1.1", "POST /jobs/2 HTTP/1.1"]);
    let told: Vec<_> = seen[..2].iter().map(|delivery| verified(delivery, &SECRETS[..1])).collect();
    assert_eq!(json!([told[0]["type"], told[0]["data"]["task_id"]]), json!(["task.succeeded", "t-1"]));
    assert_eq!(json!([told[1]["type"], told[1]["data"]["task_id"]]), json!(["task.failed", "failed-1"]));
    assert!(seen.iter().all(|delivery| delivery.field("host").as_deref() == Some(HOST)));
    // A gateway over the same store tells what became of them.
    let gateway = Gateway::over(directory, &text);
    let shown = |state: &str| -> Vec<(String, String)> {
        let row = |one: &Value| (one["url"].to_string(), one["problem"].to_string());
        let mut rows: Vec<_> = listed(&gateway, &format!("?state={state}")).iter().map(row).collect();
        rows.sort();
        rows
    };
    let delivered =
        ["jobs/1", "jobs/2"].map(|path| (format!("\"https://{HOST}/{path}\""), "null".to_owned()));
    assert_eq!(shown("delivered"), delivered);
    assert_eq!(shown("waiting")[0].0, format!("\"https://{HOST}/moved\""));
    assert_eq!(inside.connections(), 0, "the redirect is not followed");
}

/// A host of `webhook_hosts` whose name leads inside, at the submit or later, gets nothing: the name is looked up for each
/// try, and the connection goes to an address that was judged. `net::dial` has the tests of names that change.
#[test]
fn an_address_of_a_submit_never_leads_inside() {
    let (upstream, endpoint) = (upstream(), endpoint("200 OK", &[]));
    let names = ["localhost", "127.1", "2130706433"];
    let written = ["127.0.0.1", "10.0.0.1", "169.254.169.254"];
    let hosts = format!("webhook_hosts = {:?}", [names, written].concat());
    let gateway = Gateway::configured(&configured(&upstream, &[hook(endpoint.address, "")], &hosts));
    let of_host =
        |host: &str, id: &str| gateway.ask(submit(id, &[&format!("X-Dashgate-Webhook: https://{host}/")]));
    let coded =
        ["[::1]", "[::ffff:127.0.0.1]", "[fe80::1]", "[fd00::1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]"];
    for host in written.iter().chain(&coded) {
        let refused = of_host(host, "t");
        check_refusal(&refused, 400, "bad_request");
        assert!(refused.text().contains("an address that is not public"), "{}", refused.text());
    }
    for (number, host) in names.iter().enumerate() {
        let id = format!("t-{number}");
        let made = of_host(host, &id);
        assert_eq!(made.status(), 200, "{}", made.text());
        learn_end(gateway.address, &id);
    }
    let is_own = |one: &Value| one["own"] == true;
    eventually("each was tried", || {
        let listed = listed(&gateway, "");
        listed.iter().filter(|one| is_own(one) && !one["problem"].is_null()).count() == names.len()
    });
    for told in listed(&gateway, "").iter().filter(|one| is_own(one)) {
        let problem = told["problem"].as_str().expect("a problem");
        let is_refused = ["which is not public", "no name that a certificate may have"]
            .iter()
            .any(|expected| problem.contains(expected));
        assert!(is_refused, "{told}");
    }
    eventually("the endpoint itself has all", || endpoint.requests().len() == names.len());
}

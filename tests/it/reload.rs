//! Reload: a configuration is loaded whole or not at all, and running requests go on.

mod settings;

use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use dashgate::sim::{Simulator, SimulatorOptions, ThrottledShare, ThrottlingKind};
use serde_json::{Value, json};

use crate::harness::calls::{bearer, check_refusal, generate, poll, submit, task};
use crate::harness::{
    ADMIN_TOKEN, Client, Gateway, Message, OTHER_KEY, TENANT_KEY, UPSTREAM_KEY, Upstream, answer, client,
    configuration, eventually, message,
};

const SERVER: &str = "listen = \"127.0.0.1:0\"\nworkers = 2";

/// A configuration with one account at this upstream.
fn text(upstream: &Upstream) -> String {
    configuration(SERVER, &[("main", upstream.address, &[UPSTREAM_KEY], "")], "")
}

fn upstream() -> Upstream {
    Upstream::answering(answer("200 OK", &[], "{}"))
}

#[track_caller]
fn reloaded(got: &Message) -> Value {
    assert_eq!(got.status(), 200, "{}", got.text());
    assert_eq!(got.json()["status"], "reloaded");
    got.json()
}

fn counts(gateway: &Gateway) -> (u64, u64) {
    let counts = gateway.running.reloads().expect("a file").counts();
    (counts.ok.load(Ordering::Relaxed), counts.rejected.load(Ordering::Relaxed))
}

#[test]
fn the_answer_says_what_changed_and_what_needs_a_restart() {
    let upstream = upstream();
    let gateway = Gateway::from_file(&text(&upstream));
    let same = reloaded(&gateway.administer("POST /admin/reload", ""));
    let none = json!({ "added": [], "removed": [], "changed": [] });
    let nothing = json!({ "tenants": none, "keys": none, "accounts": none, "mounts": none, "settings": [] });
    assert_eq!(
        same,
        json!({ "status": "reloaded", "changes": nothing, "needs_restart": [], "warnings": [] })
    );
    let new = text(&upstream)
        .replace("workers = 2", "workers = 3\ntimeouts = { idle = \"9s\" }")
        .replacen("127.0.0.1:0", "127.0.0.2:0", 1)
        .replace("\"127.0.0.1:0\"", "\"127.0.0.3:0\"")
        .replace("name = \"two\"", "name = \"three\"")
        .replace("id = \"one-key\"", "id = \"uno\"")
        .replace("prefix = \"/wan\"", "prefix = \"/new\"")
        .replace(UPSTREAM_KEY, "sk-upstream-new");
    let got = reloaded(&gateway.reload(&new));
    let changes = &got["changes"];
    assert_eq!(changes["tenants"], json!({ "added": ["three"], "removed": ["two"], "changed": [] }));
    assert_eq!(changes["keys"], json!({ "added": ["uno"], "removed": ["one-key"], "changed": ["two-key"] }));
    assert_eq!(changes["accounts"], json!({ "added": [], "removed": [], "changed": ["main"] }));
    assert_eq!(changes["mounts"], json!({ "added": ["/new"], "removed": ["/wan"], "changed": [] }));
    assert_eq!(changes["settings"], json!(["server.timeouts"]));
    let fixed = json!(["server.listen", "server.workers", "admin.listen"]);
    assert_eq!(got["needs_restart"], fixed);
    // The state remains until a restart.
    assert_eq!(reloaded(&gateway.administer("POST /admin/reload", ""))["needs_restart"], fixed);
    assert_eq!(counts(&gateway), (3, 0));
    assert_eq!(gateway.ask(generate("{}")).status(), 200);
    let sent = upstream.only().field("authorization");
    assert_eq!(sent.as_deref(), Some("Bearer sk-upstream-new"));
}

#[test]
fn a_bad_file_changes_nothing_and_every_fault_is_told() {
    let upstream = upstream();
    let good = text(&upstream);
    let gateway = Gateway::from_file(&good);
    let bad = good
        .replace(TENANT_KEY, "sk-tenant-new-3b9d6c70e1f84a52")
        .replace("workers = 2", "workers = \"two\"")
        .replace("prefix = \"/wan\"", "prefics = \"/wan\"");
    let got = gateway.reload(&bad);
    assert_eq!((got.status(), got.json()["code"].as_str()), (422, Some("bad_config")), "{}", got.text());
    let faults = got.json()["faults"].as_array().expect("faults").clone();
    let line_of = |what: &str| bad.lines().position(|line| line.contains(what)).expect("a line") + 1;
    let lines: Vec<_> = faults.iter().filter_map(|fault| fault["line"].as_u64()).collect();
    assert!(lines.contains(&(line_of("workers") as u64)), "{faults:#?}");
    assert!(lines.contains(&(line_of("prefics") as u64)), "{faults:#?}");
    assert!(faults.iter().all(|fault| fault["problem"].is_string() && fault["hint"].is_string()));
    assert!(!got.holds("sk-") && !got.holds(ADMIN_TOKEN), "{}", got.text());
    assert_eq!(counts(&gateway), (0, 1));
    assert_eq!(gateway.ask(generate("{}")).status(), 200);
    let new = generate("{}").replace(TENANT_KEY, "sk-tenant-new-3b9d6c70e1f84a52");
    assert_eq!(gateway.ask(new).status(), 401);
    std::fs::remove_file(gateway.directory.path().join("dashgate.toml")).expect("removed");
    let got = gateway.administer("POST /admin/reload", "");
    assert_eq!(got.json()["faults"][0]["problem"], "cannot be read: there is no such file");
    assert_eq!(gateway.ask(generate("{}")).status(), 200);
    assert_eq!(counts(&gateway), (0, 2));
}

#[test]
fn it_takes_the_token_and_a_file() {
    let upstream = upstream();
    let gateway = Gateway::from_file(&text(&upstream));
    assert_eq!(client::once(gateway.admin, message("POST /admin/reload", &[], "")).status(), 401);
    assert_eq!(gateway.administer("GET /admin/reload", "").status(), 405);
    assert_eq!(counts(&gateway), (0, 0));
    let gateway = Gateway::start(upstream.address);
    let got = gateway.administer("POST /admin/reload", "");
    assert_eq!((got.status(), got.json()["code"].as_str()), (409, Some("no_config_file")));
}

#[test]
fn the_token_the_largest_body_and_the_timeouts_are_swapped_too() {
    let upstream = Upstream::start(|request, stream| match &*request.text() {
        "silence" => stream.read(&mut [0]).is_err(),
        _ => stream.write_all(&answer("200 OK", &[], "{}")).is_ok(),
    });
    let gateway = Gateway::from_file(&text(&upstream));
    let new = text(&upstream)
        .replace("workers = 2", "workers = 2\nmax_body_bytes = 20\ntimeouts = { upstream = \"1s\" }")
        .replace(ADMIN_TOKEN, "another-token-4c1d7be0");
    reloaded(&gateway.reload(&new));
    assert_eq!(gateway.administer("POST /admin/reload", "").status(), 401);
    let token = "Authorization: Bearer another-token-4c1d7be0";
    assert_eq!(client::once(gateway.admin, message("POST /admin/reload", &[token], "")).status(), 200);
    check_refusal(&gateway.ask(generate(&"x".repeat(21))), 413, "body_too_large");
    check_refusal(&gateway.ask(generate("silence")), 504, "upstream_timeout");
}

#[test]
fn a_removed_key_is_refused_and_its_stream_is_cut_within_a_second() {
    const CHUNK: &str = "D\r\ndata: first\n\n\r\n";
    let upstream = Upstream::start(|_, stream| {
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        let _ = stream.write_all(format!("{head}{CHUNK}").as_bytes());
        let _ = stream.read(&mut [0]);
        false
    });
    let gateway = Gateway::from_file(&text(&upstream));
    let open = |key: &str| {
        let mut client = Client::connect(gateway.address);
        client.send(generate("{}").replace(TENANT_KEY, key));
        assert_eq!(client.head().status(), 200);
        assert_eq!(client.bytes(CHUNK.len()), CHUNK.as_bytes());
        client
    };
    let (mut removed, mut stays) = (open(OTHER_KEY), open(TENANT_KEY));
    let without = text(&upstream).replace(&format!("{{ id = \"two-key\", key = \"{OTHER_KEY}\" }}"), "");
    reloaded(&gateway.reload(&without));
    let swapped = Instant::now();
    let refused = gateway.ask(generate("{}").replace(TENANT_KEY, OTHER_KEY));
    check_refusal(&refused, 401, "unknown_key");
    assert_eq!(removed.rest(), b"", "the end of a stream must not be made up");
    // The end must come within a second, or some seconds later on a busy machine.
    assert!(swapped.elapsed() < Duration::from_millis(7_500), "it took {:?}", swapped.elapsed());
    stays.stream().set_read_timeout(Some(Duration::from_millis(600))).expect("a timeout");
    assert!(stays.stream().read(&mut [0]).is_err(), "it is still open");
    stays.leave();
    upstream.wait_for_silence();
}

const RELOADS: usize = 20;
const IN_FLIGHT: usize = 200;

/// Answers everything once it is released; a stream sends an event for each number of the
/// channel, and a tunnel sends back all bytes.
fn patient(released: Arc<AtomicBool>, word: mpsc::Receiver<usize>) -> Upstream {
    let word = Mutex::new(word);
    Upstream::start(move |request, stream| {
        if request.start_line().contains("/api-ws/") {
            let head =
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
            let _ = stream.write_all(head.as_bytes());
            let mut byte = [0];
            while stream.read_exact(&mut byte).is_ok() && stream.write_all(&byte).is_ok() {}
            return false;
        }
        if request.text() == "stream" {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
            for number in word.lock().expect("no panic").iter() {
                let _ = stream.write_all(format!("2\r\n{number:02}\r\n").as_bytes());
            }
            return stream.write_all(b"0\r\n\r\n").is_ok();
        }
        if let Some((_, rest)) = request.start_line().split_once("GET /api/v1/tasks/") {
            let id = rest.split(' ').next().unwrap_or_default();
            return stream.write_all(&task(id, "PENDING")).is_ok();
        }
        eventually("it is released", || released.load(Ordering::SeqCst));
        let body = if request.start_line().contains("video-synthesis") {
            task(&request.field("x-number").expect("a number"), "PENDING")
        } else {
            answer("200 OK", &[], "late")
        };
        stream.write_all(&body).is_ok()
    })
}

#[test]
fn what_runs_goes_on_through_twenty_reloads() {
    let released = Arc::new(AtomicBool::new(false));
    let (say, word) = mpsc::channel();
    let (_never, silent) = mpsc::channel();
    let old = patient(Arc::clone(&released), word);
    let new = patient(Arc::new(AtomicBool::new(true)), silent);
    // Every second reload removes the account of all running requests, with its address and its key.
    let of_new = text(&new).replace("\"main\"", "\"second\"").replace(UPSTREAM_KEY, "sk-upstream-new");
    let gateway = Gateway::from_file(&text(&old));

    let mut waiting: Vec<Client> = (0..IN_FLIGHT)
        .map(|number| {
            let mut client = Client::connect(gateway.address);
            let request = if number % 2 == 0 { generate("{}") } else { submit() };
            client.send(request.replace("Host:", &format!("X-Number: t-{number}\r\nHost:")));
            client
        })
        .collect();
    let mut stream = Client::connect(gateway.address);
    stream.send(generate("stream"));
    assert_eq!(stream.head().status(), 200);
    let mut tunnel = Client::connect(gateway.address);
    let fields = [&*bearer(), "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"];
    tunnel.send(message("GET /api-ws/v1/inference", &fields, ""));
    assert_eq!(tunnel.head().status(), 101);
    eventually("all have arrived", || asked(&old).len() == IN_FLIGHT + 2);

    for number in 0..RELOADS {
        let next = if number % 2 == 0 { &of_new } else { &text(&old) };
        reloaded(&gateway.reload(next));
        say.send(number).expect("heard");
        assert_eq!(stream.bytes(7), format!("2\r\n{number:02}\r\n").as_bytes());
        tunnel.send([b'a']);
        assert_eq!(tunnel.bytes(1), b"a");
        if number % 2 == 0 {
            assert_eq!(gateway.ask(generate("{}")).text(), "late");
        }
    }
    assert_eq!(asked(&new).len(), RELOADS / 2);
    released.store(true, Ordering::SeqCst);
    for client in &mut waiting {
        let got = client.answer();
        assert_eq!(got.status(), 200, "{}", got.text());
    }
    drop(say);
    assert_eq!(stream.bytes(5), b"0\r\n\r\n");
    assert_eq!(asked(&old).len(), IN_FLIGHT + 2, "nothing was sent twice");
    // Each task still belongs to the account that made it.
    for number in (1..IN_FLIGHT).step_by(2) {
        let got = gateway.ask(poll(&format!("t-{number}")));
        assert_eq!(got.json()["output"]["task_status"], "PENDING", "{}", got.text());
        let cancel = message(&format!("POST /api/v1/tasks/t-{number}/cancel"), &[&bearer()], "");
        assert_eq!(gateway.ask(cancel).status(), 200);
    }
    assert_eq!(asked(&old).len(), IN_FLIGHT + 2 + IN_FLIGHT / 2);
    tunnel.leave();
}

/// Requests that came from clients, without the gateway's own queries.
fn asked(upstream: &Upstream) -> Vec<Message> {
    let is_query = |seen: &Message| seen.start_line().starts_with("GET /api/v1/tasks");
    upstream.requests().into_iter().filter(|seen| !is_query(seen)).collect()
}

#[test]
fn connections_are_kept_while_the_address_stays_and_closed_when_it_changes() {
    let (old, new) = (upstream(), upstream());
    let one_worker = |upstream: &Upstream| text(upstream).replace("workers = 2", "workers = 1");
    let gateway = Gateway::from_file(&one_worker(&old));
    assert_eq!(gateway.ask(generate("{}")).status(), 200);
    reloaded(&gateway.reload(&one_worker(&old).replace(UPSTREAM_KEY, "sk-upstream-new")));
    assert_eq!(gateway.ask(generate("{}")).status(), 200);
    assert_eq!((old.connections(), old.requests().len()), (1, 2));
    reloaded(&gateway.reload(&one_worker(&new)));
    assert_eq!(gateway.ask(generate("{}")).status(), 200);
    assert_eq!((old.requests().len(), new.requests().len()), (2, 1));
    old.wait_for_silence();
}

#[test]
fn what_rests_goes_on_resting() {
    let simulators = ["sk-east", "sk-west"].map(|key| {
        let keys = vec![key.parse().expect("a key")];
        Simulator::start(SimulatorOptions { keys, ..SimulatorOptions::default() }).expect("a simulator")
    });
    let [east, west] = simulators.each_ref();
    let text = |weight: u32| {
        let more = format!("weight = {weight}");
        let accounts = [
            ("east", east.address(), &["sk-dead", "sk-east"][..], &*more),
            ("west", west.address(), &["sk-west"], ""),
        ];
        configuration(SERVER, &accounts, "")
    };
    let chats = |simulator: &Simulator| simulator.requests().len();
    let gateway = Gateway::from_file(&text(1));
    east.throttle(Some(ThrottledShare { kind: ThrottlingKind::PrepaidBillOverdue, rate: 1.0 }));
    eventually("the account and its key have been refused", || {
        gateway.ask(generate(r#"{"model":"qwen-plus","input":{"prompt":"hi"}}"#));
        chats(east) == 2
    });
    for weight in [1000, 1] {
        reloaded(&gateway.reload(&text(weight)));
        let before = chats(west);
        for _ in 0..20 {
            gateway.ask(generate(r#"{"model":"qwen-plus","input":{"prompt":"hi"}}"#));
        }
        assert_eq!((chats(east), chats(west)), (2, before + 20));
    }
}

#[test]
fn a_task_whose_account_is_gone_is_still_its_tenants() {
    let upstream = Upstream::answering(task("t-1", "RUNNING"));
    let gateway = Gateway::from_file(&text(&upstream));
    assert_eq!(gateway.ask(submit()).status(), 200);
    reloaded(&gateway.reload(&text(&upstream).replace("\"main\"", "\"other\"")));
    check_refusal(&gateway.ask(poll("t-1")), 503, "upstream_unreachable");
    reloaded(&gateway.reload(&text(&upstream)));
    assert_eq!(gateway.ask(poll("t-1")).json()["output"]["task_status"], "RUNNING");
}

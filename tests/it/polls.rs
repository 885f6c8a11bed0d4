//! Polls: a client may ask for its tasks as often as it likes. The account's query budget holds, and no poll fails for
//! an upstream fault.

mod answers;

use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use dashgate::sim::{RecordedRequest, SimulatedStatus, Simulator, SimulatorOptions};
use serde_json::{Value, json};

use crate::harness::calls::{bearer, poll, submit, task};
use crate::harness::{
    Client, Gateway, Message, OTHER_KEY, UPSTREAM_KEY, Upstream, answer, configuration, eventually, message,
};

/// A gateway with these lines in `[poll]` and in its account.
fn gateway(upstream: std::net::SocketAddr, poll: &str, account: &str) -> Gateway {
    let server = format!("listen = \"127.0.0.1:0\"\nworkers = 2\n[poll]\n{poll}");
    Gateway::configured(&configuration(&server, &[("main", upstream, &[UPSTREAM_KEY], account)], ""))
}

/// An upstream whose submits make `t-1`, and whose queries the test answers.
fn upstream(query: impl Fn(&mut TcpStream) -> bool + Send + Sync + 'static) -> Upstream {
    Upstream::start(move |request, stream| {
        if request.start_line().starts_with("POST ") {
            stream.write_all(&task("t-1", "PENDING")).is_ok()
        } else {
            query(stream)
        }
    })
}

fn asked(upstream: &Upstream) -> usize {
    upstream.requests().iter().filter(|seen| seen.start_line().starts_with("GET ")).count()
}

fn state(got: &Message) -> String {
    assert_eq!(got.status(), 200, "{}{}", got.head, got.text());
    got.json()["output"]["task_status"].as_str().expect("a status").to_owned()
}

fn simulator(options: SimulatorOptions) -> Simulator {
    let keys = vec![UPSTREAM_KEY.parse().expect("a key")];
    Simulator::start(SimulatorOptions { keys, submit_rps: Some(u32::MAX), ..options }).expect("a simulator")
}

fn submit_video(gateway: &Gateway) -> String {
    let body = json!({"model": "wan2.7-t2v", "input": {"prompt": "a cat"}, "parameters": {"duration": 5}});
    let call = "POST /api/v1/services/aigc/video-generation/video-synthesis";
    let got = gateway.ask(message(call, &[&bearer(), "X-DashScope-Async: enable"], &body.to_string()));
    got.json()["output"]["task_id"].as_str().unwrap_or_else(|| panic!("{}", got.text())).to_owned()
}

fn long_poll(id: &str, seconds: u64) -> String {
    message(&format!("GET /api/v1/tasks/{id}"), &[&bearer(), &format!("Prefer: wait={seconds}")], "")
}

fn lists(simulator: &Simulator) -> Vec<RecordedRequest> {
    simulator.requests().into_iter().filter(|seen| seen.target.starts_with("/api/v1/tasks?")).collect()
}

fn queries(simulator: &Simulator) -> Vec<RecordedRequest> {
    simulator.requests().into_iter().filter(|seen| seen.target.starts_with("/api/v1/tasks/")).collect()
}

#[test]
fn polls_that_meet_share_one_query() {
    let open = Arc::new(AtomicBool::new(false));
    let gate = Arc::clone(&open);
    let upstream = upstream(move |stream| {
        eventually("all polls were sent", || gate.load(Ordering::SeqCst));
        stream.write_all(&task("t-1", "RUNNING")).is_ok()
    });
    let gateway = gateway(upstream.address, "max_age = \"60s\"", "");
    assert_eq!(gateway.ask(submit()).status(), 200);
    let mut clients: Vec<Client> = (0..50).map(|_| Client::connect(gateway.address)).collect();
    clients.iter_mut().for_each(|client| client.send(poll("t-1")));
    open.store(true, Ordering::SeqCst);
    for client in &mut clients {
        assert_eq!(state(&client.answer()), "RUNNING");
    }
    assert_eq!(asked(&upstream), 1);
}

#[test]
fn what_is_known_is_told_until_it_is_too_old() {
    for (max_age, expected) in [("60s", 1), ("0s", 5)] {
        let upstream = upstream(|stream| stream.write_all(&task("t-1", "RUNNING")).is_ok());
        let gateway = gateway(upstream.address, &format!("max_age = {max_age:?}"), "");
        gateway.ask(submit());
        let answers: Vec<Message> = (0..5).map(|_| gateway.ask(poll("t-1"))).collect();
        assert!(answers.iter().all(|got| state(got) == "RUNNING"));
        assert_eq!(asked(&upstream), expected, "{max_age}");
        // An answer with the last known state carries its `age`.
        let aged = answers.iter().filter(|got| got.field("age").is_some()).count();
        assert_eq!(aged, 5 - expected, "{max_age}");
    }
}

#[test]
fn a_finished_tasks_answer_is_kept_bytes_and_all() {
    const BODY: &str = "{ \"output\" : {\"task_status\":\"SUCCEEDED\", \"task_id\":\"t-1\",\"x\":1.50,\"video_url\":\"https://a/b?c=d%20e\"},\n\"usage\":{\"duration\":10.04}}  ";
    let fields =
        ["X-Request-Id: r-7", "X-Upstream: yes", "Set-Cookie: a=b", "Content-Type: application/json"];
    let upstream = upstream(move |stream| stream.write_all(&answer("200 OK", &fields, BODY)).is_ok());
    let gateway = gateway(upstream.address, "max_age = \"0s\"", "");
    gateway.ask(submit());
    for _ in 0..5 {
        let got = gateway.ask(poll("t-1"));
        assert_eq!(got.text(), BODY);
        assert_eq!((got.field("x-request-id").as_deref(), got.field("set-cookie")), (Some("r-7"), None));
        assert_eq!(got.field("x-upstream").as_deref(), Some("yes"));
    }
    assert_eq!(asked(&upstream), 1);
}

/// A poll never fails for an upstream fault, because no SDK survives an error in the middle of its wait.
#[test]
fn no_poll_fails_with_its_query() {
    let broken: [fn(&mut TcpStream) -> bool; 6] = [
        |stream| stream.write_all(&answer("429 Too Many Requests", &[], r#"{"code":"Throttling"}"#)).is_ok(),
        |stream| stream.write_all(&answer("500 Internal Server Error", &[], "{}")).is_ok(),
        |stream| stream.write_all(&answer("503 Service Unavailable", &[], "<html>")).is_ok(),
        |stream| stream.write_all(&answer("401 Unauthorized", &[], r#"{"code":"InvalidApiKey"}"#)).is_ok(),
        |stream| stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{").is_err(),
        |_| false,
    ];
    for (number, broken) in broken.into_iter().enumerate() {
        let count = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&count);
        let upstream = upstream(move |stream| match counted.fetch_add(1, Ordering::SeqCst) {
            0 => stream.write_all(&task("t-1", "RUNNING")).is_ok(),
            _ => broken(stream),
        });
        let gateway = gateway(upstream.address, "max_age = \"0s\"", "");
        gateway.ask(submit());
        assert_eq!(state(&gateway.ask(poll("t-1"))), "RUNNING");
        for _ in 0..2 {
            assert_eq!(state(&gateway.ask(poll("t-1"))), "RUNNING", "{number}");
        }
        assert!(count.load(Ordering::SeqCst) > 1, "{number}");
    }
}

#[test]
fn the_accounts_budget_holds_whatever_clients_do() {
    let simulator = simulator(SimulatorOptions {
        query_qps: 5,
        run: Duration::from_secs(3600),
        ..SimulatorOptions::default()
    });
    let gateway = gateway(simulator.address(), "max_age = \"0s\"", "query_qps = 5\nlist_qps = 5");
    let ids: Vec<String> = (0..40).map(|_| submit_video(&gateway)).collect();
    thread::scope(|scope| {
        for chunk in ids.chunks(4) {
            let gateway = &gateway;
            scope.spawn(move || {
                for id in chunk {
                    assert!(["PENDING", "RUNNING"].contains(&&*state(&gateway.ask(poll(id)))));
                }
            });
        }
    });
    let seen = simulator.requests();
    let tasks = seen.iter().filter(|seen| seen.target.starts_with("/api/v1/tasks"));
    // One that has only begun has no status yet.
    let answered: Vec<u16> = tasks.filter_map(|seen| seen.status).collect();
    assert!(!answered.is_empty() && answered.iter().all(|status| *status == 200), "{answered:?}");
}

#[test]
fn many_tasks_are_learnt_from_lists_and_the_finished_ones_fetched() {
    let options = SimulatorOptions {
        query_qps: 20,
        running: Some(1_000),
        pending: Some(Duration::ZERO),
        ..SimulatorOptions::default()
    };
    let simulator = simulator(SimulatorOptions { run: Duration::from_secs(3600), ..options });
    let gateway = gateway(simulator.address(), "max_age = \"1s\"", "");
    let ids: Vec<String> = (0..120).map(|_| submit_video(&gateway)).collect();
    let mut client = Client::connect(gateway.address);
    for id in &ids {
        client.ask(poll(id));
    }
    eventually("the list of what runs is asked for", || {
        lists(&simulator).iter().any(|seen| seen.target.contains("status=RUNNING"))
    });
    let (done, running) = ids.split_at(7);
    done.iter().for_each(|id| assert!(simulator.finish(id)));
    eventually("all that has ended is known", || {
        ids.iter().for_each(|id| assert_eq!(client.ask(poll(id)).status(), 200));
        done.iter().all(|id| state(&client.ask(poll(id))) == "SUCCEEDED")
    });
    for id in done {
        let got = client.ask(poll(id));
        assert!(got.json()["output"]["video_url"].is_string(), "the whole answer: {}", got.text());
    }
    assert!(running.iter().all(|id| state(&client.ask(poll(id))) == "RUNNING"));
    let refused = simulator.requests().into_iter().filter(|seen| seen.status == Some(429)).count();
    assert_eq!(refused, 0, "lists {}, queries {}", lists(&simulator).len(), queries(&simulator).len());
}

#[test]
fn a_poll_that_may_wait_learns_of_the_change() {
    let simulator = simulator(SimulatorOptions {
        run: Duration::from_secs(3600),
        pending: Some(Duration::ZERO),
        ..SimulatorOptions::default()
    });
    let gateway = gateway(simulator.address(), "", "");
    let id = submit_video(&gateway);
    simulator.pin(&id, Some(SimulatedStatus::Pending));
    assert_eq!(state(&gateway.ask(poll(&id))), "PENDING");
    for (pin, expected) in [(Some(SimulatedStatus::Running), "RUNNING"), (None, "SUCCEEDED")] {
        let mut client = Client::connect(gateway.address);
        client.send(long_poll(&id, 60));
        match pin {
            Some(_) => assert!(simulator.pin(&id, pin)),
            None => assert!(simulator.finish(&id)),
        }
        let got = client.answer();
        assert_eq!(state(&got), expected);
        assert_eq!(got.field("preference-applied").as_deref(), Some("wait=60"));
    }
}

#[test]
fn a_poll_waits_no_longer_than_it_may() {
    let upstream = upstream(|stream| stream.write_all(&task("t-1", "RUNNING")).is_ok());
    let gateway = gateway(upstream.address, "", "");
    gateway.ask(submit());
    assert_eq!(state(&gateway.ask(poll("t-1"))), "RUNNING");
    let began = std::time::Instant::now();
    let got = gateway.ask(long_poll("t-1", 1));
    assert_eq!(
        (state(&got).as_str(), got.field("preference-applied").as_deref()),
        ("RUNNING", Some("wait=1"))
    );
    assert!(began.elapsed() >= Duration::from_secs(1));
}

/// `hold` applies to clients that do not ask for it, on the mounts where it is set.
#[test]
fn a_mount_may_hold_polls_of_unmodified_clients() {
    let simulator = simulator(SimulatorOptions {
        run: Duration::from_secs(3600),
        pending: Some(Duration::ZERO),
        ..SimulatorOptions::default()
    });
    let server = "listen = \"127.0.0.1:0\"\nworkers = 1\n[poll]\nhold = \"0s\"";
    let text = configuration(server, &[("main", simulator.address(), &[UPSTREAM_KEY], "")], "");
    let text = text.replace("prefix = \"/wan\"", "prefix = \"/wan\"\npoll = { hold = \"60s\" }");
    let gateway = Gateway::configured(&text);
    let id = submit_video(&gateway);
    assert_eq!(state(&gateway.ask(poll(&id))), "RUNNING");
    let mut client = Client::connect(gateway.address);
    client.send(poll(&id).replace("GET /api", "GET /wan/api"));
    // A poll on another mount does not wait.
    assert_eq!(state(&gateway.ask(poll(&id))), "RUNNING");
    assert!(simulator.finish(&id));
    let got = client.answer();
    assert_eq!((state(&got).as_str(), got.field("preference-applied")), ("SUCCEEDED", None));
}

#[test]
fn a_drain_lets_go_of_those_who_wait() {
    let upstream = upstream(|stream| stream.write_all(&task("t-1", "RUNNING")).is_ok());
    let gateway = gateway(upstream.address, "hold = \"60s\"", "");
    gateway.ask(submit());
    let mut client = Client::connect(gateway.address);
    client.send(poll("t-1"));
    eventually("the poll has arrived", || asked(&upstream) > 0);
    let list = message("GET /api/v1/tasks", &[&bearer()], "");
    eventually("its answer has been heard", || gateway.ask(&list).text().contains("RUNNING"));
    gateway.running.drain();
    assert_eq!(state(&client.answer()), "RUNNING");
}

fn listed(gateway: &Gateway, query: &str) -> Vec<String> {
    let got = gateway.ask(message(&format!("GET /api/v1/tasks?{query}"), &[&bearer()], "")).json();
    let rows = got["data"].as_array().unwrap_or_else(|| panic!("{got}"));
    rows.iter().map(|row| row["status"].as_str().expect("a status").to_owned()).collect()
}

/// A list told states that were a minute old: clients that poll it alone learnt of an end of 3 s after 60 s.
#[test]
fn a_list_is_a_poll_of_what_is_on_its_page() {
    let (simulator, text) = lasting();
    let text = text.replace("workers = 1", "workers = 1\n[poll]\nmax_age = \"0s\"");
    let unified = "[[mounts]]\nprefix = \"/v1\"\ndialect = \"unified\"\n[[tenants]]";
    let gateway = Gateway::configured(&text.replacen("[[tenants]]", unified, 1));
    let ids: Vec<String> = (0..5).map(|_| submit_video(&gateway)).collect();
    let end = |number: usize| assert!(simulator.finish(&ids[number]));
    let ended = |statuses: Vec<String>| statuses.iter().filter(|status| *status == "SUCCEEDED").count();
    end(0);
    assert_eq!(ended(listed(&gateway, "")), 1);
    end(1);
    let videos = gateway.ask(message("GET /v1/videos", &[&bearer()], "")).json();
    let completed = |video: &&Value| video["status"] == "completed" && !video["completed_at"].is_null();
    assert_eq!(
        videos["data"].as_array().map(|data| data.iter().filter(completed).count()),
        Some(2),
        "{videos}"
    );
    // With a status, what may have come to it or left it counts too.
    end(2);
    assert_eq!(listed(&gateway, "status=SUCCEEDED").len(), 3);
    end(3);
    assert_eq!(listed(&gateway, "status=RUNNING").len() + listed(&gateway, "status=PENDING").len(), 1);
    // A task that has ended is not asked for again.
    let before = queries(&simulator).len();
    assert_eq!(ended(listed(&gateway, "")), 4);
    assert_eq!(queries(&simulator).len(), before + 1);
}

/// A list asks no more often than a poll, and waits no longer.
#[test]
fn a_list_is_told_from_memory_while_that_is_fresh() {
    let upstream = upstream(|stream| stream.write_all(&task("t-1", "RUNNING")).is_ok());
    let gateway = gateway(upstream.address, "max_age = \"60s\"", "");
    gateway.ask(submit());
    for query in ["", "status=RUNNING", "page_no=2", "task_id=t-1"] {
        assert_eq!(listed(&gateway, query).len(), usize::from(query != "page_no=2"), "{query}");
    }
    assert_eq!(state(&gateway.ask(poll("t-1"))), "RUNNING");
    assert_eq!(asked(&upstream), 1);
}

/// A simulator whose tasks end when the test says so, and the text of a gateway before it that can be started again.
fn lasting() -> (Simulator, String) {
    let simulator =
        simulator(SimulatorOptions { run: Duration::from_secs(3600), ..SimulatorOptions::default() });
    let accounts = [("main", simulator.address(), &[UPSTREAM_KEY][..], "")];
    let text = configuration("listen = \"127.0.0.1:0\"\nworkers = 1", &accounts, "");
    (simulator, text)
}

/// The gateway learns of a task's end although no client asks, also of an end before its restart.
#[test]
fn a_task_that_nobody_polls_comes_to_its_end() {
    let (simulator, text) = lasting();
    let gateway = Gateway::configured(&text);
    let id = submit_video(&gateway);
    let directory = gateway.stop();
    assert!(simulator.finish(&id));
    let gateway = Gateway::over(directory, &text);
    let metrics = || gateway.administer("GET /metrics", "").text();
    eventually("its end is known", || metrics().contains("\ndashgate_completion_lag_seconds_count 1\n"));
    assert_eq!(queries(&simulator).len(), 1);
    // The client gets the answer that was learnt meanwhile.
    assert!(gateway.ask(poll(&id)).json()["output"]["video_url"].is_string());
    assert_eq!(queries(&simulator).len(), 1);
}

/// A restart forgets the answer of a task but not its end, so the gateway asks for the answer again.
#[test]
fn the_answer_of_a_task_that_ended_before_a_restart_is_asked_for() {
    let (simulator, text) = lasting();
    let gateway = Gateway::configured(&text);
    let id = submit_video(&gateway);
    assert!(simulator.finish(&id));
    assert_eq!(state(&gateway.ask(poll(&id))), "SUCCEEDED");
    let gateway = Gateway::over(gateway.stop(), &text);
    let got = gateway.ask(poll(&id));
    assert!(got.json()["output"]["video_url"].is_string(), "{}", got.text());
    let by_other_tenant =
        message(&format!("GET /api/v1/tasks/{id}"), &[&format!("x-api-key: {OTHER_KEY}")], "");
    assert_eq!(state(&gateway.ask(by_other_tenant)), "UNKNOWN");
}

#[test]
fn a_cancel_is_seen_by_the_next_poll() {
    let simulator = simulator(SimulatorOptions {
        pending: Some(Duration::from_secs(3600)),
        ..SimulatorOptions::default()
    });
    let gateway = gateway(simulator.address(), "max_age = \"60s\"", "");
    let id = submit_video(&gateway);
    assert_eq!(state(&gateway.ask(poll(&id))), "PENDING");
    let got = gateway.ask(message(&format!("POST /api/v1/tasks/{id}/cancel"), &[&bearer()], ""));
    assert_eq!(got.status(), 200, "{}", got.text());
    assert_eq!(state(&gateway.ask(poll(&id))), "CANCELED");
}

#[test]
fn polls_and_ends_are_counted() {
    let simulator =
        simulator(SimulatorOptions { run: Duration::from_secs(3600), ..SimulatorOptions::default() });
    let gateway = gateway(simulator.address(), "max_age = \"60s\"", "");
    let id = submit_video(&gateway);
    let metrics = || gateway.administer("GET /metrics", "").text();
    let has = |line: &str| metrics().lines().any(|found| found == line);
    for _ in 0..3 {
        gateway.ask(poll(&id));
    }
    assert!(has("dashgate_polls_total{served=\"upstream\"} 1"), "{}", metrics());
    assert!(has("dashgate_polls_total{served=\"cache\"} 2"), "{}", metrics());
    assert!(has("dashgate_tasks{state=\"pending\"} 1"), "{}", metrics());
    assert!(simulator.finish(&id));
    gateway.ask(message(&format!("POST /api/v1/tasks/{id}/cancel"), &[&bearer()], ""));
    assert_eq!(state(&gateway.ask(long_poll(&id, 60))), "SUCCEEDED");
    // Waiting clients get the answer first.
    eventually("its end is counted", || has("dashgate_completion_lag_seconds_count 1"));
    eventually("it is pending no more", || has("dashgate_tasks{state=\"pending\"} 0"));
}

//! One task by its id, from the API and from the command line: whose it is, why it failed, what it cost.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

use crate::harness::calls::{SYNTHESIS, poll, submit, task};
use crate::harness::{Gateway, UPSTREAM_KEY, Upstream, answer, configuration};

const TASK: &str = "0385dc79-5ff8-4d82-bcb6-b08628dbf5a5";

/// DashScope's id of the submit.
const SUBMIT: &str = "9f1d6c1e-5a0e-9b57-b8a3-6d1a6a2c7f10";

/// An upstream with one task, which runs until it is told to fail.
fn upstream() -> (Upstream, Arc<AtomicBool>) {
    let fails = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&fails);
    let upstream = Upstream::start(move |request, stream| {
        let bytes = match told.load(Ordering::SeqCst) {
            _ if request.start_line().contains(SYNTHESIS) => {
                let body = format!(
                    r#"{{"output":{{"task_id":"{TASK}","task_status":"PENDING"}},"request_id":"{SUBMIT}"}}"#
                );
                answer("200 OK", &[], &body)
            }
            false => task(TASK, "RUNNING"),
            true => {
                let output = format!(
                    r#"{{"task_id":"{TASK}","task_status":"FAILED","code":"InvalidFile","message":"a cat is no video"}}"#
                );
                answer("200 OK", &["X-Request-Id: up-1"], &format!(r#"{{"output":{output}}}"#))
            }
        };
        stream.write_all(&bytes).is_ok()
    });
    (upstream, fails)
}

/// A gateway that asks for nothing but what a client or an operator asks for.
fn gateway(upstream: &Upstream) -> Gateway {
    let server = "listen = \"127.0.0.1:0\"\nworkers = 1\n[poll]\nmax_age = \"1h\"";
    Gateway::configured(&configuration(server, &[("main", upstream.address, &[UPSTREAM_KEY], "")], ""))
}

fn show(gateway: &Gateway) -> Value {
    let got = gateway.administer(&format!("GET /admin/tasks/{TASK}"), "");
    assert_eq!(got.status(), 200, "{}", got.text());
    got.json()
}

#[test]
fn a_task_is_shown_with_its_owner_and_refreshed_on_demand() {
    let (upstream, fails) = upstream();
    let gateway = gateway(&upstream);
    assert_eq!(gateway.ask(submit()).status(), 200);
    assert_eq!(gateway.ask(poll(TASK)).json()["output"]["task_status"], "RUNNING");
    let running = show(&gateway);
    for (field, value) in [
        ("task_id", TASK),
        ("tenant", "one"),
        ("key_id", "one-key"),
        ("account", "main"),
        ("model", "wan2.7-t2v"),
        ("mount", "/"),
        ("status", "RUNNING"),
    ] {
        assert_eq!(running[field], value, "{running}");
    }
    assert!(running["known_at"].as_str() >= running["submitted_at"].as_str(), "{running}");
    assert!(running["ended_at"].is_null() && running["error"].is_null(), "{running}");
    // The news is fresh for an hour, so a poll asks nothing; a refresh does.
    fails.store(true, Ordering::SeqCst);
    assert_eq!(gateway.ask(poll(TASK)).json()["output"]["task_status"], "RUNNING");
    assert_eq!(show(&gateway)["status"], "RUNNING");
    let refreshed = gateway.administer(&format!("POST /admin/tasks/{TASK}/refresh"), "").json();
    assert_eq!(
        (&refreshed["status"], &refreshed["refreshed"]),
        (&"FAILED".into(), &true.into()),
        "{refreshed}"
    );
    assert_eq!(refreshed["error"]["code"], "InvalidFile", "{refreshed}");
    assert_eq!(refreshed["error"]["message"], "a cat is no video", "{refreshed}");
    assert_eq!(refreshed["upstream_request_id"], "up-1", "{refreshed}");
    assert!(refreshed["ended_at"].is_string() && refreshed["cost"].is_null(), "{refreshed}");
    let asked = upstream.requests().len();
    let again = gateway.administer(&format!("POST /admin/tasks/{TASK}/refresh"), "").json();
    assert_eq!((&again["refreshed"], upstream.requests().len()), (&false.into(), asked));
    assert_eq!(gateway.ask(poll(TASK)).json()["output"]["task_status"], "FAILED");
}

#[test]
fn the_end_of_a_task_is_still_known_after_a_restart() {
    let (upstream, fails) = upstream();
    let first = gateway(&upstream);
    assert_eq!(first.ask(submit()).status(), 200);
    fails.store(true, Ordering::SeqCst);
    first.administer(&format!("POST /admin/tasks/{TASK}/refresh"), "");
    let before = show(&first);
    let server = "listen = \"127.0.0.1:0\"\nworkers = 1";
    let text = configuration(server, &[("main", upstream.address, &[UPSTREAM_KEY], "")], "");
    let second = Gateway::over(first.stop(), &text);
    let after = show(&second);
    for field in ["task_id", "tenant", "key_id", "account", "model", "status", "submitted_at"] {
        assert_eq!(before[field], after[field], "{field}");
    }
    assert!(after["ended_at"].is_string() && after["known_at"] == after["ended_at"], "{after}");
    // DashScope's words are asked for again.
    let refreshed = second.administer(&format!("POST /admin/tasks/{TASK}/refresh"), "").json();
    assert_eq!(refreshed["error"]["code"], "InvalidFile", "{refreshed}");
}

#[test]
fn the_command_shows_what_an_operator_needs() {
    let (upstream, fails) = upstream();
    let gateway = gateway(&upstream);
    assert_eq!(gateway.ask(submit()).status(), 200);
    fails.store(true, Ordering::SeqCst);
    let refreshed = gateway.printed("tasks", &["refresh", TASK]);
    assert!(refreshed.starts_with("DashScope was asked just now.\n"), "{refreshed}");
    let shown = gateway.printed("tasks", &["show", TASK]);
    let rows: Vec<Vec<&str>> = shown.lines().map(|line| line.split_whitespace().collect()).collect();
    for row in [
        &["task", TASK][..],
        &["status", "FAILED"],
        &["tenant", "one"],
        &["error", "code", "InvalidFile"],
        &["error", "a", "cat", "is", "no", "video"],
    ] {
        assert!(rows.iter().any(|found| found == row), "{row:?} is not in\n{shown}");
    }
    let json: Value =
        serde_json::from_str(&gateway.printed("tasks", &["show", TASK, "--json"])).expect("JSON");
    assert_eq!(json["status"], "FAILED");
    let found = ["list", "--tenant", "one", "--status", "FAILED", "--key", "one-key", "--model", "wan*"];
    for (arguments, lines) in [
        (&found[..], 2),
        (&["list", "--status", "RUNNING"], 1),
        (&["list", "--to", "2026-01-01"], 1),
        (&["list", "--from", "2026-01-01", "--json"], 1),
    ] {
        assert_eq!(gateway.printed("tasks", arguments).lines().count(), lines, "{arguments:?}");
    }
    let none = gateway.command("tasks", &["show", "none"]);
    let said = String::from_utf8_lossy(&none.stderr);
    assert!(none.status.code() == Some(1) && said.contains("no task `none` is known"), "{said}");
}

#[test]
fn a_task_is_found_by_the_ids_of_its_request() {
    let (upstream, _) = upstream();
    let text = configuration(
        "listen = \"127.0.0.1:0\"\nworkers = 1",
        &[("main", upstream.address, &[UPSTREAM_KEY], "")],
        "",
    );
    let gateway = Gateway::configured(&text);
    let before = gateway.administer("GET /metrics", "").text();
    assert_eq!(gateway.ask(submit()).status(), 200);
    let shown = show(&gateway);
    assert_eq!(
        (&shown["submit_request_id"], &shown["upstream_request_id"]),
        (&SUBMIT.into(), &SUBMIT.into())
    );
    let own = shown["request_id"].as_str().expect("an id").to_owned();
    let commits = |page: &str| -> Option<f64> {
        page.lines().find_map(|line| line.strip_prefix("dashgate_store_commit_seconds_count ")?.parse().ok())
    };
    let after = gateway.administer("GET /metrics", "").text();
    assert!(
        commits(&after) <= commits(&before).map(|count| count + 1.0),
        "the ids take no commit of their own"
    );
    let logged = || gateway.lines().into_iter().find(|line| line["task_id"] == TASK);
    crate::harness::eventually("the submit is logged", || logged().is_some());
    assert_eq!(logged().expect("a line")["request_id"], *own, "the access log has the same id");
    let found = |gateway: &Gateway, query: &str| -> Vec<Value> {
        let got = gateway.administer(&format!("GET /admin/tasks?{query}"), "");
        assert_eq!(got.status(), 200, "{}", got.text());
        got.json()["tasks"].as_array().expect("tasks").iter().map(|task| task["id"].clone()).collect()
    };
    let state = gateway.stop();
    let gateway = Gateway::over(state, &text);
    for id in [&*own, SUBMIT] {
        assert_eq!(found(&gateway, &format!("request_id={id}")), [TASK], "{id}");
        assert_eq!(found(&gateway, &format!("request_id={id}&tenant=one&key=one-key")), [TASK], "{id}");
        assert_eq!(found(&gateway, &format!("request_id={id}&tenant=two")), [""; 0], "{id}");
        let printed = gateway.printed("tasks", &["show", id]);
        assert!(printed.lines().any(|line| line.split_whitespace().eq(["task", TASK])), "{printed}");
        assert_eq!(gateway.printed("tasks", &["list", "--request-id", id]).lines().count(), 2);
    }
    assert_eq!(found(&gateway, "request_id=none"), [""; 0]);
    assert_eq!(gateway.administer("GET /admin/tasks?request_id=", "").status(), 400);
}

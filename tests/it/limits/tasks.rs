//! Limit of tasks in flight: a task counts from its submit until its end is known from any answer, across restarts.

use std::io::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};

use super::{check_limited, gateway, with_ended, with_tasks};
use crate::harness::calls::{generate, poll, submit, task};
use crate::harness::{Client, Gateway, Upstream, answer, configuration, eventually};

const TWO: &str = "limits = { tasks_in_flight = 2 }";

/// A gateway that asks the upstream at each poll.
fn asking(upstream: &Upstream, tenant: &str) -> Gateway {
    Gateway::with(upstream.address, "[poll]\nmax_age = \"0s\"", tenant)
}

fn submits(upstream: &Upstream) -> usize {
    upstream.requests().iter().filter(|seen| seen.start_line().starts_with("POST ")).count()
}

#[test]
fn as_many_tasks_run_as_the_limit_says_until_one_has_ended() {
    for status in ["SUCCEEDED", "FAILED", "CANCELED"] {
        let ended = Arc::new(AtomicUsize::new(0));
        let upstream = with_ended(status, Arc::clone(&ended));
        let gateway = asking(&upstream, TWO);
        assert_eq!([(); 2].map(|()| gateway.ask(submit()).status()), [200; 2]);
        for _ in 0..3 {
            check_limited(&gateway.ask(submit()), "tasks_in_flight", "limits.tasks_in_flight = 2");
        }
        assert_eq!(submits(&upstream), 2, "what is refused is not sent");
        // Other calls are not limited by the number of tasks.
        assert_eq!(gateway.ask(generate("{}")).status(), 200);
        ended.store(1, Ordering::SeqCst);
        assert_eq!(gateway.ask(poll("t-0")).json()["output"]["task_status"], status);
        assert_eq!(gateway.ask(submit()).status(), 200, "{status} frees its slot");
        check_limited(&gateway.ask(submit()), "tasks_in_flight", "limits.tasks_in_flight = 2");
    }
}

/// Slots of tasks that nobody polled stayed taken for up to a minute after their ends.
#[test]
fn a_submit_that_finds_no_slot_asks_which_tasks_have_ended() {
    for scope in ["limits", "tenant_limits"] {
        let ended = Arc::new(AtomicUsize::new(0));
        let upstream = with_ended("SUCCEEDED", Arc::clone(&ended));
        let slow = super::SLOW;
        let limit = format!("{scope} = {{ tasks_in_flight = 3, {slow}, burst = 6 }}");
        let gateway = asking(&upstream, &limit);
        for number in 0..6 {
            // From the fourth on, a slot is free as soon as it is asked for.
            ended.store(number, Ordering::SeqCst);
            let got = gateway.ask(submit());
            assert_eq!(got.status(), 200, "{}", got.text());
            let left = (5 - number).to_string();
            assert_eq!(got.field("ratelimit-remaining").as_deref(), Some(&*left), "one is taken for each");
        }
        assert_eq!(submits(&upstream), 6);
    }
}

/// The news of a task is good for as long as for a poll, however often submits are refused.
#[test]
fn refused_submits_ask_no_more_often_than_polls() {
    let upstream = with_tasks("RUNNING");
    let gateway = Gateway::with(upstream.address, "[poll]\nmax_age = \"60s\"", TWO);
    assert_eq!([(); 2].map(|()| gateway.ask(submit()).status()), [200; 2]);
    for _ in 0..20 {
        check_limited(&gateway.ask(submit()), "tasks_in_flight", "limits.tasks_in_flight = 2");
    }
    assert_eq!(upstream.requests().len(), 4, "two submits, and a query for each task");
}

#[test]
fn a_task_that_runs_holds_its_slot() {
    let upstream = with_tasks("RUNNING");
    let gateway = gateway(&upstream, "tenant_limits = { tasks_in_flight = 1 }");
    assert_eq!(gateway.ask(submit()).status(), 200);
    assert_eq!(gateway.ask(poll("t-0")).status(), 200);
    check_limited(&gateway.ask(submit()), "tasks_in_flight", "tenant_limits.tasks_in_flight = 1");
}

#[test]
fn a_submit_that_makes_no_task_frees_its_slot() {
    let refusal =
        answer("400 Bad Request", &[], r#"{"code":"InvalidParameter","message":"","request_id":""}"#);
    let upstream = Upstream::answering(refusal);
    let gateway = gateway(&upstream, "limits = { tasks_in_flight = 1 }");
    for _ in 0..5 {
        eventually("the slot is free", || gateway.ask(submit()).status() == 400);
    }
}

#[test]
fn submits_at_one_time_do_not_pass_the_limit_together() {
    let (go, wait) = mpsc::channel::<()>();
    let (wait, made) = (Mutex::new(wait), AtomicUsize::new(0));
    let upstream = Upstream::start(move |request, stream| {
        if request.start_line().starts_with("GET ") {
            return stream.write_all(&answer("500 Internal Server Error", &[], "{}")).is_ok();
        }
        wait.lock().expect("no panic").recv().expect("a word");
        stream.write_all(&task(&format!("t-{}", made.fetch_add(1, Ordering::SeqCst)), "PENDING")).is_ok()
    });
    let gateway = gateway(&upstream, TWO);
    let mut clients: Vec<Client> = (0..2)
        .map(|_| {
            let mut client = Client::connect(gateway.address);
            client.send(submit());
            client
        })
        .collect();
    // Both submits are in flight, and neither has made a task yet.
    eventually("both have arrived", || upstream.requests().len() == 2);
    check_limited(&gateway.ask(submit()), "tasks_in_flight", "limits.tasks_in_flight = 2");
    for _ in 0..2 {
        go.send(()).expect("heard");
    }
    assert!(clients.iter_mut().all(|client| client.answer().status() == 200));
    check_limited(&gateway.ask(submit()), "tasks_in_flight", "limits.tasks_in_flight = 2");
}

#[test]
fn a_restart_forgets_no_task_that_runs() {
    let ended = Arc::new(AtomicUsize::new(1));
    let upstream = with_ended("SUCCEEDED", Arc::clone(&ended));
    let text = configuration(
        "listen = \"127.0.0.1:0\"\nworkers = 2\n[poll]\nmax_age = \"0s\"",
        &[("main", upstream.address, &[crate::harness::UPSTREAM_KEY], "")],
        "limits = { tasks_in_flight = 3 }",
    );
    let gateway = Gateway::configured(&text);
    assert_eq!([(); 3].map(|()| gateway.ask(submit()).status()), [200; 3]);
    assert_eq!(gateway.ask(poll("t-0")).status(), 200);
    let gateway = Gateway::over(gateway.stop(), &text);
    assert_eq!(gateway.ask(submit()).status(), 200, "one of three has ended");
    check_limited(&gateway.ask(submit()), "tasks_in_flight", "limits.tasks_in_flight = 3");
    // A new limit also counts tasks that were submitted without a limit.
    let fewer = text.replace("tasks_in_flight = 3", "tasks_in_flight = 1");
    let gateway = Gateway::over(gateway.stop(), &fewer);
    for id in ["t-1", "t-2", "t-3"] {
        check_limited(&gateway.ask(submit()), "tasks_in_flight", "limits.tasks_in_flight = 1");
        ended.fetch_add(1, Ordering::SeqCst);
        assert_eq!(gateway.ask(poll(id)).json()["output"]["task_status"], "SUCCEEDED");
    }
    assert_eq!(gateway.ask(submit()).status(), 200);
}

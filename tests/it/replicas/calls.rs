//! Calls at three gateways on one database are limited together.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use dashgate::config::Config;

use crate::harness::calls::{generate, poll, submit, task};
use crate::harness::postgres::{PASSWORD, Postgres, TestDatabase};
use crate::harness::{Gateway, UPSTREAM_KEY, Upstream, answer, configuration, eventually, once_reachable};
use crate::metrics::Page;

/// An upstream whose tasks run until as many as `ended` have ended.
fn upstream(ended: Arc<AtomicUsize>) -> Upstream {
    let made = AtomicUsize::new(0);
    Upstream::start(move |request, stream| {
        let line = request.start_line().to_owned();
        let bytes = if request.field("x-dashscope-async").is_some() {
            task(&format!("t-{}", made.fetch_add(1, Ordering::SeqCst)), "PENDING")
        } else if let Some((_, id)) = line.split_once("/tasks/t-") {
            let number: usize = id.split(['?', ' ']).next().and_then(|id| id.parse().ok()).expect("a number");
            let has_ended = number < ended.load(Ordering::SeqCst);
            task(&format!("t-{number}"), if has_ended { "SUCCEEDED" } else { "RUNNING" })
        } else {
            answer("200 OK", &[], "{}")
        };
        stream.write_all(&bytes).is_ok()
    })
}

fn replica(database: &TestDatabase<'_>, upstream: &Upstream, account: &str, tenant: &str) -> Gateway {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("password"), PASSWORD).expect("written");
    let store = format!("[store]\nurl = {:?}\npassword_file = \"password\"", database.url());
    let server = format!(
        "listen = \"127.0.0.1:0\"\nworkers = 1\n[poll]\nmax_age = \"0s\"\n[submit]\nmax_wait = \"0s\"\n{store}"
    );
    let account = ("main", upstream.address, &[UPSTREAM_KEY][..], account);
    let text = configuration(&server, &[account], tenant);
    let loaded =
        Config::parse(&text, directory.path(), &|_| None).unwrap_or_else(|faults| panic!("{faults:#?}"));
    Gateway::of(directory, loaded.config)
}

fn three(database: &TestDatabase<'_>, upstream: &Upstream, account: &str, tenant: &str) -> Vec<Gateway> {
    (0..3).map(|_| replica(database, upstream, account, tenant)).collect()
}

/// Statuses of submits at all gateways at once.
fn submit_everywhere(replicas: &[Gateway], each: usize) -> Vec<u16> {
    thread::scope(|scope| {
        let submits = |gateway: &'_ Gateway| {
            (0..each).map(|_| once_reachable(|| gateway.ask(submit())).status()).collect()
        };
        let threads: Vec<_> =
            replicas.iter().map(|gateway| scope.spawn(move || -> Vec<u16> { submits(gateway) })).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect()
    })
}

fn submits(upstream: &Upstream) -> usize {
    upstream.requests().iter().filter(|seen| seen.start_line().starts_with("POST ")).count()
}

#[test]
fn as_many_tasks_run_at_three_gateways_as_the_limit_says() {
    let database = Postgres::shared().database();
    let ended = Arc::new(AtomicUsize::new(0));
    let upstream = upstream(Arc::clone(&ended));
    let replicas = three(&database, &upstream, "", "limits = { tasks_in_flight = 5 }");
    let statuses = submit_everywhere(&replicas, 8);
    let made = statuses.iter().filter(|status| **status == 200).count();
    assert_eq!((made, submits(&upstream)), (5, 5), "{statuses:?}");
    assert!(statuses.iter().all(|status| [200, 429].contains(status)), "{statuses:?}");
    let refused = once_reachable(|| replicas[1].ask(submit()));
    assert_eq!(refused.status(), 429, "{}", refused.text());
    assert!(refused.text().contains("limits.tasks_in_flight = 5"), "{}", refused.text());
    // A slot that comes back at one gateway is every gateway's.
    ended.store(2, Ordering::SeqCst);
    eventually("an end is known", || {
        replicas[0].ask(poll("t-0")).text().contains("SUCCEEDED")
            && replicas[0].ask(poll("t-1")).text().contains("SUCCEEDED")
    });
    eventually("a slot is free elsewhere", || replicas[1].ask(submit()).status() == 200);
    eventually("the other slot is free, too", || replicas[2].ask(submit()).status() == 200);
    assert!(submit_everywhere(&replicas, 2).iter().all(|status| *status == 429));
    assert_eq!(submits(&upstream), 7);
}

#[test]
fn a_rate_that_is_used_up_at_one_gateway_is_so_at_the_others() {
    let database = Postgres::shared().database();
    let upstream = upstream(Arc::default());
    let replicas = three(&database, &upstream, "", "limits = { requests_per_second = 0.001, burst = 300 }");
    eventually("the first has its burst", || replicas[0].ask(generate("{}")).status() == 200);
    while replicas[0].ask(generate("{}")).status() == 200 {}
    for other in &replicas[1..] {
        let mut asked = 0;
        eventually("the others know", || {
            asked += 1;
            other.ask(generate("{}")).status() == 429
        });
        assert!(asked < 150, "{asked} calls were let in");
    }
}

#[test]
fn of_submits_that_come_to_three_gateways_at_once_one_has_the_turn() {
    let database = Postgres::shared().database();
    let upstream = upstream(Arc::default());
    let rule = "pace = [{ models = [\"*\"], requests_per_second = 0.01 }]";
    let replicas = three(&database, &upstream, rule, "");
    eventually("they hear each other", || {
        replicas.iter().all(|replica| Page::of(replica).value("dashgate_replicas") == 3.0)
    });
    let statuses = submit_everywhere(&replicas, 4);
    let made = statuses.iter().filter(|status| **status == 200).count();
    assert_eq!((made, submits(&upstream)), (1, 1), "{statuses:?}");
    assert!(statuses.iter().all(|status| [200, 429].contains(status)), "{statuses:?}");
}

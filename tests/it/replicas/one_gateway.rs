//! Three replicas behind a plain balancer are one gateway to their clients, whichever of them a connection reaches.

use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;

use dashgate::config::Config;
use serde_json::json;

use crate::harness::postgres::{Postgres, TestDatabase};
use crate::harness::reached::reached_after;
use crate::harness::relay::Relay;
use crate::harness::{
    Gateway, Message, OTHER_KEY, StateDirectory, TENANT_KEY, UPSTREAM_KEY, Upstream, answer, client,
    configuration, eventually, message, once_reachable,
};
use crate::usage::budgets;
use crate::usage::kills::asked_for;

/// Clients that submit and poll at the same time.
const CLIENTS: usize = 4;
const SUBMIT: &str = "POST /wan/v1/services/aigc/video-generation/video-synthesis";

pub(super) struct Replicas {
    balancer: Relay,
    pub(super) gateways: Vec<Gateway>,
    database: Arc<TestDatabase<'static>>,
}

impl Replicas {
    pub(super) fn start(text: &str) -> Self {
        Self::over(Postgres::shared().database(), text)
    }

    pub(super) fn over(database: TestDatabase<'static>, text: &str) -> Self {
        let database = Arc::new(database);
        let start = |_| Gateway::over(StateDirectory::over(&database), text);
        let gateways: Vec<_> = (0..3).map(start).collect();
        let addresses: Vec<_> = gateways.iter().map(|gateway| gateway.address).collect();
        Self { balancer: Relay::over(&addresses), gateways, database }
    }

    /// Starts one more, which the balancer does not know.
    pub(super) fn start_another(&mut self, text: &str) {
        self.gateways.push(Gateway::over(StateDirectory::over(&self.database), text));
    }

    /// The replica of a number; each number counts.
    pub(super) fn at(&self, number: usize) -> &Gateway {
        &self.gateways[number % self.gateways.len()]
    }

    /// Sends a request to the admin listener of a replica, until its database does not seem away.
    pub(super) fn administer(&self, number: usize, line: &str, body: &str) -> Message {
        once_reachable(|| self.at(number).administer(line, body))
    }

    /// Sends a request to whichever replica the balancer chooses.
    fn ask(&self, request: impl AsRef<[u8]>) -> Message {
        client::once(self.balancer.address(), request)
    }
}

/// A database in which no replica hears a hint of the log, as if messages were lost; gossip passes.
pub(super) fn without_hints() -> TestDatabase<'static> {
    let database = Postgres::shared().database();
    database.sql(&format!(
        "CREATE FUNCTION public.pg_notify(channel text, payload text) RETURNS void LANGUAGE plpgsql AS $$
         BEGIN
             IF channel <> 'dashgate_log' THEN PERFORM pg_catalog.pg_notify(channel, payload); END IF;
         END $$;
         ALTER DATABASE {} SET search_path = public, pg_catalog",
        database.name
    ));
    database
}

/// An upstream that makes a task of each submit, and whose tasks run.
pub(super) fn upstream() -> Upstream {
    let made = AtomicUsize::new(0);
    Upstream::start(move |request, stream| {
        let line = request.start_line().to_owned();
        let body = if line.starts_with("POST /api/v1/services/aigc/video") {
            let number = made.fetch_add(1, Ordering::SeqCst);
            let id = format!("0385dc79-5ff8-4d82-bcb6-{number:012}");
            json!({"output": {"task_id": id, "task_status": "PENDING"}, "request_id": "r"})
        } else if let Some(id) = line.strip_prefix("GET /api/v1/tasks/") {
            let id = id.split([' ', '?']).next().expect("an id");
            json!({"output": {"task_id": id, "task_status": "RUNNING"}, "request_id": "r"})
        } else {
            json!({"output": {"text": "t"}, "request_id": "r"})
        };
        stream.write_all(&answer("200 OK", &[], &body.to_string())).is_ok()
    })
}

pub(super) fn usual(upstream: &Upstream) -> String {
    let accounts = [("main", upstream.address, &[UPSTREAM_KEY][..], "query_qps = 100000")];
    configuration("listen = \"127.0.0.1:0\"\nworkers = 1", &accounts, "")
}

pub(super) fn bearer(key: &str) -> String {
    format!("Authorization: Bearer {key}")
}

pub(super) fn submit(key: &str, idempotency_key: Option<&str>) -> String {
    let fields = [bearer(key), format!("Idempotency-Key: {}", idempotency_key.unwrap_or_default())];
    let mut fields = vec!["X-DashScope-Async: enable", &fields[0], &fields[1]];
    fields.truncate(if idempotency_key.is_some() { 3 } else { 2 });
    message(SUBMIT, &fields, r#"{"model":"wan2.7-t2v","input":{"prompt":"a cat"}}"#)
}

pub(super) fn poll(key: &str, id: &str) -> String {
    message(&format!("GET /wan/v1/tasks/{id}"), &[&bearer(key)], "")
}

#[track_caller]
pub(super) fn made(answer: &Message) -> String {
    assert_eq!(answer.status(), 200, "{}{}", answer.head, answer.text());
    answer.json()["output"]["task_id"].as_str().expect("an id").to_owned()
}

#[track_caller]
pub(super) fn status(answer: &Message) -> String {
    assert_eq!(answer.status(), 200, "{}{}", answer.head, answer.text());
    answer.json()["output"]["task_status"].as_str().expect("a status").to_owned()
}

/// Outcome of a call: `200`, or the reason of the refusal.
pub(super) fn outcome(gateway: &Gateway, key: &str) -> String {
    let call = "POST /wan/api/v1/services/aigc/text-generation/generation";
    let got = gateway.ask(message(call, &[&bearer(key)], r#"{"model":"qwen-plus"}"#));
    got.field("x-dashgate-reason").unwrap_or_else(|| got.status().to_string())
}

#[test]
fn a_tenant_that_is_made_or_suspended_at_one_replica_is_known_to_all() {
    let upstream = upstream();
    let replicas = Replicas::over(without_hints(), &usual(&upstream));
    let made = replicas.administer(0, "POST /admin/tenants", r#"{"name":"shop"}"#);
    assert_eq!(made.status(), 201, "{}", made.text());
    let key = replicas.administer(0, "POST /admin/keys", r#"{"tenant":"shop","id":"shop-key"}"#).json();
    let key = key["key"].as_str().expect("a secret");
    eventually("all replicas know the tenant", || {
        (0..3).all(|number| outcome(replicas.at(number), key) == "200")
    });
    let suspended = replicas.administer(1, "PATCH /admin/tenants/shop", r#"{"enabled":false}"#);
    assert_eq!(suspended.status(), 200, "{}", suspended.text());
    eventually("all replicas refuse its calls", || {
        (0..3).all(|number| outcome(replicas.at(number), key) == "suspended")
    });
    let again = replicas.administer(2, "POST /admin/tenants", r#"{"name":"shop"}"#);
    assert_eq!((again.status(), &again.json()["code"]), (409, &"name_taken".into()));
}

#[test]
fn an_operator_sees_a_task_alike_at_each_replica() {
    let upstream = upstream();
    let replicas = Replicas::over(without_hints(), &usual(&upstream));
    let id = made(&once_reachable(|| replicas.at(0).ask(submit(TENANT_KEY, None))));
    let shown = |number| {
        let got = replicas.administer(number, &format!("GET /admin/tasks/{id}"), "");
        assert_eq!(got.status(), 200, "{}", got.text());
        let mut shown = got.json();
        // The leader alone asks DashScope, and the others hear of it a moment later.
        for field in ["known_at", "status"] {
            shown[field].take();
        }
        shown
    };
    let first = shown(0);
    assert_eq!(first["tenant"], "one");
    assert_eq!([shown(1), shown(2)], [first.clone(), first]);
    // A replica that does not lead waits a moment for the leader's news, and then tells what it knows.
    eventually("a refresh tells the news", || {
        let line = format!("POST /admin/tasks/{id}/refresh");
        let refreshed = replicas.administer(1, &line, "");
        assert_eq!(refreshed.status(), 200, "{}", refreshed.text());
        refreshed.json()["status"] == "RUNNING"
    });
}

#[test]
fn a_task_is_known_at_once_to_replicas_that_hear_no_hints() {
    let upstream = upstream();
    let replicas = Replicas::over(without_hints(), &usual(&upstream));
    let polls = asked_for("DASHGATE_REPLICA_POLLS", 200);
    let (next, refused, early) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    let submit_and_poll = |number| {
        let reached = |ask: &dyn Fn() -> Message| {
            let (got, away) = reached_after(ask);
            refused.fetch_add(away, Ordering::Relaxed);
            got
        };
        let id = made(&reached(&|| replicas.at(number).ask(submit(TENANT_KEY, None))));
        let told = |ask: &dyn Fn() -> Message| status(&reached(ask));
        let own = [
            told(&|| replicas.at(number + 1).ask(poll(TENANT_KEY, &id))),
            told(&|| replicas.ask(poll(TENANT_KEY, &id))),
        ];
        assert_eq!(told(&|| replicas.at(number + 2).ask(poll(OTHER_KEY, &id))), "UNKNOWN", "{number}");
        // PENDING is what the submit told: the leader's answer may take a while.
        early.fetch_add(own.iter().filter(|told| *told == "PENDING").count(), Ordering::Relaxed);
        assert!(own.iter().all(|told| told == "PENDING" || told == "RUNNING"), "{number}: {own:?}");
    };
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                while let number = next.fetch_add(1, Ordering::Relaxed)
                    && number < polls
                {
                    submit_and_poll(number);
                }
            });
        }
    });
    println!(
        "{polls} submits, each polled at another replica at once: none unknown; {refused:?} answers were 503, and {early:?} \
         told the state of the submit"
    );
    assert_eq!(replicas.database.sql("SELECT count(*) > 0 FROM tasks"), [["t"]]);
}

#[test]
fn a_key_works_and_ends_on_all_replicas() {
    let upstream = upstream();
    let replicas = Replicas::start(&usual(&upstream));
    for number in 0..3 {
        let body = format!(r#"{{"tenant":"one","id":"key-{number}"}}"#);
        let created = replicas.administer(number, "POST /admin/keys", &body);
        assert_eq!(created.status(), 201, "{}", created.text());
        let key = created.json()["key"].as_str().expect("a secret").to_owned();
        for gateway in &replicas.gateways {
            eventually("the key works", || outcome(gateway, &key) == "200");
        }
        let again = replicas.administer(number + 1, "POST /admin/keys", &body);
        assert_eq!(again.status(), 409, "{}", again.text());
        let revoked = replicas.at(number + 1).administer(&format!("DELETE /admin/keys/key-{number}"), "");
        assert_eq!(revoked.status(), 200, "{}", revoked.text());
        assert_eq!(outcome(replicas.at(number + 1), &key), "revoked_key");
        for gateway in &replicas.gateways {
            eventually("the key is refused", || outcome(gateway, &key) == "revoked_key");
        }
    }
}

#[test]
fn a_submit_that_is_sent_again_to_another_replica_makes_no_second_task() {
    let upstream = upstream();
    let replicas = Replicas::over(without_hints(), &usual(&upstream));
    for number in 0..30 {
        let key = format!("key-{number}");
        let ask = |at: usize| once_reachable(|| replicas.at(at).ask(submit(TENANT_KEY, Some(&key))));
        let id = made(&ask(number));
        for other in 1..3 {
            let again = ask(number + other);
            assert_eq!(again.field("idempotency-replayed").as_deref(), Some("true"), "{}", again.text());
            assert_eq!(made(&again), id);
        }
    }
    // Three clients at the same time: one submit is sent, and the others are told so or get its answer.
    let start = Barrier::new(3);
    let answers: Vec<Message> = thread::scope(|scope| {
        let ask = |number| {
            let (replicas, start) = (&replicas, &start);
            scope.spawn(move || {
                start.wait();
                once_reachable(|| replicas.at(number).ask(submit(TENANT_KEY, Some("at once"))))
            })
        };
        let asked: Vec<_> = (0..3).map(ask).collect();
        asked.into_iter().map(|client| client.join().expect("an answer")).collect()
    });
    let is_fine = |answer: &Message| [200, 409].contains(&answer.status());
    assert!(answers.iter().all(is_fine), "{answers:#?}");
    assert!(answers.iter().any(|answer| answer.status() == 200), "{answers:#?}");
    let is_submit = |request: &&Message| request.start_line().starts_with("POST ");
    assert_eq!(upstream.requests().iter().filter(is_submit).count(), 31);
}

#[test]
fn sixteen_clients_of_three_replicas_never_overspend() {
    let (upstream, made) = budgets::upstream();
    let budget = "budgets = [{ amount = \"20\", period = \"month\" }]";
    let text = budgets::configuration(&upstream, budget);
    let replicas = Replicas::start(&text);
    let start = Barrier::new(16);
    let mut statuses: Vec<u16> = thread::scope(|scope| {
        let ask = |number| {
            let (replicas, start) = (&replicas, &start);
            scope.spawn(move || {
                start.wait();
                once_reachable(|| replicas.ask(budgets::submit(&format!("task-{number}")))).status()
            })
        };
        let clients: Vec<_> = (0..16).map(ask).collect();
        clients.into_iter().map(|client| client.join().expect("an answer")).collect()
    });
    statuses.sort_unstable();
    assert_eq!(statuses, [[200; 4].as_slice(), &[429; 12]].concat());
    assert_eq!(made.load(Ordering::Relaxed), 4);
    for gateway in &replicas.gateways {
        let refused = once_reachable(|| gateway.ask(budgets::submit("one-more")));
        assert_eq!(refused.field("x-dashgate-reason").as_deref(), Some("budget"), "{}", refused.text());
        eventually("the money is known", || {
            let shown = gateway.administer("GET /admin/tenants/one/credits", "").json();
            shown["spent"].as_str().zip(shown["held"].as_str()).is_some_and(|(spent, held)| {
                let amount = |text: &str| text.parse::<f64>().expect("a number");
                (amount(spent) + amount(held) - 20.0).abs() < 1e-9
            })
        });
    }
}

/// Nobody else can have taken anything before.
#[test]
fn a_gateway_that_starts_alone_has_full_buckets_at_once() {
    let upstream = upstream();
    let database = Arc::new(Postgres::shared().database());
    let server = "listen = \"127.0.0.1:0\"\nworkers = 1";
    let account = ("main", upstream.address, &[UPSTREAM_KEY][..], "");
    let text = configuration(server, &[account], "limits = { requests_per_second = 0.001, burst = 2 }");
    let loaded =
        Config::parse(&text, Path::new("."), &|_| None).unwrap_or_else(|faults| panic!("{faults:#?}"));
    // A second one may not: the first may have given all out.
    let first = Gateway::of(StateDirectory::over(&database), loaded.config.clone());
    let status = |gateway: &Gateway| gateway.ask(submit(TENANT_KEY, None)).status();
    assert_eq!([status(&first), status(&first), status(&first)], [200, 200, 429]);
    let names_it =
        |line: &serde_json::Value| line["replica"].as_str().is_some_and(|name| name.ends_with('1'));
    eventually("each line names the replica", || {
        let lines = first.lines();
        lines.len() == 3 && lines.iter().all(names_it)
    });
    let second = Gateway::of(StateDirectory::over(&database), loaded.config);
    assert_eq!(status(&second), 429);
}

#[test]
fn the_admin_api_answers_alike_on_each_replica() {
    let upstream = upstream();
    let replicas = Replicas::over(without_hints(), &usual(&upstream));
    let lists = ["GET /admin/keys", "GET /admin/tasks?tenant=one"];
    for number in 0..9 {
        let changed = replicas.at(number);
        let key = replicas.administer(number, "POST /admin/keys", r#"{"tenant":"one"}"#);
        assert_eq!(key.status(), 201, "{}", key.text());
        assert_eq!(once_reachable(|| changed.ask(submit(TENANT_KEY, None))).status(), 200);
        for list in lists {
            let [one, other] = [changed, replicas.at(number + 1)].map(|replica| {
                let mut listed = replica.administer(list, "").json();
                // A last use is known elsewhere after a minute.
                for key in listed["keys"].as_array_mut().into_iter().flatten() {
                    key["last_used_at"].take();
                }
                listed
            });
            assert_eq!(one, other, "{list}");
        }
        // A key that was made at one replica can be changed at any.
        let id = key.json()["id"].as_str().expect("an id").to_owned();
        let revoke = format!("DELETE /admin/keys/{id}");
        assert_eq!(replicas.at(number + 2).administer(&revoke, "").status(), 200);
    }
}

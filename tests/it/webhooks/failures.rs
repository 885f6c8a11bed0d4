//! Endpoints that fail: each delivery is tried again under its id, and nobody else waits.

use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{
    SECRETS, configured, endpoint, hook, listed, run_task, told_tasks, upstream, verified, wait_for_ends,
};
use crate::harness::upstream::until_closed;
use crate::harness::{Gateway, Upstream, answer, eventually};

#[test]
fn a_delivery_is_tried_under_its_id_until_it_is_taken() {
    let (upstream, tries) = (upstream(), AtomicUsize::new(0));
    let flaky = Upstream::start(move |_, stream| {
        let status = ["500 Internal Server Error", "503 Service Unavailable"];
        let status = status.get(tries.fetch_add(1, Ordering::Relaxed)).unwrap_or(&"200 OK");
        stream.write_all(&answer(status, &[], "")).is_ok()
    });
    let gateway = Gateway::configured(&configured(&upstream, &[hook(flaky.address, "")], ""));
    run_task(gateway.address, "t-1");
    eventually("it is taken", || flaky.requests().len() == 3);
    wait_for_ends(&gateway);
    let seen = flaky.requests();
    let payloads: Vec<_> = seen.iter().map(|delivery| verified(delivery, &SECRETS[..1])).collect();
    let ids: Vec<_> = seen.iter().map(|delivery| delivery.field("webhook-id")).collect();
    assert!(payloads.iter().all(|payload| *payload == payloads[0]) && ids.iter().all(|id| *id == ids[0]));
    let told = &listed(&gateway, "")[0];
    assert_eq!([&told["state"], &told["tries"]], [&serde_json::json!("delivered"), &serde_json::json!(3)]);
}

/// hyper ends a connection in the poll that brings such an answer, and the delivery counted as failed.
#[test]
fn an_answer_that_ends_its_connection_counts() {
    let (upstream, closing) = (upstream(), endpoint("204 No Content", &["Connection: close"]));
    let gateway = Gateway::configured(&configured(&upstream, &[hook(closing.address, "")], ""));
    run_task(gateway.address, "t-1");
    wait_for_ends(&gateway);
    let told = &listed(&gateway, "")[0];
    assert_eq!([&told["state"], &told["tries"]], [&serde_json::json!("delivered"), &serde_json::json!(1)]);
}

#[test]
fn a_redirect_is_not_followed() {
    let (upstream, behind) = (upstream(), endpoint("200 OK", &[]));
    let location = format!("Location: http://{}/", behind.address);
    let redirecting = endpoint("307 Temporary Redirect", &[&location]);
    let gateway = Gateway::configured(&configured(&upstream, &[hook(redirecting.address, "")], ""));
    run_task(gateway.address, "t-1");
    eventually("it is tried again", || redirecting.requests().len() >= 2);
    assert_eq!(behind.connections(), 0);
    eventually("the redirect is told", || {
        let told = &listed(&gateway, "?state=waiting")[0];
        told["status"] == 307 && told["problem"] == "it redirects, which is not followed"
    });
}

#[test]
fn an_endpoint_that_is_gone_is_not_tried_again() {
    let (upstream, gone) = (upstream(), endpoint("410 Gone", &[]));
    let gateway = Gateway::configured(&configured(&upstream, &[hook(gone.address, "")], ""));
    run_task(gateway.address, "t-1");
    eventually("it is given up", || listed(&gateway, "?state=given_up").len() == 1);
    let told = &listed(&gateway, "")[0];
    assert_eq!([&told["status"], &told["tries"]], [&serde_json::json!(410), &serde_json::json!(1)]);
    assert_eq!(gone.requests().len(), 1);
}

#[test]
fn an_endpoint_that_hangs_holds_up_nobody() {
    let (upstream, well) = (upstream(), endpoint("200 OK", &[]));
    let hanging = Upstream::bare(until_closed);
    let hooks = [hook(hanging.address, ""), hook(well.address, "")];
    let gateway = Gateway::configured(&configured(&upstream, &hooks, ""));
    let tasks: Vec<String> = (0..20).map(|number| format!("t-{number}")).collect();
    tasks.iter().for_each(|id| run_task(gateway.address, id));
    eventually("the other endpoint is told of all", || told_tasks(&well).len() == tasks.len());
    // The hanging one takes nothing, and has no more tries at once than an endpoint of which nothing is known.
    eventually("its deliveries alone wait", || {
        listed(&gateway, "?state=waiting&limit=1000").len() == tasks.len()
    });
    eventually("a try is given up", || {
        let problem = |one: &serde_json::Value| one["problem"].to_string();
        let waiting = listed(&gateway, "?state=waiting&limit=1000");
        waiting.iter().any(|one| problem(one).contains("did not answer within 15 s"))
    });
    assert_eq!(hanging.most_at_once(), 4);
}

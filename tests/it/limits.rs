//! Limits: a key and a tenant get what their limits say and no more, and a refused call costs nothing.

mod concurrency;
mod holders;
mod messages;
mod request_ends;
mod requested;
mod tasks;

use std::collections::BTreeSet;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::harness::calls::{bearer, check_refusal, generate, poll, submit, task};
use crate::harness::{
    Client, Envelope, Gateway, Message, OTHER_KEY, UPSTREAM_KEY, Upstream, answer, assert_refused,
    configuration, message,
};

/// A rate so slow that no token comes in during a test.
const SLOW: &str = "requests_per_second = 0.001";

fn gateway(upstream: &Upstream, tenant: &str) -> Gateway {
    Gateway::with(upstream.address, "", tenant)
}

/// An upstream that answers each submit with a new task, queries with the task in this status, and the rest with `{}`.
fn with_tasks(status: &'static str) -> Upstream {
    with_ended(status, Arc::new(AtomicUsize::new(usize::MAX)))
}

/// An upstream like that of [`with_tasks`], whose first `ended` tasks have this status while the others run.
fn with_ended(status: &'static str, ended: Arc<AtomicUsize>) -> Upstream {
    let made = AtomicUsize::new(0);
    Upstream::start(move |request, stream| {
        let line = request.start_line().to_owned();
        let bytes = if request.field("x-dashscope-async").is_some() {
            task(&format!("t-{}", made.fetch_add(1, Ordering::SeqCst)), "PENDING")
        } else if let Some((_, id)) = line.split_once("/tasks/") {
            let id = id.split([' ', '/']).next().expect("an id");
            let number: usize = id.trim_start_matches("t-").parse().unwrap_or(0);
            task(id, if number < ended.load(Ordering::SeqCst) { status } else { "RUNNING" })
        } else {
            answer("200 OK", &[], "{}")
        };
        stream.write_all(&bytes).is_ok()
    })
}

fn statuses(gateway: &Gateway, request: &str, count: usize) -> Vec<u16> {
    (0..count).map(|_| gateway.ask(request).status()).collect()
}

fn events() -> String {
    message(
        "POST /api/v1/services/aigc/text-generation/generation",
        &[&bearer(), "X-DashScope-SSE: enable"],
        "{}",
    )
}

#[track_caller]
fn check_limited(answer: &Message, reason: &str, limit: &str) {
    let code = if ["rate", "auth_rate"].contains(&reason) {
        "Throttling.RateQuota"
    } else {
        "Throttling.Concurrency"
    };
    let message = assert_refused(answer, 429, reason, code, Envelope::Flat);
    assert!(message.contains(limit), "{message}");
    let wait: u64 = answer.field("retry-after").expect("retry-after").parse().expect("seconds");
    assert!(wait >= 1, "{wait}");
}

#[test]
fn a_key_gets_its_burst_and_then_what_comes_in() {
    let upstream = Upstream::answering(answer("200 OK", &[], "{}"));
    let gateway = gateway(&upstream, &format!("limits = {{ {SLOW}, burst = 3 }}"));
    for remaining in ["2", "1", "0"] {
        let got = gateway.ask(generate("{}"));
        assert_eq!(got.status(), 200);
        assert_eq!(got.field("ratelimit-limit").as_deref(), Some("3"));
        assert_eq!(got.field("ratelimit-remaining").as_deref(), Some(remaining));
        let reset: u64 = got.field("ratelimit-reset").expect("a reset").parse().expect("seconds");
        let used = 3 - remaining.parse::<u64>().expect("a number");
        assert!((used * 1000 - 60..=used * 1000).contains(&reset), "{reset} after {used}");
    }
    let refused = gateway.ask(generate("{}"));
    check_limited(&refused, "rate", "limits.requests_per_second = 0.001, with burst = 3");
    let wait: u64 = refused.field("retry-after").expect("retry-after").parse().expect("seconds");
    assert!((940..=1000).contains(&wait), "{wait}");
    assert_eq!(refused.field("ratelimit-remaining").as_deref(), Some("0"));
    let message = refused.json()["message"].as_str().expect("text").to_owned();
    assert!(message.starts_with("Requests rate limit exceeded, please try again later."), "{message}");
    assert_eq!(upstream.requests().len(), 3);
    // Polls count too, and another tenant has limits of its own: none.
    check_limited(&gateway.ask(poll("x")), "rate", "limits.requests_per_second");
    let other = generate("{}").replace(crate::harness::TENANT_KEY, OTHER_KEY);
    let got = gateway.ask(other);
    assert_eq!((got.status(), got.field("ratelimit-limit")), (200, None));
}

#[test]
fn a_compatible_path_is_refused_in_its_own_shape() {
    let upstream = Upstream::answering(answer("200 OK", &[], "{}"));
    let gateway = gateway(&upstream, &format!("limits = {{ {SLOW}, burst = 1 }}"));
    let chat = message("POST /compatible-mode/v1/chat/completions", &[&bearer()], "{}");
    assert_eq!(gateway.ask(&chat).status(), 200);
    let refused = gateway.ask(&chat);
    assert_refused(&refused, 429, "rate", "limit_requests", Envelope::OpenAi);
    assert_eq!(refused.json()["error"]["type"], "rate_limit_error");
    assert!(refused.field("retry-after").is_some());
}

#[test]
fn each_kind_of_call_can_be_limited_apart() {
    let upstream = with_tasks("RUNNING");
    let limits = format!(
        "limits = {{ {SLOW}, burst = 1, polls = {{ {SLOW}, burst = 3 }}, submits = {{ {SLOW}, burst = 2 }}, \
         streams = {{ {SLOW}, burst = 4 }} }}"
    );
    let gateway = gateway(&upstream, &limits);
    for (request, burst, limit) in [
        (submit(), 2, "limits.submits.requests_per_second"),
        (poll("t-0"), 3, "limits.polls.requests_per_second"),
        (events(), 4, "limits.streams.requests_per_second"),
        (generate("{}"), 1, "limits.requests_per_second"),
    ] {
        assert_eq!(statuses(&gateway, &request, burst), vec![200; burst], "{limit}");
        check_limited(&gateway.ask(&request), "rate", limit);
    }
    // The upstream saw one of three polls of a running task.
    assert_eq!(upstream.requests().len(), 8);
}

#[test]
fn what_a_kind_does_not_say_stays_in_the_common_rule() {
    let upstream = with_tasks("RUNNING");
    let gateway = gateway(
        &upstream,
        &format!("limits = {{ {SLOW}, burst = 2, polls = {{ concurrent_requests = 1 }} }}"),
    );
    assert_eq!(gateway.ask(generate("{}")).status(), 200);
    assert_eq!(gateway.ask(poll("x")).status(), 200);
    check_limited(&gateway.ask(poll("x")), "rate", "limits.requests_per_second");
}

fn two_keys(upstream: &Upstream, limits: &str) -> Gateway {
    let text = configuration(
        "listen = \"127.0.0.1:0\"\nworkers = 1",
        &[("main", upstream.address, &[UPSTREAM_KEY], "")],
        limits,
    );
    let second = format!(
        "\", key = \"{}\" }}, {{ id = \"one-more\", key = \"{SECOND_KEY}\" }}]",
        crate::harness::TENANT_KEY
    );
    let first = format!("\", key = \"{}\" }}]", crate::harness::TENANT_KEY);
    Gateway::configured(&text.replace(&first, &second))
}

const SECOND_KEY: &str = "sk-tenant-one-more-61e2c7a90b";

fn by_second(request: &str) -> String {
    request.replace(crate::harness::TENANT_KEY, SECOND_KEY)
}

#[test]
fn the_limits_of_a_tenant_hold_for_all_its_keys_together_or_take_nothing() {
    let upstream = Upstream::answering(answer("200 OK", &[], "{}"));
    let limits = format!("limits = {{ {SLOW}, burst = 3 }}\ntenant_limits = {{ {SLOW}, burst = 4 }}");
    let gateway = two_keys(&upstream, &limits);
    let (first, second) = (generate("{}"), by_second(&generate("{}")));
    assert_eq!(statuses(&gateway, &first, 3), [200; 3]);
    check_limited(&gateway.ask(&first), "rate", "limits.requests_per_second = 0.001, with burst = 3");
    // The refused call took nothing of the tenant's limit: one call is left.
    let last = gateway.ask(&second);
    assert_eq!((last.status(), last.field("ratelimit-remaining").as_deref()), (200, Some("0")));
    // A refusal by the tenant's limit takes nothing of the key's limit, however often.
    for _ in 0..5 {
        let refused = gateway.ask(&second);
        check_limited(&refused, "rate", "tenant_limits.requests_per_second = 0.001, with burst = 4");
    }
    assert_eq!(upstream.requests().len(), 4);
}

#[test]
fn a_key_that_the_tenants_limit_refused_has_all_of_its_own() {
    let upstream = Upstream::answering(answer("200 OK", &[], "{}"));
    let limits =
        format!("limits = {{ {SLOW}, burst = 3 }}\ntenant_limits = {{ polls = {{ {SLOW}, burst = 1 }} }}");
    let gateway = two_keys(&upstream, &limits);
    assert_eq!(gateway.ask(poll("x")).status(), 200);
    for _ in 0..9 {
        check_limited(&gateway.ask(poll("x")), "rate", "tenant_limits.polls.requests_per_second");
    }
    assert_eq!(statuses(&gateway, &generate("{}"), 3), [200, 200, 429]);
}

#[test]
fn failures_to_authenticate_are_limited_by_address_and_good_keys_are_not() {
    let upstream = Upstream::answering(answer("200 OK", &[], "{}"));
    let gateway = Gateway::with(upstream.address, "auth_failures_per_second = 1", "");
    let guess = generate("{}").replace(crate::harness::TENANT_KEY, "sk-a-guess-0123456789");
    let mut seen = BTreeSet::new();
    for _ in 0..200 {
        let got = gateway.ask(&guess);
        if got.status() == 429 {
            check_limited(&got, "auth_rate", "no valid API-key");
        } else {
            check_refusal(&got, 401, "unknown_key");
        }
        seen.insert(got.status());
        assert_eq!(gateway.ask(generate("{}")).status(), 200);
    }
    assert_eq!(seen, BTreeSet::from([401, 429]));
    assert_eq!(upstream.requests().len(), 200);
}

#[test]
fn without_a_limit_on_failures_all_are_told_as_they_are() {
    let upstream = Upstream::answering(answer("200 OK", &[], "{}"));
    let gateway = Gateway::with(upstream.address, "auth_failures_per_second = 0", "");
    let guess = generate("{}").replace(crate::harness::TENANT_KEY, "sk-a-guess-0123456789");
    let mut client = Client::connect(gateway.address);
    for _ in 0..200 {
        check_refusal(&client.ask(&guess), 401, "unknown_key");
    }
}

#[test]
fn a_reload_leaves_what_was_used_where_the_rule_is_the_same() {
    let upstream = with_tasks("RUNNING");
    let text = |limits: &str| {
        let accounts = [("main", upstream.address, &[UPSTREAM_KEY][..], "")];
        configuration("listen = \"127.0.0.1:0\"\nworkers = 2", &accounts, limits)
    };
    let rules = format!(
        "limits = {{ {SLOW}, burst = 3, tasks_in_flight = 1, polls = {{ {SLOW}, burst = 1 }} }}\n\
         tenant_limits = {{ {SLOW}, burst = 20 }}"
    );
    let gateway = Gateway::from_file(&text(&rules));
    assert_eq!(gateway.ask(submit()).status(), 200);
    assert_eq!(statuses(&gateway, &generate("{}"), 3), [200, 200, 429]);
    assert_eq!(gateway.ask(poll("t-0")).status(), 200);
    // The common rule changes, and a list of models is added; all other rules stay.
    let changed = rules.replace("burst = 3", "burst = 2") + "\nmodels = [\"wan*\"]";
    assert_eq!(gateway.reload(&text(&changed)).status(), 200);
    check_limited(&gateway.ask(poll("t-0")), "rate", "limits.polls.requests_per_second");
    check_limited(&gateway.ask(submit()), "tasks_in_flight", "limits.tasks_in_flight = 1");
    let (allowed, other) = (generate(r#"{"model":"wan2.7-t2v"}"#), generate(r#"{"model":"qwen-max"}"#));
    assert_eq!(statuses(&gateway, &allowed, 3), [200, 200, 429], "it starts afresh");
    check_limited(&gateway.ask(&other), "rate", "limits.requests_per_second = 0.001, with burst = 2");
    // Without limits all calls pass, and no answer has ratelimit fields.
    assert_eq!(gateway.reload(&text("")).status(), 200);
    let got = gateway.ask(&other);
    assert_eq!((got.status(), got.field("ratelimit-limit")), (200, None));
    // When the limits return at once, their counts are those of the first reload.
    assert_eq!(gateway.reload(&text(&changed)).status(), 200);
    assert_eq!(gateway.ask(&allowed).status(), 429);
    check_limited(&gateway.ask(poll("t-0")), "rate", "limits.polls.requests_per_second");
}

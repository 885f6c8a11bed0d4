//! Budgets: what would cost more than is left is refused before anything is sent, and nothing stays held.

use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;

use serde_json::{Value, json};

use super::{SUBMIT, price, priced};
use crate::harness::{Gateway, Message, TENANT_KEY, Upstream, answer, eventually, logs, message};
use crate::metrics::Page;

pub(super) const CHAT: &str = "POST /wan/compatible-mode/v1/chat/completions";

pub(crate) fn configuration(upstream: &Upstream, tenant: &str) -> String {
    let prices = price("wan2.7-*", "video_second", "1", "") + &qwen_prices();
    priced(upstream.address, "/wan", &prices, tenant)
}

/// A call costs one for its most output tokens, and nothing for its input.
pub(super) fn qwen_prices() -> String {
    price("qwen*", "input_token", "0", "") + &price("qwen*", "output_token", "1", "per = 32768")
}

/// An upstream that makes a task of each submit, but for those that ask it to refuse or to leave; tasks whose id begins
/// with `failed` fail. It counts the submits that it has made a task of.
pub(crate) fn upstream() -> (Upstream, Arc<AtomicUsize>) {
    let made = Arc::<AtomicUsize>::default();
    let counted = Arc::clone(&made);
    let upstream = Upstream::start(move |request, stream| {
        let line = request.start_line().to_owned();
        let (status, body) = if let Some(id) = line.strip_prefix("GET /api/v1/tasks/") {
            let id = id.split(' ').next().expect("an id");
            let (status, usage) = match id.starts_with("failed") {
                true => ("FAILED", Value::Null),
                false => ("SUCCEEDED", json!({"duration": 5, "SR": 720, "video_count": 1})),
            };
            ("200 OK", json!({"output": {"task_id": id, "task_status": status}, "usage": usage}))
        } else if line.contains("chat/completions") {
            ("200 OK", json!({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 16_384}}))
        } else {
            let asked = request.json();
            match asked["id"].as_str().unwrap_or_default() {
                "refuse" => ("400 Bad Request", json!({"code": "InvalidParameter", "message": "m"})),
                "leave" => return false,
                id => {
                    counted.fetch_add(1, Ordering::Relaxed);
                    (
                        "200 OK",
                        json!({"output": {"task_id": id, "task_status": "PENDING"}, "request_id": "r"}),
                    )
                }
            }
        };
        stream.write_all(&answer(status, &[], &body.to_string())).is_ok()
    });
    (upstream, made)
}

pub(super) fn key() -> String {
    format!("Authorization: Bearer {TENANT_KEY}")
}

pub(crate) fn submit(id: &str) -> String {
    let body = json!({"model": "wan2.7-t2v", "id": id, "parameters": {"duration": 5}}).to_string();
    message(SUBMIT, &[&key(), "X-DashScope-Async: enable"], &body)
}

pub(super) fn poll(gateway: &Gateway, id: &str) -> Message {
    gateway.ask(message(&format!("GET /wan/v1/tasks/{id}"), &[&key()], ""))
}

pub(super) fn assert_refused(answer: &Message, reason: &str) {
    assert_eq!(answer.field("x-dashgate-reason").as_deref(), Some(reason), "{}", answer.text());
}

/// Spent and held of the tenant, from the store.
pub(super) fn standing(gateway: Gateway) -> [String; 2] {
    let directory = gateway.stop();
    let store = directory.open();
    let standing = store.standing("one");
    [standing.spent[3].short(), standing.held.short()]
}

#[test]
fn sixteen_clients_at_the_end_of_a_budget_never_overspend() {
    let (upstream, made) = upstream();
    let budget = "budgets = [{ amount = \"20\", period = \"month\" }]";
    let gateway = Arc::new(Gateway::from_file(&configuration(&upstream, budget)));
    let start = Arc::new(Barrier::new(16));
    let clients = (0..16).map(|number| {
        let (gateway, start) = (Arc::clone(&gateway), Arc::clone(&start));
        thread::spawn(move || {
            start.wait();
            gateway.ask(submit(&format!("task-{number}"))).status()
        })
    });
    let clients: Vec<_> = clients.collect();
    let mut statuses: Vec<u16> =
        clients.into_iter().map(|client| client.join().expect("an answer")).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [[200; 4].as_slice(), &[429; 12]].concat());
    assert_eq!(made.load(Ordering::Relaxed), 4);
    let refused = gateway.ask(submit("one-more"));
    assert_refused(&refused, "budget");
    assert_eq!(refused.json()["code"], "Throttling.AllocationQuota");
    let text = refused.text();
    assert!(text.contains("budget of 20 CNY a month") && text.contains("20 CNY are held"), "{text}");
    assert!(text.contains("begins anew at 20"), "{text}");
    assert_eq!(refused.field("x-should-retry").as_deref(), Some("false"));
    let wait: u64 = refused.field("retry-after").and_then(|wait| wait.parse().ok()).expect("a time");
    assert!((1..=3600).contains(&wait), "{wait}");
}

#[test]
fn a_task_that_fails_gives_its_money_back_and_a_refused_submit_holds_none() {
    let (upstream, _) = upstream();
    let budget = "budgets = [{ amount = \"10\", period = \"total\" }]";
    let gateway = Gateway::from_file(&configuration(&upstream, budget));
    for _ in 0..3 {
        assert_eq!(gateway.ask(submit("refuse")).status(), 400);
    }
    for id in ["failed-1", "good-1"] {
        assert_eq!(gateway.ask(submit(id)).status(), 200, "{id}");
    }
    assert_refused(&gateway.ask(submit("good-2")), "budget");
    assert_eq!(poll(&gateway, "failed-1").json()["output"]["task_status"], "FAILED");
    assert_eq!(gateway.ask(submit("good-2")).status(), 200);
    for id in ["good-1", "good-2"] {
        assert_eq!(poll(&gateway, id).field("x-dashgate-cost").as_deref(), Some("5.000000000 CNY"));
    }
    let refused = gateway.ask(submit("good-3"));
    assert_refused(&refused, "budget");
    let text = refused.text();
    assert!(text.contains("total budget of 10 CNY") && text.contains("never begins anew: ask the"), "{text}");
    assert_eq!(standing(gateway), ["10", "0"]);
}

#[test]
fn a_lost_answer_keeps_its_money_held_over_a_restart() {
    let (upstream, _) = upstream();
    let budget = "budgets = [{ amount = \"10\", period = \"total\" }]";
    let text = configuration(&upstream, budget);
    let gateway = Gateway::from_file(&text);
    assert_eq!(gateway.ask(submit("leave")).status(), 502);
    assert_eq!(gateway.ask(submit("good-1")).status(), 200);
    assert_refused(&gateway.ask(submit("good-2")), "budget");
    let gateway = Gateway::from_file_in(gateway.stop(), &text);
    assert_refused(&gateway.ask(submit("good-2")), "budget");
    assert_eq!(poll(&gateway, "good-1").status(), 200);
    assert_refused(&gateway.ask(submit("good-2")), "budget");
    assert_eq!(standing(gateway), ["5", "5"]);
}

#[test]
fn what_has_no_price_is_refused_where_money_is_limited() {
    let (upstream, made) = upstream();
    let tenant = "budgets = [{ amount = \"10\", period = \"day\" }]";
    let gateway = Gateway::from_file(&configuration(&upstream, tenant));
    let other = |id: &str| {
        let body = json!({"model": "wan2.2-t2v-plus", "id": id}).to_string();
        message(SUBMIT, &[&key(), "X-DashScope-Async: enable"], &body)
    };
    let refused = gateway.ask(other("x"));
    assert_refused(&refused, "unpriced");
    assert_eq!(refused.status(), 403);
    let text = refused.text();
    assert!(text.contains("wan2.2-t2v-plus") && text.contains("video_second"), "{text}");
    assert_eq!(made.load(Ordering::Relaxed), 0);
    gateway.reload(&configuration(&upstream, &format!("{tenant}\nunpriced = \"allow\"")));
    assert_eq!(gateway.ask(other("x")).status(), 200);
}

#[test]
fn calls_hold_their_greatest_cost_while_they_run_and_then_what_they_cost() {
    let (upstream, _) = upstream();
    let tenant = "budgets = [{ amount = \"2\", period = \"week\" }]";
    let gateway = Gateway::from_file(&configuration(&upstream, tenant));
    let chat = || gateway.ask(message(CHAT, &[&key()], r#"{"model":"qwen3-max","messages":[]}"#));
    // Each costs a half, and one at most.
    for number in 1..=3 {
        assert_eq!(chat().status(), 200);
        eventually("the call is entered", || {
            gateway.administer("GET /admin/usage?by=tenant", "").json()["total"]["entries"] == number
        });
    }
    let refused = chat();
    assert_refused(&refused, "budget");
    assert_eq!(refused.json()["error"]["code"], "insufficient_quota");
    assert_eq!(standing(gateway), ["1.5", "0"]);
}

#[test]
fn a_submit_that_is_sent_again_needs_no_money() {
    let (upstream, made) = upstream();
    let tenant = "budgets = [{ amount = \"5\", period = \"month\" }]";
    let gateway = Gateway::from_file(&configuration(&upstream, tenant));
    let body = json!({"model": "wan2.7-t2v", "id": "good-1", "parameters": {"duration": 5}}).to_string();
    let fields = [&*key(), "X-DashScope-Async: enable", "Idempotency-Key: a"];
    let submit = || gateway.ask(message(SUBMIT, &fields, &body));
    let first = submit();
    let again = submit();
    assert_eq!([first.status(), again.status()], [200, 200]);
    assert_eq!(first.json()["output"], again.json()["output"]);
    assert_eq!(again.field("idempotency-replayed").as_deref(), Some("true"));
    assert_eq!(made.load(Ordering::Relaxed), 1);
    let other =
        gateway.ask(message(SUBMIT, &[&*key(), "X-DashScope-Async: enable", "Idempotency-Key: b"], &body));
    assert_refused(&other, "budget");
    assert_eq!(poll(&gateway, "good-1").status(), 200);
    assert_eq!(standing(gateway), ["5", "0"]);
}

#[test]
fn a_prepaid_tenant_spends_what_was_paid_in() {
    let (upstream, _) = upstream();
    let gateway = Gateway::from_file(&configuration(&upstream, "prepaid = true"));
    let refused = gateway.ask(submit("good-1"));
    assert_refused(&refused, "budget");
    let text = refused.text();
    assert!(
        text.contains("prepaid credit of 0 CNY") && text.contains("never begins anew: top it up"),
        "{text}"
    );
    assert_eq!(refused.field("retry-after").as_deref(), Some("3600"));
    let balance = || {
        let page = Page::of(&gateway);
        page.series("dashgate_prepaid_balance").map(|(_, left)| left).next()
    };
    assert_eq!(balance(), None, "a tenant that has not begun is not told of");
    let credit = r#"{"id": "invoice-1", "amount": "7.00", "note": "paid"}"#;
    for status in [201, 200] {
        let credited = gateway.administer("POST /admin/tenants/one/credits", credit);
        assert_eq!(credited.status(), status, "{}", credited.text());
    }
    assert_eq!(gateway.ask(submit("good-1")).status(), 200);
    assert_refused(&gateway.ask(submit("good-2")), "budget");
    assert_eq!(balance(), Some(2.0), "what is held is not left");
    let back = r#"{"id": "invoice-1-back", "amount": "-2.25", "note": "paid back"}"#;
    assert_eq!(gateway.administer("POST /admin/tenants/one/credits", back).status(), 201);
    assert_eq!(balance(), Some(-0.25));
    eventually("a balance that is used up is in the log", || {
        let logged = logs::captured();
        let mut lines = logged.lines().filter(|line| line.contains("a tenant's prepaid balance is used up"));
        lines.any(|line| line.contains("credits=4.750000000 spent=0.000000000 held=5.000000000"))
    });
    assert_eq!(standing(gateway), ["0", "5"]);
}

//! Tenants' own views: what is told is the tenant's own, whatever is asked.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use dashgate::dashscope::usage::{Unit, Units};
use dashgate::store::{Change, Entry, EntryFlags, EntrySource, Hold, MoneyLimits, Remark, Store};
use dashgate::usage::{Amount, Charge, Period, Zone};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{Gateway, Message, OTHER_KEY, TENANT_KEY, Upstream, answer, message};

fn configuration(upstream: &str, one: &str) -> String {
    format!(
        r#"
[server]
listen = "127.0.0.1:0"
workers = 1
[admin]
listen = "127.0.0.1:0"
token = "admin-4c1d7be09f2a5836"
[usage]
currency = "USD"
[[prices]]
list = "default"
models = ["wan*"]
unit = "video_second"
price = "1"
[[accounts]]
name = "main"
base_url = "http://{upstream}"
keys = ["sk-upstream"]
[[mounts]]
prefix = "/wan"
[[mounts]]
prefix = "/u"
dialect = "unified"
[[mounts]]
prefix = "/openai/v1"
dialect = "unified"
[[tenants]]
name = "one"
prices = "default"
keys = [{{ id = "one-key", key = "{TENANT_KEY}", expires = "2099-01-01T00:00:00Z" }}]
{one}
[[tenants]]
name = "two"
allow = ["realtime"]
keys = [{{ id = "two-key", key = "{OTHER_KEY}" }}]
"#
    )
}

fn amount(text: &str) -> Amount {
    Amount::from_text(text).expect("an amount")
}

fn entry(source: EntrySource, at: SystemTime, tenant: &str, model: &str, cost: &str) -> Arc<Entry> {
    Arc::new(Entry {
        source,
        at,
        tenant: tenant.into(),
        key_id: format!("{tenant}-key").into(),
        account: "secret-account".into(),
        model: model.into(),
        mount: "/wan".into(),
        operation: "submit".into(),
        submitted_at: at,
        status: "".into(),
        units: Units::from_iter([(Unit::VideoSecond, 1_500)]),
        class: "720P".into(),
        usage: "{}".into(),
        flags: EntryFlags::default(),
        charge: Charge { amount: Some(amount(cost)), ..Charge::default() },
        remark: Remark::default(),
    })
}

fn call(id: &str, at: &str, tenant: &str, model: &str, cost: &str) -> Change {
    let at = humantime::parse_rfc3339(at).expect("a time");
    Change::Enter(entry(EntrySource::Call(id.into()), at, tenant, model, cost))
}

/// A gateway over a store in which these changes were made, and its upstream, which must not be asked.
fn gateway(changes: Vec<Change>, one: &str) -> (Upstream, Gateway) {
    let upstream = Upstream::answering(answer("200 OK", &[], "{}"));
    let directory = TempDir::new().expect("a directory");
    let store = Store::open(&directory.path().join("dashgate.db")).expect("a store");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    for change in changes {
        runtime.block_on(store.commit(change)).expect("made");
    }
    store.close();
    let gateway = Gateway::over(directory, &configuration(&upstream.address.to_string(), one));
    (upstream, gateway)
}

fn get(gateway: &Gateway, target: &str, key: &str) -> Message {
    gateway.ask(message(&format!("GET {target}"), &[&format!("Authorization: Bearer {key}")], ""))
}

#[test]
fn a_balance_is_what_the_ledger_adds_up_to() {
    let now = SystemTime::now();
    let credit =
        |id: &str, tenant, sum| Change::Enter(entry(EntrySource::Credit(id.into()), now, tenant, "", sum));
    let hold = Hold {
        id: "h".into(),
        tenant: "one".into(),
        key_id: "one-key".into(),
        account: "main".into(),
        model: "wan".into(),
        mount: "/wan".into(),
        made_at: now,
        amount: amount("0.25"),
        limits: MoneyLimits::default(),
        held_for_calls: Amount::ZERO,
    };
    let before = now - Duration::from_secs(400 * 86_400);
    let changes = vec![
        Change::Enter(entry(EntrySource::Call("old".into()), before, "one", "wan", "7")),
        Change::Enter(entry(EntrySource::Call("new".into()), now, "one", "wan", "2.5")),
        Change::Enter(entry(EntrySource::Call("other".into()), now, "two", "wan", "99")),
        credit("c1", "one", "20"),
        credit("c2", "two", "1000"),
        Change::Reserve(Arc::new(hold)),
    ];
    let budgets = r#"prepaid = true
budgets = [{ amount = "5.00", period = "month" }, { amount = "9", period = "total" }]"#;
    let (upstream, gateway) = gateway(changes, budgets);
    let got = get(&gateway, "/wan/dashgate/v1/balance", TENANT_KEY);
    assert_eq!((got.status(), got.field("cache-control").as_deref()), (200, Some("no-store")));
    let zone = Zone::CHINA;
    let renews_at = zone.moment(zone.begins(Period::Month.days(zone.day(SystemTime::now())).end));
    assert_eq!(
        got.json(),
        json!({
            "currency": "USD", "credits": "20.000000000", "spent": "9.500000000", "held": "0.250000000",
            "balance": "10.250000000",
            "budgets": [
                {"period": "month", "amount": "5.000000000", "spent": "2.500000000", "held": "0.250000000",
                 "left": "2.250000000", "renews_at": renews_at},
                {"period": "total", "amount": "9.000000000", "spent": "9.500000000", "held": "0.250000000",
                 "left": "-0.750000000", "renews_at": null},
            ],
        })
    );
    // No group of `allow` is needed, and a tenant without limits of its money has no balance.
    let other = get(&gateway, "/wan/dashgate/v1/balance/?tenant=one", OTHER_KEY).json();
    assert_eq!([&other["spent"], &other["credits"]], ["99.000000000", "1000.000000000"]);
    assert_eq!((&other["balance"], &other["budgets"]), (&Value::Null, &json!([])));
    assert!(upstream.requests().is_empty(), "nothing is sent on");
}

#[test]
fn a_key_is_told_what_it_may_and_what_is_used_of_its_limits() {
    let limits = r#"models = ["wan2.7-*"]
limits = { requests_per_second = 5, burst = 9, polls = { requests_per_second = 0.001, burst = 3, concurrent_requests = 4 } }
tenant_limits = { tasks_in_flight = 6, max_resolution = "720P" }"#;
    let (_upstream, gateway) = gateway(Vec::new(), limits);
    let got = get(&gateway, "/wan/dashgate/v1/key", TENANT_KEY).json();
    assert_eq!(
        got,
        json!({
            "id": "one-key", "tenant": "one", "expires_at": "2099-01-01T08:00:00+08:00",
            "allow": ["generate", "tasks", "uploads", "compatible", "realtime"],
            "models": ["wan2.7-*"],
            "limits": {
                "requests_per_second": 5.0, "burst": 9, "remaining": 9, "tasks": 0,
                "polls": {"requests_per_second": 0.001, "burst": 3, "remaining": 2,
                          "concurrent_requests": 4, "running": 1},
            },
            "tenant_limits": {"tasks_in_flight": 6, "max_resolution": "720P", "tasks": 0},
        })
    );
    let other = get(&gateway, "/wan/dashgate/v1/key", OTHER_KEY).json();
    assert_eq!(
        (&other["allow"], &other["models"], &other["expires_at"]),
        (&json!(["realtime"]), &Value::Null, &Value::Null)
    );
    // A view counts as a poll.
    assert_eq!(get(&gateway, "/wan/dashgate/v1/key", TENANT_KEY).json()["limits"]["polls"]["remaining"], 1);
    get(&gateway, "/wan/dashgate/v1/balance", TENANT_KEY);
    let refused = get(&gateway, "/wan/dashgate/v1/balance", TENANT_KEY);
    assert_eq!((refused.status(), refused.field("x-dashgate-reason").as_deref()), (429, Some("rate")));
}

#[test]
fn a_view_needs_a_key_and_its_method() {
    let (upstream, gateway) = gateway(Vec::new(), "");
    let key = format!("Authorization: Bearer {TENANT_KEY}");
    for (line, keys, status, reason) in [
        ("GET /wan/dashgate/v1/balance", &[][..], 401, "no_key"),
        (
            "GET /wan/dashgate/v1/usage",
            &["Authorization: Bearer sk-nobody-3b9d6c70e1f84a52"],
            401,
            "unknown_key",
        ),
        ("POST /wan/dashgate/v1/key", &[&key], 403, "not_allowed"),
        ("GET /wan/dashgate/v1/tenants", &[&key], 403, "not_allowed"),
        ("GET /u/dashgate/v1/key", &[&key], 403, "not_allowed"),
    ] {
        let got = gateway.ask(message(line, keys, ""));
        assert_eq!(
            (got.status(), got.field("x-dashgate-reason").as_deref()),
            (status, Some(reason)),
            "{line}"
        );
    }
    assert!(upstream.requests().is_empty(), "nothing is sent on");
}

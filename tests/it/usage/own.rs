//! Tenants' own views: what is told is the tenant's own, whatever is asked.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use dashgate::dashscope::usage::{Unit, Units};
use dashgate::store::{Change, Entry, EntryFlags, EntrySource, Hold, MoneyLimits, Remark, TaskLimits};
use dashgate::usage::{Amount, Charge, Period, Zone};
use rusqlite::Connection;
use serde_json::{Value, json};

use super::{price, priced, second};
use crate::harness::{
    Client, Envelope, Gateway, Message, OTHER_KEY, StateDirectory, TENANT_KEY, Upstream, answer,
    assert_refused, eventually, logs, message, needs_the_file,
};
use crate::metrics::Page;

fn configuration(upstream: &Upstream, one: &str) -> String {
    let prices = "[usage]\ncurrency = \"USD\"\n".to_owned() + &price("wan*", "video_second", "1", "");
    let mounts = ["/u", "/openai/v1"]
        .map(|prefix| format!("[[mounts]]\nprefix = \"{prefix}\"\ndialect = \"unified\"\n"));
    let text =
        priced(upstream.address, "/wan", &prices, one) + &mounts.concat() + &second("allow = [\"realtime\"]");
    // One worker takes connections in their order.
    text.replacen("[server]\n", "[server]\nworkers = 1\n", 1)
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
    let directory = StateDirectory::new();
    let store = directory.open();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    for change in changes {
        runtime.block_on(store.commit(change)).expect("made");
    }
    store.close();
    let gateway = Gateway::over(directory, &configuration(&upstream, one));
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
        tasks: TaskLimits::default(),
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
    let page = Page::of(&gateway);
    let used = |period: &str| {
        page.value(&format!("dashgate_budget_used_ratio{{tenant=\"one\",period=\"{period}\"}}"))
    };
    assert_eq!((used("month"), used("total") > 1.0), (0.55, true));
    eventually("a budget that is used up is in the log", || {
        let logged = logs::captured();
        let mut lines = logged.lines().filter(|line| line.contains("a tenant's budget is used up"));
        lines.any(|line| line.contains("period=\"total\" amount=9.000000000 spent=9.500000000"))
    });
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
            "id": "one-key", "tenant": "one", "expires_at": "2099-01-01T08:00:00+08:00", "last_used_at": null,
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

/// Entries of two tenants around the beginning of December in the zone.
fn december() -> Vec<Change> {
    vec![
        call("r1", "2026-11-30T15:59:59.999Z", "one", "wan", "1"),
        call("r2", "2026-11-30T16:00:00Z", "one", "wan", "2.000000001"),
        call("r3", "2026-11-30T16:00:00Z", "two", "foreign-model", "50"),
        call("r4", "2026-12-02T00:00:00Z", "one", "=1+1", "4"),
        call("r5", "2026-12-31T16:00:00Z", "two", "wan", "60"),
    ]
}

#[test]
fn a_report_shows_the_tenants_own_use_and_nothing_of_others() {
    let (upstream, gateway) = gateway(december(), "");
    let report = |query: &str, key| get(&gateway, &format!("/wan/dashgate/v1/usage?{query}"), key);
    let got = report("from=2026-12-01&to=2027-02-01", TENANT_KEY).json();
    assert_eq!(
        (&got["from"], &got["zone"], &got["currency"], &got["by"]),
        (&json!("2026-12-01T00:00:00+08:00"), &json!("+08:00"), &json!("USD"), &json!(["model"]))
    );
    let rows: Vec<_> =
        got["rows"].as_array().expect("rows").iter().map(|row| [&row["model"], &row["amount"]]).collect();
    assert_eq!(rows, [["=1+1", "4.000000000"], ["wan", "2.000000001"]]);
    assert_eq!((&got["total"]["entries"], &got["total"]["amount"]), (&json!(2), &json!("6.000000001")));
    let months = report("from=2026-11-01&to=2027-02-01&by=month", TENANT_KEY).json();
    let months: Vec<_> =
        months["rows"].as_array().expect("rows").iter().map(|row| [&row["month"], &row["amount"]]).collect();
    assert_eq!(months, [["2026-11", "1.000000000"], ["2026-12", "6.000000001"]]);
    let csv = report("from=2026-12-01&to=2027-01-01&by=key,model&format=csv", TENANT_KEY);
    assert_eq!(csv.field("content-type").as_deref(), Some("text/csv; charset=utf-8"));
    assert_eq!(
        csv.text(),
        "key,model,amount,credits,entries,unpriced,estimated,cut,unread,video_second\r\n\
         one-key,\"'=1+1\",4.000000000,0.000000000,1,0,0,0,0,1.500\r\n\
         one-key,wan,2.000000001,0.000000000,1,0,0,0,0,1.500\r\n"
    );
    for query in
        ["by=", "by=key,model,class,day,month", "key=two-key", "model=foreign-model", "format=csv&by=key"]
    {
        let all = report(&format!("from=2026-11-01&to=2027-02-01&{query}"), TENANT_KEY);
        assert_eq!(all.status(), 200, "{query}");
        // A report names the filter in no place, so that another's name could be in it only as a row.
        for foreign in ["two", "foreign", "secret-account", "50.", "60."] {
            assert!(!all.text().contains(foreign), "{query}: {foreign} in {}", all.text());
        }
    }
    for query in
        ["tenant=two", "tenant=one", "by=tenant", "by=account", "by=model,account", "from=x", "account=main"]
    {
        let refused = report(query, TENANT_KEY);
        assert_refused(&refused, 400, "bad_request", "InvalidParameter", Envelope::Flat);
    }
    let other = report("from=2026-11-01&to=2027-02-01", OTHER_KEY).json();
    assert_eq!(other["total"]["amount"], "110.000000000");
    assert!(upstream.requests().is_empty(), "nothing is sent on");
}

#[test]
fn openais_old_dashboard_has_the_smallest_limit_and_what_was_spent() {
    let budgets =
        r#"budgets = [{ amount = "500.5", period = "total" }, { amount = "20.25", period = "month" }]"#;
    let (upstream, gateway) = gateway(december(), budgets);
    for mount in ["/u/v1", "/u", "/openai/v1"] {
        let billing = |call: &str, key| get(&gateway, &format!("{mount}/dashboard/billing/{call}"), key);
        assert_eq!(
            billing("subscription", TENANT_KEY).json(),
            json!({
                "object": "billing_subscription", "has_payment_method": true, "soft_limit_usd": 20.25,
                "hard_limit_usd": 20.25, "system_hard_limit_usd": 20.25, "access_until": 4_070_908_800_u64,
            })
        );
        let none = billing("subscription", OTHER_KEY).json();
        assert_eq!((&none["hard_limit_usd"], &none["access_until"]), (&json!(100_000_000.0), &json!(0)));
        let spent = |dates: &str, key| billing(&format!("usage?{dates}"), key).json();
        assert_eq!(
            spent("start_date=2026-11-01&end_date=2026-12-01", TENANT_KEY),
            json!({"object": "list", "total_usage": 100.0})
        );
        assert_eq!(
            spent("start_date=2026-12-01&end_date=2027-02-01&x=y", TENANT_KEY)["total_usage"],
            600.000_000_1
        );
        assert_eq!(spent("start_date=2026-12-01&end_date=2027-01-01", OTHER_KEY)["total_usage"], 5000.0);
        let refused = billing("usage?start_date=yesterday", TENANT_KEY);
        let fault = &refused.json()["error"];
        assert_eq!(
            (refused.status(), &fault["param"], &fault["code"]),
            (400, &json!("start_date"), &json!("invalid_parameter"))
        );
    }
    assert!(upstream.requests().is_empty(), "nothing is sent on");
}

/// A report that takes a while: an entry stands in the ledger very often.
#[test]
fn a_tenant_has_one_report_at_a_time() {
    if needs_the_file() {
        return;
    }
    let (_upstream, gateway) = gateway(december(), "");
    let file = Connection::open(gateway.directory.path().join("dashgate.db")).expect("the file");
    let add = "
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 150000)
        INSERT INTO entry_batches
        SELECT last.number + i, one.first_at, last.last_at, one.data
        FROM n, (SELECT * FROM entry_batches WHERE instr(data, CAST('r2' AS BLOB)) > 0 LIMIT 1) AS one,
             (SELECT max(number) AS number, max(last_at) AS last_at FROM entry_batches) AS last";
    file.execute_batch(add).expect("more entries");
    let target = "GET /wan/dashgate/v1/usage?from=2025-01-01&to=2027-02-01";
    let short = "/wan/dashgate/v1/usage?from=2026-11-01&to=2026-12-01";
    let mut running = None;
    eventually("a second report of the tenant is refused", || {
        let mut first = Client::connect(gateway.address);
        first.send(message(target, &[&format!("Authorization: Bearer {TENANT_KEY}")], ""));
        let second = get(&gateway, short, TENANT_KEY);
        if second.status() == 200 {
            // The first one had not begun, or had ended.
            first.answer();
            return false;
        }
        running = Some((first, second));
        true
    });
    let (mut first, refused) = running.expect("a refusal");
    assert_refused(&refused, 429, "reports_busy", "Throttling.Concurrency", Envelope::Flat);
    assert_eq!(refused.field("retry-after").as_deref(), Some("1"));
    // Another tenant has its turn meanwhile.
    assert_eq!(get(&gateway, short, OTHER_KEY).status(), 200);
    assert_eq!(first.answer().json()["total"]["entries"], 150_003);
}

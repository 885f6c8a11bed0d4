//! New prices for past uses: each difference is corrected once, however often prices change.

use std::sync::Arc;
use std::time::Duration;

use dashgate::dashscope::usage::{Unit, Units};
use dashgate::store::{Change, Entry, EntryFlags, EntrySource, LOST, Remark};
use dashgate::usage::{Amount, Charge};
use serde_json::{Value, json};

use super::{priced, second};
use crate::harness::{Gateway, StateDirectory, Upstream, answer};

const RANGE: &str = r#""from":"2026-11-01","to":"2026-12-01""#;
const NOVEMBER: &str = "2026-11-10T00:00:00Z";

fn configuration(upstream: &Upstream, prices: &str) -> String {
    priced(upstream.address, "/wan", prices, "price_factor = \"0.5\"") + &second("prices = \"default\"")
}

/// A price of a video second.
fn video_second(price: &str) -> String {
    super::price("wan2.7-*", "video_second", price, "")
}

/// Ten seconds of video.
fn entry(source: EntrySource, tenant: &str, model: &str, amount: Option<&str>) -> Entry {
    let at = humantime::parse_rfc3339(NOVEMBER).expect("a time");
    let amount = amount.and_then(Amount::from_text);
    Entry {
        source,
        at,
        tenant: tenant.into(),
        key_id: format!("{tenant}-key").into(),
        account: "main".into(),
        model: model.into(),
        mount: "/wan".into(),
        operation: "submit".into(),
        submitted_at: at,
        status: "SUCCEEDED".into(),
        units: Units::from_iter([(Unit::VideoSecond, 10_000)]),
        class: "720P".into(),
        usage: "".into(),
        flags: EntryFlags::default(),
        charge: Charge { amount, ..Charge::default() },
        remark: Remark::default(),
    }
}

/// A gateway over a ledger with these entries.
fn gateway(upstream: &Upstream, prices: &str, entries: Vec<Entry>) -> Gateway {
    let directory = StateDirectory::new();
    let store = directory.open();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let enter = entries.into_iter().map(|entry| store.commit(Change::Enter(Arc::new(entry))));
    let entered = runtime.block_on(futures_util::future::join_all(enter));
    assert!(entered.iter().all(Result::is_ok));
    store.close();
    Gateway::from_file_in(directory, &configuration(upstream, prices))
}

fn upstream() -> Upstream {
    Upstream::answering(answer("200 OK", &[], "{}"))
}

/// Entries, those without a price, corrections and their sum.
fn reprice(gateway: &Gateway, more: &str) -> (u64, u64, u64, String) {
    let got = gateway.administer("POST /admin/usage/reprice", &format!("{{{RANGE}{more}}}"));
    assert_eq!(got.status(), 200, "{}", got.text());
    let sums = got.json();
    assert_eq!(sums["next"], Value::Null);
    let count = |name: &str| sums[name].as_u64().expect("a count");
    let amount = sums["amount"].as_str().expect("an amount").to_owned();
    (count("entries"), count("unpriced"), count("corrections"), amount)
}

fn corrections(gateway: &Gateway, tenant: &str) -> Vec<Value> {
    let page = gateway.administer(&format!("GET /admin/tenants/{tenant}/corrections"), "").json();
    page["corrections"].as_array().expect("corrections").clone()
}

fn sums(entries: u64, unpriced: u64, corrections: u64, amount: &str) -> (u64, u64, u64, String) {
    (entries, unpriced, corrections, amount.to_owned())
}

#[test]
fn a_difference_is_corrected_once_and_a_price_may_change_back() {
    let upstream = upstream();
    let task = |id: &str| EntrySource::Task(id.into());
    let mut lost = entry(task("lost"), "one", "wan2.7-t2v", Some("0"));
    lost.status = LOST.into();
    let mut failed = entry(task("failed"), "one", "wan2.7-t2v", Some("0"));
    failed.units = Units::default();
    let entries = vec![
        entry(task("right"), "two", "wan2.7-t2v", Some("6")),
        entry(task("wrong"), "one", "wan2.7-t2v", Some("2")),
        entry(EntrySource::Call("bare".into()), "one", "wan2.7-i2v", None),
        entry(EntrySource::Socket("other/1".into()), "one", "qwen3-max", Some("7")),
        entry(task("gone"), "nobody", "wan2.7-t2v", Some("2")),
        lost,
        failed,
    ];
    let gateway = gateway(&upstream, &video_second("0.60"), entries);
    let expected = sums(4, 1, 2, "4.000000000");
    assert_eq!(reprice(&gateway, r#","dry_run":true"#), expected);
    assert_eq!(corrections(&gateway, "one").len(), 0, "a dry run makes nothing");
    assert_eq!(reprice(&gateway, r#","tenant":"two""#), sums(1, 0, 0, "0.000000000"));
    assert_eq!(reprice(&gateway, ""), expected);
    assert_eq!(reprice(&gateway, ""), sums(4, 1, 0, "0.000000000"));
    let made = corrections(&gateway, "one");
    assert_eq!(
        [&made[0]["id"], &made[0]["corrects"], &made[0]["amount"], &made[0]["note"]],
        ["reprice:task:main/wrong/1", "task:main/wrong", "1.000000000", "2 became 3 by new prices"]
    );
    assert_eq!([&made[1]["corrects"], &made[1]["amount"]], ["call:bare", "3.000000000"]);
    // By hand: the video was given away.
    let gift = r#"{"id":"gift","amount":"-3","note":"black","corrects":"task:main/wrong"}"#;
    assert_eq!(gateway.administer("POST /admin/tenants/one/corrections", gift).status(), 201);
    assert_eq!(reprice(&gateway, r#","dry_run":true"#), sums(4, 1, 1, "3.000000000"));
    for (new, amount) in [("1.20", "15.000000000"), ("0.60", "-12.000000000"), ("1.20", "12.000000000")] {
        gateway.reload(&configuration(&upstream, &video_second(new)));
        assert_eq!(reprice(&gateway, ""), sums(4, 1, 3, amount), "{new}");
        assert_eq!(reprice(&gateway, ""), sums(4, 1, 0, "0.000000000"), "{new}");
    }
    let page = gateway.administer("GET /admin/tenants/one/corrections", "").json();
    // Two uses of 6 each, and the call that has no price by the list, and keeps its amount of 7.
    assert_eq!(page["spent"], "19.000000000");
    let report =
        gateway.administer("GET /admin/usage?from=2026-01-01&to=2100-01-01&by=model&tenant=one", "").json();
    let i2v = report["rows"].as_array().expect("rows").iter().find(|row| row["model"] == "wan2.7-i2v");
    assert_eq!(i2v.expect("a row")["amount"], "6.000000000", "corrections stand under the model");
}

#[test]
fn a_use_costs_what_the_list_says_for_its_submit() {
    let upstream = upstream();
    let from = "from = \"2026-11-10T08:00:01+08:00\"";
    let prices = video_second("9") + from + "\n" + &video_second("0.60");
    let mut later = entry(EntrySource::Call("later".into()), "two", "wan2.7-t2v", None);
    later.submitted_at += Duration::from_secs(1);
    later.at += Duration::from_secs(1);
    let entries = vec![entry(EntrySource::Call("r1".into()), "two", "wan2.7-t2v", None), later];
    let gateway = gateway(&upstream, &prices, entries);
    assert_eq!(reprice(&gateway, ""), sums(2, 0, 2, "96.000000000"));
    let elsewhere = r#"{"from":"2026-11-11","to":"2026-12-01"}"#;
    assert_eq!(gateway.administer("POST /admin/usage/reprice", elsewhere).json()["entries"], 0);
    for wrong in [
        r#"{"from":"2026-12-01","to":"2026-11-01"}"#,
        r#"{"from":"2026-11-01"}"#,
        r#"{"from":"2026-11-01","to":"2026-12-01","tenant":"nobody"}"#,
        r#"{"from":"2026-11-01","to":"2026-12-01","after":"x"}"#,
    ] {
        assert_eq!(gateway.administer("POST /admin/usage/reprice", wrong).status(), 400, "{wrong}");
    }
}

/// Batches meet at places within one millisecond.
#[test]
fn many_entries_of_one_moment_are_all_corrected() {
    const ENTRIES: u64 = 1_500;
    let upstream = upstream();
    let calls = (0..ENTRIES)
        .map(|number| entry(EntrySource::Call(number.to_string().into()), "two", "wan2.7-t2v", Some("5")));
    let gateway = gateway(&upstream, &video_second("0.60"), calls.collect());
    let run = |arguments: &[&str]| {
        let of_the_month = ["reprice", "--from", "2026-11-01", "--to", "2026-12-01"];
        gateway.printed("usage", &[&of_the_month, arguments].concat())
    };
    let dry: Value = serde_json::from_str(&run(&["--dry-run", "--json"])).expect("JSON");
    assert_eq!(
        dry,
        json!({"entries": 1500, "corrections": 1500, "unpriced": 0, "amount": "1500.000000000", "dry_run": true})
    );
    assert_eq!(
        run(&[]),
        "1500 entries: 1500 corrections were made, of 1500.000000000 together; 0 have no price today\n"
    );
    assert_eq!(reprice(&gateway, ""), sums(ENTRIES, 0, 0, "0.000000000"));
    let page = gateway.administer("GET /admin/tenants/two/corrections?limit=1000", "").json();
    assert_eq!(page["spent"], "9000.000000000");
    assert!(page["next"].is_string());
}

#[test]
fn a_store_that_fails_says_that_perhaps_not_all_is_made() {
    let upstream = upstream();
    let calls = ["a", "b"].map(|id| entry(EntrySource::Call(id.into()), "two", "wan2.7-t2v", Some("5")));
    let gateway = gateway(&upstream, &video_second("0.60"), calls.to_vec());
    let lock = gateway.directory.lock();
    let got = gateway.administer("POST /admin/usage/reprice", &format!("{{{RANGE}}}"));
    assert_eq!((got.status(), &got.json()["code"]), (503, &json!("repriced_in_part")));
    drop(lock);
    crate::harness::eventually("the store answers", || {
        gateway.administer("POST /admin/usage/reprice", &format!("{{{RANGE}}}")).status() == 200
    });
    let page = gateway.administer("GET /admin/tenants/two/corrections", "").json();
    assert_eq!(page["spent"], "12.000000000", "each difference counts once");
    assert_eq!(page["corrections"].as_array().map(Vec::len), Some(2));
}

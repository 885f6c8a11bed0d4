//! Who used what: reports and entries over a real ledger.

use std::sync::Arc;

use dashgate::dashscope::usage::{Unit, Units};
use dashgate::store::{Change, Entry, EntryFlags, EntrySource};
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::harness::{
    ADMIN_TOKEN, Gateway, StateDirectory, UPSTREAM_KEY, Upstream, answer, client, configuration, message,
    needs_the_file,
};

/// The first moment of December in the zone.
const DECEMBER: &str = "2026-11-30T16:00:00Z";

pub(super) fn call(id: &str, at: &str, tenant: &str, model: &str, thousandths: u64) -> Entry {
    let at = humantime::parse_rfc3339(at).expect("a time");
    Entry {
        source: EntrySource::Call(id.into()),
        at,
        tenant: tenant.into(),
        key_id: format!("{tenant}-key").into(),
        account: "main".into(),
        model: model.into(),
        mount: "/api/v1".into(),
        operation: "call".into(),
        submitted_at: at,
        status: "".into(),
        units: Units::from_iter([(Unit::VideoSecond, thousandths)]),
        class: "720P".into(),
        usage: "{\"duration\":10.0400000000000000001,\n\"SR\":720}".into(),
        flags: EntryFlags::default(),
        charge: dashgate::usage::Charge::default(),
        remark: dashgate::store::Remark::default(),
    }
}

/// A gateway over a ledger with these entries.
pub(super) fn gateway(entries: Vec<Entry>) -> Gateway {
    let upstream = Upstream::answering(answer("200 OK", &[], "{}"));
    let server = "listen = \"127.0.0.1:0\"\nworkers = 1";
    let text = configuration(server, &[("main", upstream.address, &[UPSTREAM_KEY], "")], "");
    let directory = StateDirectory::new();
    let store = directory.open();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    for entry in entries {
        runtime.block_on(store.commit(Change::Enter(Arc::new(entry)))).expect("entered");
    }
    store.close();
    Gateway::over(directory, &text)
}

fn csv(gateway: &Gateway, query: &str) -> String {
    let token = format!("Authorization: Bearer {ADMIN_TOKEN}");
    let line = format!("GET /admin/usage?format=csv&{query}");
    let got = client::once(gateway.admin, message(&line, &[&token], ""));
    assert_eq!(got.field("content-type"), Some("text/csv; charset=utf-8".to_owned()));
    got.text()
}

#[test]
fn a_report_adds_up_to_the_thousandth_in_the_zones_months() {
    let gateway = gateway(vec![
        call("r1", "2026-11-30T15:59:59.999Z", "one", "wan", 1),
        call("r2", DECEMBER, "one", "wan", 10_040),
        call("r3", DECEMBER, "one", "=1+1", 7),
        call("r4", "2026-12-02T00:00:00Z", "one", "wan", 10_003),
        call("r5", "2026-12-31T16:00:00Z", "two", "wan", 5),
    ]);
    let report = |query: &str| gateway.administer(&format!("GET /admin/usage?{query}"), "").json();
    let got = report("from=2026-12-01&to=2027-01-01");
    assert_eq!((&got["from"], &got["zone"]), (&json!("2026-12-01T00:00:00+08:00"), &json!("+08:00")));
    assert_eq!(got["rows"][1]["units"], json!({ "video_second": "20.043" }));
    assert_eq!(got["rows"][1]["entries"], 2);
    assert_eq!(got["total"]["units"], json!({ "video_second": "20.050" }));
    assert_eq!(report("from=2026-11-01&by=month&tenant=one")["rows"][0]["month"], "2026-11");
    assert_eq!(report("from=2026-11-01&to=2027-02-01&by=key&model=wan")["rows"][1]["key"], "two-key");
    assert_eq!(report("from=2026-11-01&to=2027-02-01&by=")["rows"][0]["entries"], 5);
    assert_eq!(
        csv(&gateway, "from=2026-12-01&to=2027-01-01&by=model"),
        "model,amount,credits,entries,unpriced,estimated,cut,unread,video_second\r\n\
         \"'=1+1\",0.000000000,0.000000000,1,1,0,0,0,0.007\r\nwan,0.000000000,0.000000000,2,2,0,0,0,20.043\r\n"
    );
}

#[test]
fn pages_of_entries_hold_while_entries_are_added() {
    if needs_the_file() {
        return;
    }
    // All of them in one millisecond, so that time alone tells no place.
    let same = (0..5).map(|number| call(&format!("r{number}"), DECEMBER, "one", "wan", 1)).collect();
    let gateway = gateway(same);
    let page = |query: &str| gateway.administer(&format!("GET /admin/usage/entries?{query}"), "").json();
    let sources = |page: &Value| -> Vec<String> {
        let entries = page["entries"].as_array().expect("entries");
        entries.iter().map(|entry| entry["source"].as_str().expect("text").to_owned()).collect()
    };
    let first = page("from=2026-12-01&to=2027-01-01&limit=2");
    assert_eq!(sources(&first), ["call:r0", "call:r1"]);
    let file = Connection::open(gateway.directory.path().join("dashgate.db")).expect("the file");
    let add = "INSERT INTO entry_batches
               SELECT number + 1, first_at, last_at, unhex(replace(hex(data), hex('r4'), hex('rn')))
               FROM entry_batches ORDER BY number DESC LIMIT 1";
    file.execute_batch(add).expect("an entry more");
    let next = |page: &Value| page["after"].as_str().expect("a next page").to_owned();
    let second = page(&format!("from=2026-12-01&to=2027-01-01&limit=2&after={}", next(&first)));
    assert_eq!(sources(&second), ["call:r2", "call:r3"]);
    let third = page(&format!("from=2026-12-01&to=2027-01-01&limit=2&after={}", next(&second)));
    assert_eq!((sources(&third), &third["after"]), (vec!["call:r4".into(), "call:rn".into()], &Value::Null));
}

#[test]
fn the_entries_of_a_request_or_a_task_are_found() {
    let mut task = call("t1", DECEMBER, "one", "wan", 1);
    task.source = EntrySource::Task("t1".into());
    let mut socket = call("", DECEMBER, "one", "wan", 1);
    socket.source = EntrySource::Socket("r9/1".into());
    let gateway = gateway(vec![task, socket, call("r1", DECEMBER, "one", "wan", 10_040)]);
    for (query, source) in
        [("task_id=t1", "task:main/t1"), ("request_id=r9", "socket:r9/1"), ("request_id=r1", "call:r1")]
    {
        let query = format!("GET /admin/usage/entries?{query}&to=2027-01-01");
        let got = gateway.administer(&query, "");
        assert_eq!(got.json()["entries"].as_array().map(Vec::len), Some(1), "{query}");
        assert_eq!(got.json()["entries"][0]["source"], source);
        assert!(got.text().contains("\"duration\":10.0400000000000000001, \"SR\""), "{}", got.text());
    }
}

/// A look-up tells what was paid in the end, so it must not leave out what was given back.
#[test]
fn corrections_are_found_with_the_use_that_they_name() {
    let mut task = call("t1", DECEMBER, "one", "wan", 1);
    task.source = EntrySource::Task("t1".into());
    let mut socket = call("", DECEMBER, "one", "wan", 1);
    socket.source = EntrySource::Socket("r9/1".into());
    let correction = |id: &str, corrects: &str| {
        let mut entry = call("", DECEMBER, "one", "", 0);
        entry.source = EntrySource::Correction(id.into());
        entry.remark.corrects = corrects.into();
        entry
    };
    let gateway = gateway(vec![
        task,
        socket,
        call("r1", DECEMBER, "one", "wan", 1),
        correction("c1", "task:main/t1"),
        correction("c2", "task:main/t11"),
        correction("c3", "call:t1"),
        correction("c4", "socket:r9/1"),
        correction("task:main/t1", ""),
    ]);
    for (query, expected) in [
        ("task_id=t1", vec!["task:main/t1", "correction:c1"]),
        ("request_id=r9", vec!["socket:r9/1", "correction:c4"]),
        ("request_id=r1", vec!["call:r1"]),
        ("request_id=t1", vec!["correction:c3"]),
    ] {
        let query = format!("GET /admin/usage/entries?{query}&to=2027-01-01");
        let got = gateway.administer(&query, "").json();
        let sources: Vec<_> = got["entries"].as_array().expect("entries").iter().collect();
        let sources: Vec<_> = sources.into_iter().map(|entry| entry["source"].clone()).collect();
        assert_eq!(sources, expected, "{query}");
    }
}

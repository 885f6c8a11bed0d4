//! Credits and corrections: an id counts once, whatever is sent again, and the balance is the sum of what stands.

use std::time::{Duration, SystemTime};

use dashgate::store::EntrySource;
use serde_json::{Value, json};

use super::{code, gateway, usage};
use crate::harness::Gateway;

const CREDITS: &str = "/admin/tenants/one/credits";
const CORRECTIONS: &str = "/admin/tenants/one/corrections";

/// A gateway over a ledger in which the tenant `one` has these uses.
fn gateway_over(uses: &[EntrySource]) -> Gateway {
    let entries = uses.iter().map(|source| {
        let mut entry = usage::call("", "2026-11-01T00:00:00Z", "one", "wan", 1);
        entry.source = source.clone();
        entry
    });
    usage::gateway(entries.collect())
}

fn post(gateway: &Gateway, path: &str, body: &Value) -> (u16, Value) {
    let got = gateway.administer(&format!("POST {path}"), &body.to_string());
    (got.status(), got.json())
}

fn balance(gateway: &Gateway, path: &str) -> [String; 3] {
    let page = gateway.administer(&format!("GET {path}"), "").json();
    ["balance", "spent", "held"].map(|name| page[name].as_str().expect("an amount").to_owned())
}

#[test]
fn a_credit_counts_once_however_often_it_is_sent() {
    let (_upstream, gateway) = gateway();
    let paid = json!({"id": "invoice/42", "amount": "100.00", "note": " bank transfer "});
    let (status, made) = post(&gateway, CREDITS, &paid);
    assert_eq!(
        (status, &made["amount"], &made["note"]),
        (201, &json!("100.000000000"), &json!("bank transfer"))
    );
    assert_eq!(made["balance"], "100.000000000");
    let (status, standing) =
        post(&gateway, CREDITS, &json!({"id": "invoice/42", "amount": "100", "note": "again"}));
    assert_eq!((status, &standing["note"]), (200, &json!("bank transfer")));
    assert_eq!([&standing["at"], &standing["balance"]], [&made["at"], &json!("100.000000000")]);
    let other = json!({"id": "invoice/42", "amount": "100.01", "note": "n"});
    let refused = gateway.administer(&format!("POST {CREDITS}"), &other.to_string());
    assert_eq!(code(&refused), (409, "id_taken".to_owned()));
    let foreign = gateway.administer("POST /admin/tenants/two/credits", &paid.to_string());
    assert_eq!(code(&foreign), (409, "id_taken".to_owned()));
    // A correction may have the id of a credit.
    let (status, _) = post(&gateway, CORRECTIONS, &json!({"id": "invoice/42", "amount": "0.5", "note": "n"}));
    assert_eq!(status, 201);
    assert_eq!(balance(&gateway, CREDITS), ["99.500000000", "0.500000000", "0.000000000"]);
    assert_eq!(balance(&gateway, "/admin/tenants/two/credits")[0], "0.000000000");
}

#[test]
fn what_is_taken_back_and_corrected_stands_beside_what_it_changes() {
    let gateway = gateway_over(&[EntrySource::Task("t1".into()), EntrySource::Task("t2".into())]);
    for (path, body, expected) in [
        (CREDITS, json!({"id": "a", "amount": "10", "note": "paid"}), "10.000000000"),
        (CREDITS, json!({"id": "b", "amount": "-2.5", "note": "paid back"}), "7.500000000"),
        (
            CORRECTIONS,
            json!({"id": "c", "amount": "-1", "note": "black video", "corrects": "task:main/t1"}),
            "8.500000000",
        ),
        (CORRECTIONS, json!({"id": "d", "amount": "20", "note": "a fee"}), "-11.500000000"),
    ] {
        let (status, made) = post(&gateway, path, &body);
        assert_eq!((status, &made["balance"]), (201, &json!(expected)), "{made}");
    }
    // Another entry is meant, so it is no repetition.
    for other in ["task:main/t2", "task:main/nothing"] {
        let other = json!({"id": "c", "amount": "-1", "note": "black video", "corrects": other});
        assert_eq!(post(&gateway, CORRECTIONS, &other).0, 409);
    }
    let listed = |path: &str, name: &str| {
        let page = gateway.administer(&format!("GET {path}"), "").json();
        let entries = page[name].as_array().expect("entries").clone();
        assert_eq!(page["next"], Value::Null);
        entries
    };
    let credits = listed(CREDITS, "credits");
    assert_eq!(
        credits.iter().map(|one| one["amount"].as_str()).collect::<Vec<_>>(),
        [Some("10.000000000"), Some("-2.500000000")]
    );
    let corrections = listed(CORRECTIONS, "corrections");
    assert_eq!(
        [&corrections[0]["corrects"], &corrections[1]["corrects"]],
        [&json!("task:main/t1"), &Value::Null]
    );
    let report = gateway.administer("GET /admin/usage?by=tenant&from=2026-11-01", "").json();
    assert_eq!([&report["total"]["amount"], &report["total"]["credits"]], ["19.000000000", "7.500000000"]);
    let page = gateway.administer("GET /admin/usage/entries?from=2026-11-01", "").json();
    let sources: Vec<_> =
        page["entries"].as_array().expect("entries").iter().map(|one| &one["source"]).collect();
    assert_eq!(sources[2..], ["credit:a", "credit:b", "correction:c", "correction:d"]);
    assert_eq!([&page["entries"][4]["operation"], &page["entries"][4]["key_id"]], ["correction", ""]);
}

/// A slip in the name would leave the look-up of the use without its correction.
#[test]
fn only_an_entry_of_the_tenant_can_be_corrected() {
    let sources = ["t1", "t2"].map(|id| EntrySource::Task(id.into()));
    let uses = [EntrySource::Call("r1".into()), EntrySource::Socket("r2/1".into())];
    let gateway = gateway_over(&[sources.as_slice(), &uses].concat());
    let credit = json!({"id": "paid", "amount": "1", "note": "n"});
    assert_eq!(post(&gateway, CREDITS, &credit).0, 201);
    let correct = |tenant: &str, corrects: &str| {
        let body = json!({"id": corrects, "amount": "-1", "note": "n", "corrects": corrects});
        let line = format!("POST /admin/tenants/{tenant}/corrections");
        gateway.administer(&line, &body.to_string())
    };
    for wrong in [
        "task:main/t3",
        "task:other/t1",
        "call:t1",
        "call:r2",
        "socket:r2",
        "socket:r2/2",
        "credit:unpaid",
        "correction:paid",
    ] {
        let got = correct("one", wrong);
        assert_eq!(code(&got), (404, "no_such_entry".to_owned()), "{wrong}");
        assert!(got.text().contains(wrong), "{}", got.text());
    }
    for right in ["task:main/t1", "call:r1", "socket:r2/1", "credit:paid", "correction:task:main/t1"] {
        assert_eq!(code(&correct("two", right)), (404, "no_such_entry".to_owned()), "{right} of another");
        assert_eq!(correct("one", right).status(), 201, "{right}");
    }
}

#[test]
fn pages_follow_one_another_and_hold_one_tenant_alone() {
    let (_upstream, gateway) = gateway();
    for number in 0..5 {
        for tenant in ["one", "two"] {
            let body = json!({"id": format!("{tenant}-{}", 9 - number), "amount": "1", "note": "n"});
            post(&gateway, &format!("/admin/tenants/{tenant}/credits"), &body);
        }
    }
    let (mut ids, mut path) = (Vec::new(), format!("GET {CREDITS}?limit=2"));
    loop {
        let page = gateway.administer(&path, "").json();
        ids.extend(page["credits"].as_array().expect("credits").iter().map(|one| one["id"].clone()));
        let Some(next) = page["next"].as_str() else { break };
        path = format!("GET {CREDITS}?limit=2&after={next}");
    }
    assert_eq!(ids, ["one-9", "one-8", "one-7", "one-6", "one-5"]);
    let wrong = gateway.administer(&format!("GET {CREDITS}?after=one-9"), "");
    assert_eq!(code(&wrong), (400, "bad_field".to_owned()));
}

#[test]
fn what_is_no_credit_is_refused_and_enters_nothing() {
    let (_upstream, gateway) = gateway();
    for (body, expected) in [
        (json!({"id": "a", "amount": "0", "note": "n"}), "bad_field"),
        (json!({"id": "a", "amount": 1, "note": "n"}), "bad_json"),
        (json!({"id": "a", "amount": "1"}), "bad_json"),
        (json!({"id": "a", "amount": "1", "note": ""}), "bad_field"),
        (json!({"id": "", "amount": "1", "note": "n"}), "bad_field"),
        (json!({"id": "a", "amount": "1", "note": "n", "corrects": "call:r"}), "bad_field"),
        (json!({"id": "a", "amount": "1", "note": "n", "tenant": "two"}), "bad_json"),
    ] {
        let got = gateway.administer(&format!("POST {CREDITS}"), &body.to_string());
        assert_eq!(code(&got), (400, expected.to_owned()), "{body}");
    }
    let fine = r#"{"id":"a","amount":"1","note":"n"}"#;
    for line in ["POST /admin/tenants/nobody/credits", "POST /admin/tenants/nobody/corrections"] {
        assert_eq!(code(&gateway.administer(line, fine)), (404, "no_such_tenant".to_owned()));
    }
    assert_eq!(balance(&gateway, CREDITS)[0], "0.000000000");
    let directory = gateway.stop();
    let store = directory.open();
    let all = [SystemTime::UNIX_EPOCH, SystemTime::now() + Duration::from_secs(60)];
    store.entries(all, |entry| panic!("{entry:?}")).expect("read");
}

//! `dashgate tenants`: credits and corrections from the command line.

use serde_json::Value;

use super::{gateway, usage};

#[test]
fn credits_are_entered_and_listed_with_the_balance() {
    let (_upstream, gateway) = gateway();
    let credit = ["credit", "one", "100.00", "--note", "bank transfer", "--id", "invoice/42"];
    let made = gateway.printed("tenants", &credit);
    assert!(made.starts_with("invoice/42: 100.000000000 CNY for the tenant one, since 20"), "{made}");
    assert!(made.ends_with("balance 100.000000000 CNY; spent 0.000000000, held 0.000000000\n"), "{made}");
    assert_eq!(gateway.printed("tenants", &credit), made, "it counts once");
    let back: Value = serde_json::from_str(
        &gateway.printed("tenants", &["credit", "one", "-2.5", "--note", "paid back", "--json"]),
    )
    .expect("JSON");
    assert_eq!([&back["amount"], &back["balance"]], ["-2.500000000", "97.500000000"]);
    let list = gateway.printed("tenants", &["credits", "one"]);
    let rows: Vec<Vec<&str>> = list.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["AT", "AMOUNT", "ID", "NOTE"], "{list}");
    assert_eq!(rows[1][1..], ["100.000000000", "invoice/42", "bank", "transfer"], "{list}");
    assert_eq!(rows[2][1..3], ["-2.500000000", back["id"].as_str().expect("an id")], "{list}");
    assert_eq!(rows[4][..3], ["balance", "97.500000000", "CNY;"], "{list}");
    assert_eq!(gateway.printed("tenants", &["credits", "one", "--json"]).lines().count(), 2);
    let refused = gateway.command("tenants", &["credit", "one", "1", "--note", "n", "--id", "invoice/42"]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(refused.status.code() == Some(1) && said.contains("choose another id"), "{said}");
    let unsure = gateway.command("tenants", &["credit", "nobody", "1", "--note", "n"]);
    let said = String::from_utf8_lossy(&unsure.stderr);
    assert!(said.contains("no tenant `nobody`") && said.contains("add --id "), "{said}");
}

#[test]
fn corrections_name_what_they_correct() {
    let gateway = usage::gateway(vec![usage::call("0f4c", "2026-11-01T00:00:00Z", "one", "wan", 1)]);
    let source = "call:0f4c";
    gateway.printed(
        "tenants",
        &["correct", "one", "-3", "--note", "a black video", "--corrects", source, "--id", "t-7"],
    );
    let list = gateway.printed("tenants", &["corrections", "one"]);
    let rows: Vec<Vec<&str>> = list.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[1][1..], ["-3.000000000", "t-7", source, "a", "black", "video"], "{list}");
    assert!(list.ends_with("balance 3.000000000 CNY; spent -3.000000000, held 0.000000000\n"), "{list}");
    let refused =
        gateway.command("tenants", &["correct", "one", "-3", "--note", "n", "--corrects", "call:0f4d"]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(refused.status.code() == Some(1) && said.contains("no entry `call:0f4d`"), "{said}");
}

//! The comparison of a ledger with the simulator's bill. The amounts are worked out here once more, in integers.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde_json::{Value, json};

use super::owner;
use crate::harness::gateway::administer;
use crate::harness::{client, message};

/// A price, in billionths of the currency for so many units. None divides evenly.
type Price = (&'static str, &'static str, i128, i128);

/// Unit, class (empty: any), price and `per`. The first row that fits counts.
const PRICES: [Price; 7] = [
    ("video_second", "720P", 600_000_001, 7),
    ("video_second", "", 1_234_567_891, 3),
    ("image", "", 123_456_789, 1),
    ("audio_second", "", 220_001, 3),
    ("character", "", 200_000_003, 10_000),
    ("input_token", "", 700_000_001, 1_000_000),
    ("output_token", "", 2_800_000_003, 1_000_000),
];
/// A multiple of each `per`.
const COMMON: i128 = 21_000_000;
/// Factors of the tenants, in millionths.
const FACTORS: [i128; 2] = [850_000, 1_333_333];

/// The lists of prices of the configuration.
pub(crate) fn prices() -> String {
    let row = |(unit, class, nanos, per): &Price| {
        let class = if class.is_empty() { String::new() } else { format!("class = {class:?}\n") };
        format!(
            "[[prices]]\nlist = \"default\"\nmodels = [\"*\"]\nunit = {unit:?}\n{class}price = \"{}\"\nper = {per}\n",
            decimal(*nanos, 9)
        )
    };
    PRICES.iter().map(row).collect()
}

/// The lines of the configuration that say what a tenant pays.
pub(crate) fn billing(tenant: usize) -> String {
    let factor = decimal(FACTORS[tenant], 6);
    format!(
        "prices = \"default\"\nprice_factor = \"{factor}\"\nbudgets = [{{ amount = \"100000000\", period = \"month\" }}]\n"
    )
}

fn decimal(number: i128, decimals: u32) -> String {
    let one = 10_i128.pow(decimals);
    format!("{}.{:0width$}", number / one, number % one, width = decimals as usize)
}

/// The number of a decimal text, in units of its last digit.
pub(crate) fn digits(text: &str) -> i128 {
    text.replace('.', "").parse().unwrap_or_else(|_| panic!("{text} is no decimal number"))
}

/// The amount of a line of the bill, in billionths.
fn amount(line: &Value, tenant: usize) -> i128 {
    let class = text(&line["class"]);
    let units = line["units"].as_object().expect("units");
    let cost = |(unit, quantity): (&String, &Value)| {
        // The seconds of input and output are parts of the others.
        let is_part = ["input_video_second", "output_video_second"].contains(&&**unit);
        let price = PRICES.iter().find(|(of, only, ..)| of == unit && (only.is_empty() || *only == class));
        match price {
            None if is_part => 0,
            None => panic!("no price for {unit}"),
            Some((_, _, nanos, per)) => digits(text(quantity)) * nanos * (COMMON / per),
        }
    };
    let product = units.iter().map(cost).sum::<i128>() * FACTORS[tenant];
    // Thousandths of units, millionths of the factor.
    let whole = COMMON * 1_000_000_000;
    (2 * product + whole) / (2 * whole)
}

/// The bill of the simulator: lines of tasks by their ids.
pub(crate) fn bill(simulator: SocketAddr) -> BTreeMap<String, Value> {
    let bill = client::once(simulator, message("GET /sim/bill", &["Host: sim"], "")).json();
    assert_eq!(bill["dropped"], 0);
    let lines = bill["tasks"].as_array().expect("lines");
    let by_id: BTreeMap<String, Value> =
        lines.iter().map(|line| (text(&line["task_id"]).to_owned(), line.clone())).collect();
    assert_eq!(by_id.len(), lines.len(), "a task was billed twice");
    by_id
}

/// The number of entries of all times, which costs little where they are many.
pub(crate) fn entered(admin: SocketAddr) -> u64 {
    let report = administer(admin, "GET /admin/usage?by=month&from=2020-01-01", "").json();
    report["total"]["entries"].as_u64().expect("a number")
}

/// All entries of the ledger by the ids of their tasks.
pub(crate) fn entries(admin: SocketAddr) -> BTreeMap<String, Value> {
    let (mut by_id, mut after) = (BTreeMap::new(), String::new());
    loop {
        let page =
            administer(admin, &format!("GET /admin/usage/entries?limit=1000&after={after}"), "").json();
        for entry in page["entries"].as_array().expect("entries") {
            let source = text(&entry["source"]);
            let id = source.strip_prefix("task:main/").unwrap_or_else(|| panic!("{entry}"));
            let before = by_id.insert(id.to_owned(), entry.clone());
            assert_eq!(before, None, "{id} was entered twice");
        }
        match page["after"].as_str() {
            Some(next) => next.clone_into(&mut after),
            None => return by_id,
        }
    }
}

/// Compares each entry with its line. Returns the sum of the amounts of each tenant.
pub(crate) fn compare(bill: &BTreeMap<String, Value>, entries: &BTreeMap<String, Value>) -> [i128; 2] {
    let mut sums = [0; 2];
    for (id, line) in bill {
        let Some(entry) = entries.get(id) else { panic!("not entered: {line}") };
        let tenant = owner(text(&line["model"]));
        let names = ["model", "account", "status", "units", "class", "usage"];
        let of = |told: &Value| names.map(|name| told[name].clone());
        assert_eq!(of(entry), of(line), "{id}");
        assert_eq!(entry["tenant"], ["one", "two"][tenant], "{entry}");
        let expected = amount(line, tenant);
        assert_eq!(digits(text(&entry["amount"])), expected, "{entry}");
        sums[tenant] += expected;
    }
    let unbilled: Vec<_> = entries.keys().filter(|id| !bill.contains_key(*id)).collect();
    assert!(unbilled.is_empty(), "{unbilled:?}");
    sums
}

/// Spent and held of a tenant, in billionths.
pub(crate) fn money(admin: SocketAddr, tenant: &str) -> [i128; 2] {
    let shown = administer(admin, &format!("GET /admin/tenants/{tenant}/credits"), "").json();
    ["spent", "held"].map(|name| digits(text(&shown[name])))
}

/// Orphans of the account, page by page.
pub(crate) fn orphans(admin: SocketAddr) -> Vec<Value> {
    let (mut orphans, mut after) = (Vec::new(), String::new());
    loop {
        let page = administer(admin, &format!("GET /admin/orphans?limit=1000&after={after}"), "").json();
        orphans.extend(page["orphans"].as_array().expect("orphans").iter().cloned());
        match page["next"].as_str() {
            Some(next) => next.clone_into(&mut after),
            None => return orphans,
        }
    }
}

/// Gives an orphan to a tenant, as an operator does; false where it has an owner by now.
pub(crate) fn assign(admin: SocketAddr, id: &str, tenant: usize) -> bool {
    let (tenant, key_id) = [("one", "one-key"), ("two", "two-key")][tenant];
    let body = json!({"tenant": tenant, "key_id": key_id}).to_string();
    let got = administer(admin, &format!("POST /admin/orphans/main/{id}/assign"), &body);
    assert!([200, 404, 409].contains(&got.status()), "{}", got.text());
    got.status() == 200
}

pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

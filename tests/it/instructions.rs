//! Instructions of a request, which the machine's load does not change: no change makes a request dearer unseen.

use std::collections::BTreeMap;
use std::process::Command;

use crate::harness::not_run;

/// Instructions in thousands, by the request's name.
fn table(text: &str) -> BTreeMap<String, f64> {
    let rows = text.lines().filter(|line| !line.starts_with('#'));
    let row = |line: &str| {
        let (name, number) = line.split_once(": ").unwrap_or_else(|| panic!("no row: {line}"));
        (name.to_owned(), number.parse().expect("a number"))
    };
    rows.map(row).collect()
}

fn committed() -> BTreeMap<String, f64> {
    table(include_str!("../../benches/peers/instructions.txt"))
}

#[test]
fn the_table_has_each_request_that_is_counted() {
    let committed = committed();
    let names: Vec<&str> = committed.keys().map(String::as_str).collect();
    assert_eq!(names, ["poll", "streamed call", "submit", "synchronous call"]);
    assert!(
        committed["poll"] < committed["synchronous call"],
        "a poll is answered from memory: {committed:?}"
    );
}

/// `DASHGATE_INSTRUCTIONS=1` builds the release, counts anew, and compares: ten minutes.
#[test]
fn a_request_takes_as_many_instructions_as_the_table_says() {
    if std::env::var_os("DASHGATE_INSTRUCTIONS").is_none() {
        not_run("instructions of a request; DASHGATE_INSTRUCTIONS=1 builds the release and counts them.");
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let mut bench = Command::new(env!("CARGO"));
    bench.args(["bench", "--bench", "peers", "--", "instructions", "--write"]).arg(folder.path());
    assert!(bench.current_dir(env!("CARGO_MANIFEST_DIR")).status().expect("cargo").success());
    let counted = table(&std::fs::read_to_string(folder.path().join("instructions.txt")).expect("a table"));
    for (name, before) in committed() {
        let now = counted[&name];
        let change = now / before - 1.0;
        assert!(
            change.abs() <= MOST_CHANGE,
            "{name}: {now:.1} thousand instructions, {before:.1} before. If that is meant, write the table anew: \
             cargo bench --bench peers -- instructions --write benches/peers"
        );
    }
}

/// A greater change is one of the program: counts of one build differ by a hundredth.
const MOST_CHANGE: f64 = 0.03;

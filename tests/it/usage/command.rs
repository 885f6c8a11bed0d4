//! `dashgate usage`: the report and the entries, from a running gateway.

use serde_json::Value;

use super::calls::{answering, ask_chat};
use crate::harness::{answer, eventually};

#[test]
fn the_command_shows_the_report_and_the_entries() {
    const ANSWER: &str = r#"{"usage":{"prompt_tokens":30,"completion_tokens":20,"total_tokens":50}}"#;
    let (_upstream, gateway) = answering(answer("200 OK", &["X-Request-Id: r-7"], ANSWER));
    let run = |arguments: &[&str]| gateway.printed("usage", arguments);
    ask_chat(&gateway);
    ask_chat(&gateway);
    // Entries are written a moment after the last byte.
    eventually("both entries are written", || run(&["export"]).lines().count() == 2);
    let table = run(&["--by", "tenant,model"]);
    let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[2], ["TENANT", "MODEL", "ENTRIES", "INPUT_TOKEN", "OUTPUT_TOKEN"], "{table}");
    assert_eq!(lines[3], ["one", "qwen3-max", "2", "60.000", "40.000"], "{table}");
    assert_eq!(lines[4], ["total", "2", "60.000", "40.000"], "{table}");
    assert_eq!(run(&["--csv", "--tenant", "two"]).lines().count(), 1, "the head alone");
    let report: Value = serde_json::from_str(&run(&["--json"])).expect("JSON");
    assert_eq!(report["total"]["units"]["input_token"], "60.000");
    let entry: Value = serde_json::from_str(run(&["export"]).lines().next().expect("a line")).expect("JSON");
    assert_eq!(entry["source"], "call:r-7");
    let correction = r#"{"id":"c","amount":"-1.5","note":"sent twice","corrects":"call:r-7"}"#;
    let corrected = gateway.administer("POST /admin/tenants/one/corrections", correction);
    assert_eq!(corrected.status(), 201, "{}", corrected.text());
    let found = run(&["--request-id", "r-7"]);
    let lines: Vec<Vec<&str>> = found.lines().map(|line| line.split_whitespace().collect()).collect();
    let call = ["call:r-7", "one", "one-key", "qwen3-max", "-", "-", "30.000", "input_token,"];
    assert_eq!((lines.len(), &lines[1][1..9]), (6, call.as_slice()), "{found}");
    assert_eq!(lines[3][6..], ["-1.500000000", "call:r-7:", "sent", "twice"], "{found}");
    assert!(found.ends_with("\n2 uses, 1 corrections: -1.500000000 CNY together\n"), "{found}");
    assert_eq!(run(&["--request-id", "r-7", "--json"]).lines().count(), 3);
    assert_eq!(run(&["export", "--request-id", "r-7"]).lines().count(), 3);
    assert!(run(&["--task-id", "r-7"]).contains("no entry"));
}

//! Long lists: of ten thousand keys and twenty thousand tasks the page fetches and shows a page at a time.

use std::time::{Duration, SystemTime};

use dashgate::dashscope::task::Status;
use dashgate::store::{Change, KeyRecord, Store, TaskFields};
use futures_util::future::join_all;
use serde_json::json;

use super::{Console, upstream};
use crate::harness::browser::Look;
use crate::harness::{Gateway, StateDirectory, TENANT_KEY, UPSTREAM_KEY, configuration, task_fields};
use crate::usage::kills::asked_for;

const KEYS: usize = 10_000;
/// Tasks, unless `DASHGATE_CONSOLE_TASKS` asks for others.
const TASKS: usize = 20_000;

fn fill(store: &Store, tasks: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let now = SystemTime::now();
    let commit = |changes: Vec<Change>| {
        let made = runtime.block_on(join_all(changes.into_iter().map(|change| store.commit(change))));
        assert!(made.iter().all(Result::is_ok), "{:?}", made.iter().find(|made| made.is_err()));
    };
    let key = |number: usize| {
        let mut sha256 = [7; 32];
        sha256[..8].copy_from_slice(&number.to_be_bytes());
        Change::CreateKey(KeyRecord {
            id: format!("key-{number:05}").into(),
            tenant: "one".into(),
            sha256,
            created_at: now,
            expires: None,
            revoked_at: None,
            retires_at: None,
            details: None,
        })
    };
    let task = |number: usize| {
        let task = TaskFields {
            key_id: "one-key".into(),
            status: Status::Succeeded,
            ..task_fields(&format!("task-{number:07}"), now - Duration::from_millis((tasks - number) as u64))
        };
        Change::Claim { task: task.into(), answer: None, hold: None, request: None }
    };
    for numbers in (0..KEYS).collect::<Vec<_>>().chunks(1000) {
        commit(numbers.iter().map(|number| key(*number)).collect());
    }
    for numbers in (0..tasks).collect::<Vec<_>>().chunks(1000) {
        commit(numbers.iter().map(|number| task(*number)).collect());
    }
}

#[test]
fn ten_thousand_keys_and_twenty_thousand_tasks_are_shown_a_page_at_a_time() {
    let upstream = upstream();
    let state = StateDirectory::new();
    let store = state.open();
    let tasks = asked_for("DASHGATE_CONSOLE_TASKS", TASKS);
    fill(&store, tasks);
    store.close();
    drop(store);
    let server = "listen = \"127.0.0.1:0\"\nworkers = 1";
    let gateway =
        Gateway::over(state, &configuration(server, &[("main", upstream.address, &[UPSTREAM_KEY], "")], ""));
    let console = Console::enter(&gateway, Look::default());
    let browser = &console.browser;
    let rows = || {
        browser.run(
            "const first = [...document.querySelectorAll('tbody tr:first-child td')].map((cell) => cell.innerText);
             return [document.querySelectorAll('tbody tr').length, first.find(Boolean)];",
            &[],
        )
    };
    console.go("#/keys");
    assert_eq!(rows(), json!([100, "key-00000"]));
    console.press("Next");
    console.sees("key-00199");
    assert_eq!(rows(), json!([100, "key-00100"]));
    console.go("#/keys?from=key-099");
    console.sees("key-09999");
    assert_eq!(rows(), json!([100, "key-09900"]));
    // The newest tasks come first.
    let task = |place: usize| format!("task-{:07}", tasks - place);
    console.go("#/tasks");
    assert_eq!(rows(), json!([100, task(1)]));
    for page in 1..=3 {
        console.press("Next");
        console.sees(&task(1 + page * 100));
    }
    assert_eq!(rows(), json!([100, task(301)]));
    console.press("First");
    console.sees(&task(1));
    browser.write("#find", "key-05000");
    browser.press('\u{E007}');
    browser.wait("document.querySelector('main h1').textContent.startsWith('Found for')");
    console.sees("key-05000");
    // A leaked secret leads to its key, and stands in no address.
    browser.write("#find", TENANT_KEY);
    browser.press('\u{E007}');
    browser.wait("document.querySelector('main h1').textContent === 'Found for one-key'");
    let names = browser.run("return performance.getEntries().map(({ name }) => name).join() + location", &[]);
    assert!(
        names.as_str().is_some_and(|names| names.contains("/admin/keys/find") && !names.contains(TENANT_KEY))
    );
    // No answer of the API was longer than a page of a hundred.
    let longest = "return Math.max(...performance.getEntriesByType('resource')
        .filter(({ name }) => name.includes('/admin/')).map(({ decodedBodySize }) => decodedBodySize))";
    let longest = browser.run(longest, &[]).as_u64().expect("a size");
    assert!((1_000..100_000).contains(&longest), "{longest} bytes");
    console.had_no_fault();
}

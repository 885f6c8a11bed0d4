//! A token that may only look sees no button that changes anything.

use serde_json::json;

use super::{Console, gateway_with, run_task, upstream};
use crate::harness::browser::Look;
use crate::harness::{ADMIN_TOKEN, TENANT_KEY};

const WATCHER: &str = "watcher-4c1d7be09f2a5836";

/// Buttons that change nothing.
const LOOKS: [&str; 6] = ["Show", "First", "Previous", "Next", "Download as CSV", "Sign out"];

const PLACES: [&str; 10] = [
    "#/now",
    "#/tasks",
    "#/task/t-1",
    "#/tenants",
    "#/tenant/initech",
    "#/keys",
    "#/usage",
    "#/webhooks",
    "#/audit",
    "#/configuration",
];

#[test]
fn who_may_only_look_sees_no_button_that_changes() {
    let upstream = upstream();
    let tokens = format!(
        "[[admin.tokens]]\nname = \"boss\"\ntoken = \"{ADMIN_TOKEN}\"\nrole = \"operate\"\n\
         [[admin.tokens]]\nname = \"watcher\"\ntoken = \"{WATCHER}\"\nrole = \"read\"\n"
    );
    let gateway = gateway_with(&upstream, &tokens);
    run_task(&gateway, TENANT_KEY, "t-1", "wan2.7-t2v");
    for (line, body) in [
        ("POST /admin/tenants", r#"{"name":"initech"}"#),
        ("POST /admin/keys", r#"{"tenant":"initech","id":"made"}"#),
    ] {
        assert_eq!(gateway.administer(line, body).status(), 201);
    }
    let buttons = |console: &Console, place: &str| {
        console.go(place);
        let script = "return [...document.querySelectorAll('main button')].map((one) => one.textContent)";
        let found = console.browser.run(script, &[]);
        let found = found.as_array().expect("texts").clone();
        found.into_iter().filter(|text| !LOOKS.iter().any(|look| text == look)).count()
    };
    let watcher = Console::enter_with(&gateway, Look::default(), WATCHER);
    watcher.sees("watcher · read only");
    for place in PLACES {
        assert_eq!(buttons(&watcher, place), 0, "{place}");
    }
    watcher.had_no_fault();
    drop(watcher);
    let boss = Console::enter(&gateway, Look::default());
    boss.sees("boss · operator");
    let changing = PLACES.iter().filter(|place| buttons(&boss, place) > 0).count();
    assert_eq!(
        changing, 6,
        "tasks have buttons of their own, as have tenants, keys, webhooks and the configuration"
    );
    let asked =
        "return performance.getEntriesByType('resource').some(({ name }) => name.endsWith('openapi.json'))";
    assert_eq!(boss.browser.run(asked, &[]), json!(false), "the page knows its gateway");
}

//! An operator's day: sign in, make a key, find a task, read the bill, revoke the key, leave.

use serde_json::json;

use super::{Console, gateway, run_task, submit, upstream};
use crate::harness::browser::{Browser, Look};
use crate::harness::{ADMIN_TOKEN, TENANT_KEY};

const TASK: &str = "0c4e4a0e-5a6f-4f1e-9a53-2f0d7a5c8e11";

#[test]
fn an_operator_makes_a_key_finds_a_task_reads_the_bill_and_revokes_the_key() {
    let upstream = upstream();
    let gateway = gateway(&upstream);
    run_task(&gateway, TENANT_KEY, TASK, "wan2.7-t2v");
    let console = Console { browser: Browser::start(Look::default()) };
    let browser = &console.browser;
    browser.open(&format!("http://{}/console/", gateway.admin));
    console.sign_in("not-the-token-0123456789");
    console.sees("does not know this token");
    console.sign_in(ADMIN_TOKEN);
    browser.wait("document.querySelector('nav')");
    console.sees("ready");

    browser.click("nav a[data-view=keys]");
    console.sees("acme-prod");
    browser.click("main .actions .primary");
    browser.write("dialog [name=tenant]", "acme");
    browser.write("dialog [name=id]", "night-shift");
    browser.write("dialog [name=expires]", "30d");
    browser.click("dialog .primary");
    browser.wait("document.querySelector('.secret')");
    let secret = browser.run("return document.querySelector('.secret').value", &[]);
    let secret = secret.as_str().expect("a secret");
    browser.click("dialog .primary");
    console.sees("night-shift");
    assert_eq!(
        browser.run("return document.documentElement.outerHTML.includes(arguments[0])", &[json!(secret)]),
        false
    );
    assert_eq!(submit(&gateway, secret, r#"{"id":"t-2","model":"wan2.7-t2v","input":{}}"#), 200);

    browser.write("#find", TASK);
    browser.press(ENTER);
    browser.wait("document.querySelector('main h1').textContent.startsWith('Found for')");
    browser.click(&format!("main a[href*='task/{TASK}']"));
    console.sees(&format!("Task {TASK}"));
    console.sees("3.00 CNY");
    console.sees("video_second=0.6");

    console.go("#/usage?by=tenant");
    console.sees("3.00 CNY");
    assert_eq!(browser.run("return document.querySelectorAll('rect.bar').length > 0", &[]), true);

    console.go("#/keys?tenant=acme");
    browser.click("button[aria-label='Revoke: night-shift']");
    browser.click("dialog .danger");
    console.sees("revoked");
    assert_eq!(submit(&gateway, secret, r#"{"id":"t-3","model":"wan2.7-t2v","input":{}}"#), 401);

    let kept = browser.run("return [document.cookie, localStorage.length, sessionStorage.length]", &[]);
    assert_eq!(kept, json!(["", 0, 0]));
    browser.run("location.reload()", &[]);
    browser.wait("document.querySelector('input[name=token]')");
    assert_eq!(browser.run("return document.querySelector('nav')", &[]), json!(null), "a reload signs out");
    console.had_no_fault();
}

/// The enter key, as WebDriver names it.
const ENTER: char = '\u{E007}';

#[test]
fn the_page_is_used_by_keyboard_alone() {
    let upstream = upstream();
    let gateway = gateway(&upstream);
    let console = Console { browser: Browser::start(Look::default()) };
    let browser = &console.browser;
    browser.open(&format!("http://{}/console/", gateway.admin));
    browser.wait("document.activeElement.name === 'token'");
    ADMIN_TOKEN.chars().for_each(|letter| browser.press(letter));
    browser.press(ENTER);
    browser.wait("document.querySelector('nav')");
    let reach = |expression: &str| {
        for _ in 0..60 {
            if browser.run(&format!("return Boolean({expression})"), &[]) == true {
                let outline =
                    browser.run("return getComputedStyle(document.activeElement).outlineStyle", &[]);
                assert_ne!(outline, "none", "the focus is not seen at {expression}");
                return;
            }
            browser.press(TAB);
        }
        panic!("the tab key never reaches {expression}");
    };
    console.go("#/now");
    browser.run("document.querySelector('.skip').focus()", &[]);
    reach("document.activeElement.dataset.view === 'keys'");
    browser.press(ENTER);
    browser.wait("document.activeElement.id === 'main'");
    reach("document.activeElement.matches('main .actions .primary')");
    browser.press(ENTER);
    browser.wait("document.activeElement.closest('dialog')");
    "acme".chars().for_each(|letter| browser.press(letter));
    browser.press(ESCAPE);
    browser.wait("!document.querySelector('dialog')");
    browser.wait("document.activeElement.matches('main .actions .primary')");
    console.had_no_fault();
}

#[test]
fn several_keys_are_chosen_and_revoked_and_limits_are_changed() {
    let upstream = upstream();
    let gateway = gateway(&upstream);
    for id in ["one-more", "two-more", "third"] {
        let body = json!({"tenant": "acme", "id": id, "limits": {"concurrent_requests": 5, "burst": null}});
        assert_eq!(gateway.administer("POST /admin/keys", &body.to_string()).status(), 201);
    }
    let console = Console { browser: Browser::start(Look::default()) };
    let browser = &console.browser;
    browser.open(&format!("http://{}/console/", gateway.admin));
    console.sign_in(ADMIN_TOKEN);
    browser.wait("document.querySelector('nav')");
    console.go("#/keys?tenant=acme");
    console.sees("concurrent_requests=5");
    browser.click("button[aria-label='Change: third']");
    let asks = "document.querySelector('dialog [name=limits]')";
    browser.wait(asks);
    let written = browser.run(&format!("return {asks}.value"), &[]);
    assert_eq!(written, "concurrent_requests=5");
    browser.run(&format!("{asks}.value = 'submits.requests_per_second=2\\ntasks_in_flight=4'"), &[]);
    browser.click("dialog .primary");
    console.sees("submits.requests_per_second=2");
    let listed = gateway.administer("GET /admin/keys?after=t", "").json();
    let limits = json!({"submits": {"requests_per_second": 2}, "tasks_in_flight": 4});
    assert_eq!(listed["keys"][0]["limits"], limits, "{listed}");
    browser.click("input[aria-label='Choose one-more']");
    browser.click("input[aria-label='Choose two-more']");
    browser.click("main .actions .danger");
    console.sees("Revoke 2 keys");
    browser.click("dialog .danger");
    browser.wait("!document.querySelector('dialog')");
    console.sees("The chosen keys are revoked.");
    let listed = gateway.administer("GET /admin/keys?tenant=acme", "").json();
    let revoked = listed["keys"].as_array().expect("keys").iter().filter(|key| key["status"] == "revoked");
    let revoked: Vec<_> = revoked.map(|key| key["id"].as_str().expect("an id")).collect();
    assert_eq!(revoked, ["one-more", "two-more"]);
    console.had_no_fault();
}

const TAB: char = '\u{E004}';
const ESCAPE: char = '\u{E00C}';

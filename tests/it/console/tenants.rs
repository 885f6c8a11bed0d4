//! Tenants that are made, changed and suspended; webhooks that are tried and sent again; and the audit, which tells all of it.

use serde_json::{Value, json};

use super::{BAIT, Console, run_task, upstream};
use crate::harness::browser::Look;
use crate::harness::{ADMIN_TOKEN, Gateway, TENANT_KEY, Upstream, answer};

/// An id that would run a script if it ever became markup; it has no blanks, as ids have none.
const BAIT_ID: &str = "<img/src=x/onerror=window.caught=1>";

/// A gateway whose tenant `acme` has an endpoint for webhooks.
fn gateway(upstream: &Upstream, endpoint: &Upstream) -> Gateway {
    Gateway::from_file(&format!(
        r#"
        server = {{ listen = "127.0.0.1:0", workers = 1 }}
        admin = {{ listen = "127.0.0.1:0", token = "{ADMIN_TOKEN}" }}
        accounts = [{{ name = "main", base_url = "http://{}", keys = ["sk-upstream"] }}]
        mounts = [{{ prefix = "/" }}]

        [[tenants]]
        name = "acme"
        keys = [{{ id = "acme-prod", key = "{TENANT_KEY}" }}]
        webhooks = [{{ url = "http://{}/hook", private = true, secrets = ["whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"] }}]
        "#,
        upstream.address, endpoint.address
    ))
}

fn shown(gateway: &Gateway, path: &str) -> Value {
    let got = gateway.administer(&format!("GET {path}"), "");
    assert_eq!(got.status(), 200, "{}", got.text());
    got.json()
}

#[test]
fn a_tenant_is_made_changed_and_suspended_and_the_audit_tells_it() {
    let (upstream, endpoint) = (upstream(), Upstream::answering(answer("200 OK", &[], "{}")));
    let gateway = gateway(&upstream, &endpoint);
    let console = Console::enter(&gateway, Look::default());
    let browser = &console.browser;

    console.go("#/tenants");
    browser.click("main .actions .primary");
    browser.write("dialog [name=name]", "initech");
    browser.write("dialog [name=models]", "wan2.7-*, qwen*");
    browser.write("dialog [name='tenant_limits.tasks_in_flight']", "7");
    console.confirm();
    console.sees("Tenant initech");
    console.sees("wan2.7-*");
    let settings = shown(&gateway, "/admin/tenants/initech")["settings"].clone();
    assert_eq!(
        settings,
        json!({ "models": ["wan2.7-*", "qwen*"], "tenant_limits": { "tasks_in_flight": 7 } })
    );

    console.press("Change");
    browser.write("dialog [name=models]", "wan2.7-*");
    browser.write("dialog [name=more]", r#"{"async_header": "add"}"#);
    console.confirm();
    console.sees("The tenant initech is changed.");
    let settings = shown(&gateway, "/admin/tenants/initech")["settings"].clone();
    let expected =
        json!({ "models": ["wan2.7-*"], "async_header": "add", "tenant_limits": { "tasks_in_flight": 7 } });
    assert_eq!(settings, expected);

    // A refusal stays in the form, and tells the key.
    console.press("Change");
    browser.write("dialog [name=more]", r#"{"colour": "red"}"#);
    browser.click("dialog button[type=submit]");
    browser.wait("document.querySelector('dialog .bad').textContent.includes('colour')");
    browser.click("dialog .actions button[type=button]");

    console.press("Suspend");
    console.confirm();
    console.sees("suspended");
    assert_eq!(shown(&gateway, "/admin/tenants/initech")["enabled"], false);
    console.press("Resume");
    console.confirm();
    console.press("Enter a credit");
    browser.write("dialog [name=amount]", "12.50");
    browser.write("dialog [name=id]", BAIT_ID);
    browser.write("dialog [name=note]", BAIT);
    console.confirm();
    console.sees(BAIT);
    assert_eq!(shown(&gateway, "/admin/tenants/initech/credits")["balance"], "12.500000000");

    console.go("#/audit?object=tenant%2Finitech");
    console.sees("enter_credit");
    console.sees(&format!("entry: credit:{BAIT_ID}"));
    let told = "return [...document.querySelectorAll('tbody tr')].map((row) => row.cells[2].textContent + ' ' + row.cells[4].textContent)";
    let expected = [
        "enter_credit changed",
        "change_tenant changed",
        "change_tenant changed",
        "change_tenant not changed bad_tenant",
        "change_tenant changed",
        "create_tenant changed",
    ];
    assert_eq!(browser.run(told, &[]), json!(expected));
    console.go("#/audit?by=nobody");
    console.sees("Nobody has asked for such a change.");
    nothing_was_caught(&console);
}

#[test]
fn webhooks_are_tried_and_sent_again_and_a_task_has_a_page() {
    let (upstream, endpoint) = (upstream(), Upstream::answering(answer("500 No", &[], BAIT)));
    let gateway = gateway(&upstream, &endpoint);
    let console = Console::enter(&gateway, Look::default());
    let browser = &console.browser;
    console.go("#/webhooks");
    console.press("Send a test");
    browser.write("dialog [name=tenant]", "acme");
    console.confirm();
    console.sees("webhook.test");
    // The page shows what the store has, which is a moment later than what the endpoint has.
    crate::harness::eventually("its first try has ended", || {
        shown(&gateway, "/admin/webhooks/deliveries")["deliveries"][0]["status"] == 500
    });
    console.go("#/webhooks?tenant=acme&state=waiting");
    console.sees("500");
    let before = endpoint.requests().len();
    console.press("Deliver again");
    console.confirm();
    crate::harness::eventually("it comes again", || endpoint.requests().len() > before);
    console.go("#/webhooks?tenant=nobody");
    console.sees("No such delivery.");

    run_task(&gateway, TENANT_KEY, "failed-1", BAIT);
    console.go("#/task/failed-1");
    console.sees("DataInspectionFailed");
    console.sees(BAIT);
    let task = shown(&gateway, "/admin/tasks/failed-1");
    let own = task["request_id"].as_str().expect("an id").to_owned();
    console.sees(&own);
    console.press("Ask upstream");
    console.confirm();
    console.sees("Asked.");
    // The search finds the task by the id of its request.
    browser.write("#find", &own);
    browser.press('\u{E007}');
    browser.wait("document.querySelector('main h1').textContent.startsWith('Found for')");
    browser.click("main a[href*='task/failed-1']");
    console.sees("Task failed-1");
    console.go(&format!("#/tasks?request_id={own}"));
    assert_eq!(browser.run("return document.querySelectorAll('tbody tr').length", &[]), 1);
    nothing_was_caught(&console);
}

/// No text became markup, and the browser stopped nothing by the page's policy.
fn nothing_was_caught(console: &Console) {
    let found = "return [window.caught === undefined, document.querySelectorAll('img, body script').length]";
    assert_eq!(console.browser.run(found, &[]), json!([true, 0]));
    console.had_no_fault();
}

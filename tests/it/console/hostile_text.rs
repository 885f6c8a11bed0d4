//! Text that tenants, upstreams and files choose never becomes markup: not as a model, a note, an error or a search.

use serde_json::json;

use super::{BAIT, Console, gateway, run_task, upstream};
use crate::harness::TENANT_KEY;
use crate::harness::browser::Look;

#[test]
fn no_text_of_others_becomes_markup() {
    let upstream = upstream();
    let gateway = gateway(&upstream);
    run_task(&gateway, TENANT_KEY, "t-1", BAIT);
    run_task(&gateway, TENANT_KEY, "failed-1", BAIT);
    let credit = json!({ "id": "invoice-1", "amount": "10.00", "note": BAIT }).to_string();
    assert_eq!(gateway.administer("POST /admin/tenants/acme/credits", &credit).status(), 201);
    let key = json!({ "tenant": "acme", "id": "hostile", "note": BAIT }).to_string();
    assert_eq!(gateway.administer("POST /admin/keys", &key).status(), 201);
    let console = Console::enter(&gateway, Look::default());
    let browser = &console.browser;
    let shown = |place: &str| {
        console.go(place);
        console.sees(BAIT);
        caught_nothing(&console, place);
    };
    shown("#/tasks");
    shown("#/keys");
    shown("#/usage?by=model");
    shown("#/tenant/acme");
    shown("#/task/t-1");
    shown("#/task/failed-1");
    let encoded: String = BAIT.bytes().map(|byte| format!("%{byte:02X}")).collect();
    shown(&format!("#/find/{encoded}"));
    for place in ["#/tenant/", "#/task/", "#/keys?tenant=", "#/tasks?tenant=", "#/usage?model=", "#/"] {
        let place = format!("{place}{encoded}");
        console.go(&place);
        caught_nothing(&console, &place);
    }

    // The gateway's own words for a refusal hold what was written.
    console.go("#/keys");
    browser.click("main .actions .primary");
    browser.write("dialog [name=tenant]", BAIT);
    browser.click("dialog .primary");
    browser.wait("document.querySelector('dialog .bad').textContent !== ''");
    console.sees("<img");
    caught_nothing(&console, "a refusal");
    console.had_no_fault();
}

fn caught_nothing(console: &Console, place: &str) {
    let found = "return [window.caught === undefined, document.querySelectorAll('img, body script').length]";
    assert_eq!(console.browser.run(found, &[]), json!([true, 0]), "{place}");
}

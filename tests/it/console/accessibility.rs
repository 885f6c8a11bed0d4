//! People who see little, or use no mouse, can use the page: axe finds nothing in any view, by day and by night, and on a
//! phone nothing stands out of the screen.

use super::{Console, gateway, run_task, upstream};
use crate::harness::browser::Look;
use crate::harness::{Gateway, TENANT_KEY};

const PLACES: [&str; 11] = [
    "#/now",
    "#/tasks",
    "#/task/t-1",
    "#/tenants",
    "#/tenant/acme",
    "#/keys",
    "#/usage",
    "#/orphans",
    "#/webhooks",
    "#/audit",
    "#/configuration",
];

fn visit(gateway: &Gateway, look: Look) {
    let console = Console::enter(gateway, look);
    for place in PLACES {
        console.go(place);
        let found = console.browser.accessibility();
        assert!(found.is_empty(), "{place}: {found:#?}");
        let wide = "return document.documentElement.scrollWidth <= document.documentElement.clientWidth";
        assert_eq!(console.browser.run(wide, &[]), true, "{place} is wider than the window");
    }
    console.go("#/keys");
    console.browser.click("main .actions .primary");
    console.browser.wait("document.querySelector('dialog')");
    let found = console.browser.accessibility();
    assert!(found.is_empty(), "a dialog: {found:#?}");
}

#[test]
fn axe_finds_nothing_by_day_by_night_and_on_a_phone() {
    let upstream = upstream();
    let gateway = gateway(&upstream);
    run_task(&gateway, TENANT_KEY, "t-1", "wan2.7-t2v");
    run_task(&gateway, TENANT_KEY, "failed-1", "wan2.7-t2v");
    let key = r#"{"tenant":"acme","id":"made-at-run-time"}"#;
    assert_eq!(gateway.administer("POST /admin/keys", key).status(), 201);
    visit(&gateway, Look::default());
    visit(&gateway, Look { is_dark: true, ..Look::default() });
    visit(&gateway, Look { language: "zh-CN", window: (390, 844), ..Look::default() });
}

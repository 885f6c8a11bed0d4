//! Tenants at run time: made, changed, suspended and deleted, over a restart and beside the configuration's own.

use serde_json::{Value, json};

use crate::harness::calls::{GENERATION, check_refusal};
use crate::harness::{Gateway, Message, UPSTREAM_KEY, Upstream, answer, configuration, eventually, message};

fn upstream() -> Upstream {
    Upstream::answering(answer("200 OK", &[], "{}"))
}

fn text(upstream: &Upstream, tenant: &str) -> String {
    let server = "listen = \"127.0.0.1:0\"\nworkers = 1";
    configuration(server, &[("main", upstream.address, &[UPSTREAM_KEY], "")], tenant)
}

fn administer(gateway: &Gateway, line: &str, body: &Value) -> Message {
    gateway.administer(line, &body.to_string())
}

#[track_caller]
fn code(answer: &Message, status: u16) -> String {
    assert_eq!(answer.status(), status, "{}", answer.text());
    answer.json()["code"].as_str().unwrap_or_default().to_owned()
}

/// Makes a key of the tenant, and returns its secret.
fn key_of(gateway: &Gateway, tenant: &str) -> String {
    let made =
        administer(gateway, "POST /admin/keys", &json!({"tenant": tenant, "id": format!("{tenant}-key")}));
    assert_eq!(made.status(), 201, "{}", made.text());
    made.json()["key"].as_str().expect("a secret").to_owned()
}

fn call(gateway: &Gateway, key: &str) -> Message {
    let bearer = format!("Authorization: Bearer {key}");
    gateway.ask(message(&format!("POST {GENERATION}"), &[&bearer], r#"{"model":"qwen-plus"}"#))
}

#[test]
fn a_tenant_is_made_changed_suspended_and_deleted_and_outlasts_a_restart() {
    let upstream = upstream();
    let gateway = Gateway::configured(&text(&upstream, ""));
    let made = administer(&gateway, "POST /admin/tenants", &json!({"name": "shop", "models": ["qwen*"]}));
    assert_eq!(made.status(), 201, "{}", made.text());
    assert_eq!((&made.json()["source"], &made.json()["enabled"]), (&"admin".into(), &true.into()));
    let key = key_of(&gateway, "shop");
    assert_eq!(call(&gateway, &key).status(), 200);
    let narrowed =
        administer(&gateway, "PATCH /admin/tenants/shop", &json!({"models": ["wan*"], "weight": 3}));
    assert_eq!(narrowed.json()["settings"], json!({"models": ["wan*"], "weight": 3}));
    check_refusal(&call(&gateway, &key), 403, "model_not_allowed");
    for (change, limits) in [
        (
            json!({"limits": {"requests_per_second": 5, "burst": 9}}),
            json!({"requests_per_second": 5, "burst": 9}),
        ),
        (json!({"limits": {"requests_per_second": 6}}), json!({"requests_per_second": 6, "burst": 9})),
        (json!({"limits": {"burst": null}, "tokens": {"seconds": null}}), json!({"requests_per_second": 6})),
    ] {
        let changed = administer(&gateway, "PATCH /admin/tenants/shop", &change).json();
        assert_eq!((&changed["settings"]["limits"], &changed["settings"]["tokens"]), (&limits, &Value::Null));
    }
    administer(&gateway, "PATCH /admin/tenants/shop", &json!({"models": null, "enabled": false}));
    check_refusal(&call(&gateway, &key), 403, "suspended");
    let gateway = Gateway::over(gateway.stop(), &text(&upstream, ""));
    check_refusal(&call(&gateway, &key), 403, "suspended");
    assert_eq!(administer(&gateway, "PATCH /admin/tenants/shop", &json!({"enabled": true})).status(), 200);
    assert_eq!(call(&gateway, &key).status(), 200);
    assert_eq!(gateway.administer("DELETE /admin/tenants/shop", "").status(), 200);
    check_refusal(&call(&gateway, &key), 401, "revoked_key");
    assert_eq!(code(&gateway.administer("GET /admin/tenants/shop", ""), 404), "no_such_tenant");
    let again = administer(&gateway, "POST /admin/tenants", &json!({"name": "shop"}));
    assert_eq!(code(&again, 409), "name_taken", "the name is not used again");
    let gateway = Gateway::over(gateway.stop(), &text(&upstream, ""));
    let again = administer(&gateway, "POST /admin/tenants", &json!({"name": "shop"}));
    assert_eq!(code(&again, 409), "name_taken");
}

#[test]
fn settings_are_checked_as_those_of_a_file_and_all_faults_are_told() {
    let upstream = upstream();
    let gateway = Gateway::configured(&text(&upstream, ""));
    let wrong = json!({"name": "shop", "accounts": ["other"], "colour": "red", "keys": []});
    assert_eq!(code(&administer(&gateway, "POST /admin/tenants", &wrong), 422), "bad_tenant");
    let wrong = json!({"name": "shop", "accounts": ["other"], "colour": "red"});
    let got = administer(&gateway, "POST /admin/tenants", &wrong);
    let told = got.json()["faults"].as_array().expect("faults").clone();
    let paths: Vec<&str> = told.iter().filter_map(|fault| fault["path"].as_str()).collect();
    assert!(paths.contains(&"accounts[0]") && paths.contains(&"colour"), "{told:?}");
    assert_eq!(
        code(&administer(&gateway, "POST /admin/tenants", &json!({"name": "a b"})), 422),
        "bad_tenant"
    );
    assert_eq!(code(&administer(&gateway, "POST /admin/tenants", &json!({})), 400), "bad_field");
    assert_eq!(
        code(&administer(&gateway, "POST /admin/tenants", &json!({"name": "one"})), 409),
        "name_taken"
    );
    for line in ["PATCH /admin/tenants/one", "DELETE /admin/tenants/one"] {
        assert_eq!(code(&administer(&gateway, line, &json!({"weight": 2})), 409), "configured_tenant");
    }
    assert_eq!(code(&administer(&gateway, "PATCH /admin/tenants/none", &json!({})), 404), "no_such_tenant");
}

#[test]
fn the_file_and_run_time_never_have_the_same_name() {
    let upstream = upstream();
    let before = text(&upstream, "");
    let gateway = Gateway::from_file(&before);
    administer(&gateway, "POST /admin/tenants", &json!({"name": "shop", "accounts": ["main"]}));
    let with_shop = format!("{before}\n[[tenants]]\nname = \"shop\"\n");
    let refused = gateway.reload(&with_shop);
    assert_eq!(code(&refused, 422), "bad_config");
    assert!(refused.text().contains("the tenant `shop` was made at run time"), "{}", refused.text());
    let renamed = before.replace("name = \"main\"", "name = \"other\"");
    let refused = gateway.reload(&renamed);
    assert!(refused.text().contains("would not be valid: accounts[0]"), "{}", refused.text());
    assert_eq!(gateway.reload(&before.replace("workers = 1", "workers = 2")).status(), 200);
    assert_eq!(gateway.administer("GET /admin/tenants/shop", "").status(), 200);
}

/// A thousand tenants, each change of which builds the directory anew.
#[test]
fn a_thousand_tenants_are_made_and_found() {
    let upstream = upstream();
    let gateway = Gateway::configured(&text(&upstream, ""));
    for number in 0..1000 {
        let made = administer(&gateway, "POST /admin/tenants", &json!({"name": format!("t{number:03}")}));
        assert_eq!(made.status(), 201, "{}", made.text());
    }
    let key = key_of(&gateway, "t999");
    assert_eq!(call(&gateway, &key).status(), 200);
    let listed = gateway.administer("GET /admin/tenants?limit=1000&after=s", "").json();
    assert_eq!(listed["tenants"].as_array().map(Vec::len), Some(1000), "all but `one`, in two pages");
}

#[test]
fn the_command_makes_changes_and_shows_tenants() {
    let upstream = upstream();
    let gateway = Gateway::configured(&text(&upstream, ""));
    let create =
        ["create", "shop", "tenant_limits.concurrent_requests=7", "models=[\"qwen*\"]", "async_header=add"];
    assert_eq!(gateway.printed("tenants", &create), "shop: made\n");
    let key = key_of(&gateway, "shop");
    assert!(gateway.printed("tenants", &["suspend", "shop"]).starts_with("shop: suspended"));
    eventually("the tenant is suspended", || call(&gateway, &key).status() == 403);
    assert!(gateway.printed("tenants", &["resume", "shop"]).starts_with("shop: "));
    assert_eq!(call(&gateway, &key).status(), 200);
    assert_eq!(gateway.printed("tenants", &["set", "shop", "weight=5"]), "shop: changed\n");
    let shown = gateway.printed("tenants", &["show", "shop"]);
    let rows: Vec<Vec<&str>> = shown.lines().map(|line| line.split_whitespace().collect()).collect();
    for row in
        [&["weight", "5"][..], &["source", "admin"], &["use.concurrent_requests", "7"], &["use.running", "0"]]
    {
        assert!(rows.iter().any(|found| found == row), "{row:?} is not in\n{shown}");
    }
    let list = gateway.printed("tenants", &["list"]);
    assert!(list.lines().any(|line| line.starts_with("one ") && line.contains("config")), "{list}");
    let refused = gateway.command("tenants", &["set", "shop", "colour=red"]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(refused.status.code() == Some(1) && said.contains("colour"), "{said}");
    assert_eq!(gateway.command("tenants", &["set", "shop", "weight"]).status.code(), Some(64));
    assert!(gateway.printed("tenants", &["delete", "shop"]).starts_with("shop: deleted"));
}

/// A file that is changed while no gateway runs may name a tenant that was made at run time: it was taken for the made one,
/// and could be changed and deleted by the API.
#[test]
fn a_tenant_of_the_file_is_not_taken_for_one_that_was_made_with_its_name() {
    let upstream = upstream();
    let gateway = Gateway::configured(&text(&upstream, ""));
    assert_eq!(administer(&gateway, "POST /admin/tenants", &json!({"name": "acme"})).status(), 201);
    let shown = |gateway: &Gateway| gateway.administer("GET /admin/tenants/acme", "").json();
    assert_eq!(shown(&gateway)["source"], "admin");
    let of_file = text(&upstream, "").replace("name = \"two\"", "name = \"acme\"");
    let gateway = Gateway::over(gateway.stop(), &of_file);
    assert_eq!(shown(&gateway)["source"], "config");
    assert_eq!(
        code(&administer(&gateway, "PATCH /admin/tenants/acme", &json!({"weight": 2})), 409),
        "configured_tenant"
    );
    assert_eq!(code(&gateway.administer("DELETE /admin/tenants/acme", ""), 409), "configured_tenant");
}

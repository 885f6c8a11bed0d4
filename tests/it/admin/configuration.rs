//! The configuration as the admin API shows it.

use crate::harness::{
    ADMIN_TOKEN, Gateway, OTHER_KEY, TENANT_KEY, UPSTREAM_KEY, Upstream, answer, configuration,
};
use serde_json::json;

#[test]
fn it_is_told_as_loaded_with_the_faults_of_a_refused_file() {
    let upstream = Upstream::answering(answer("200 OK", &[], "{}"));
    let server = "listen = \"127.0.0.1:0\"\nworkers = 1";
    let text = configuration(server, &[("main", upstream.address, &[UPSTREAM_KEY], "")], "weight = 2");
    let gateway = Gateway::from_file(&text);
    let ask = || gateway.administer("GET /admin/config", "").json();
    let first = ask();
    assert_eq!(first["settings"]["server"], json!({ "listen": "127.0.0.1:0", "workers": 1 }));
    assert_eq!(first["settings"]["tenants"][0]["weight"], 2);
    assert_eq!((&first["refused"], &first["needs_restart"]), (&json!(null), &json!([])));
    assert!(first["file"].as_str().is_some_and(|file| file.ends_with("dashgate.toml")), "{first}");

    assert_eq!(gateway.reload(&text.replace("weight = 2", "weight = \"heavy\"")).status(), 422);
    let after = ask();
    assert_eq!(after["settings"], first["settings"], "a file with faults changes nothing");
    assert_eq!(after["refused"]["faults"][0]["path"], "tenants[0].weight", "{after}");

    assert_eq!(gateway.reload(&text.replace("workers = 1", "workers = 2")).status(), 200);
    let last = ask();
    assert_eq!((&last["refused"], &last["needs_restart"]), (&json!(null), &json!(["server.workers"])));
    assert_eq!(last["settings"]["server"]["workers"], 2);

    for shown in [first, after, last] {
        for secret in [ADMIN_TOKEN, UPSTREAM_KEY, TENANT_KEY, OTHER_KEY] {
            assert!(!shown.to_string().contains(secret), "{shown}");
        }
    }
}

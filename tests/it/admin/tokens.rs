//! Several admin tokens, each with a name and a role.

use crate::harness::{
    ADMIN_TOKEN, Gateway, Message, UPSTREAM_KEY, Upstream, answer, client, configuration, eventually, logs,
    message, openapi,
};

const WATCHER: &str = "watcher-4c1d7be09f2a5836";
const OPERATOR: &str = "operator-4c1d7be09f2a5836";

fn ask(gateway: &Gateway, token: &str, line: &str, body: &str) -> Message {
    let fields = [&*format!("Authorization: Bearer {token}"), "Content-Type: application/json"];
    let got = client::once(gateway.admin, message(line, &fields, body));
    openapi::check(line, body, &got);
    got
}

#[test]
fn a_token_is_good_for_what_its_role_says_and_the_audit_names_it() {
    let upstream = Upstream::answering(answer("200 OK", &[], "{}"));
    let server = "listen = \"127.0.0.1:0\"\nworkers = 1";
    let text = configuration(server, &[("main", upstream.address, &[UPSTREAM_KEY], "")], "");
    let token = format!("token = \"{ADMIN_TOKEN}\"");
    let tokens = format!(
        "{token}\ntokens = [{{ name = \"night\", token = \"{WATCHER}\" }}, \
         {{ name = \"ops\", token = \"{OPERATOR}\", role = \"operate\" }}]"
    );
    let gateway = Gateway::from_file(&text.replace(&token, &tokens));
    for token in [ADMIN_TOKEN, WATCHER, OPERATOR] {
        assert_eq!(ask(&gateway, token, "GET /admin/keys", "").status(), 200);
    }
    let key = r#"{"tenant":"one","id":"k-of-the-watch"}"#;
    let refused = ask(&gateway, WATCHER, "POST /admin/keys", key);
    assert_eq!((refused.status(), &refused.json()["code"]), (403, &"read_only".into()));
    for line in ["POST /admin/reload", "DELETE /admin/keys/one-key", "PATCH /admin/tenants/one"] {
        assert_eq!(ask(&gateway, WATCHER, line, "").status(), 403, "{line}");
    }
    // It only looks.
    assert_eq!(ask(&gateway, WATCHER, "POST /admin/keys/find", r#"{"secret":"sk-nobodys"}"#).status(), 404);
    assert_eq!(ask(&gateway, OPERATOR, "POST /admin/keys", key).status(), 201);
    let told = || {
        let logged = logs::captured();
        let is_told = |line: &&str| line.contains("k-of-the-watch") && line.contains("action=\"create_key\"");
        logged.lines().find(is_told).map(str::to_owned)
    };
    eventually("the change is in the audit", || told().is_some());
    let line = told().expect("a line");
    assert!(line.contains("by=\"ops\""), "{line}");
    assert_eq!(ask(&gateway, "another-token-0123", "GET /admin/keys", "").status(), 401);
    // A reload takes a token away.
    assert_eq!(gateway.reload(&text).status(), 200);
    assert_eq!(ask(&gateway, OPERATOR, "GET /admin/keys", "").status(), 401);
}

//! The audit: each change that an operator asks for is a row of the store, which a page, a restart and a command show.

use serde_json::{Value, json};

use super::code;
use crate::harness::{
    ADMIN_TOKEN, Gateway, Message, UPSTREAM_KEY, Upstream, answer, client, configuration, message, openapi,
};

/// Token of the role `operate` with the name `night-shift`.
const NIGHT: &str = "night-5d2c8e1f6a7b9034";
/// Token of the role `read`.
const WATCHER: &str = "watcher-4c1d7be09f2a5836";

fn text(upstream: &Upstream) -> String {
    let server = "listen = \"127.0.0.1:0\"\nworkers = 1";
    let text = configuration(server, &[("main", upstream.address, &[UPSTREAM_KEY], "")], "");
    let token = |name: &str, token: &str, role: &str| {
        format!("[[admin.tokens]]\nname = \"{name}\"\ntoken = \"{token}\"\nrole = \"{role}\"\n")
    };
    text + &token("night-shift", NIGHT, "operate") + &token("watcher", WATCHER, "read")
}

fn with_token(gateway: &Gateway, token: &str, line: &str, body: &str) -> Message {
    let token = format!("Authorization: Bearer {token}");
    let got = client::once(gateway.admin, message(line, &[&token, "Content-Type: application/json"], body));
    openapi::check(line, body, &got);
    got
}

/// The rows that a query finds, of all its pages.
fn rows(gateway: &Gateway, query: &str) -> Vec<Value> {
    let (mut rows, mut after) = (Vec::new(), String::new());
    loop {
        let page = gateway.administer(&format!("GET /admin/audit?limit=2&after={after}{query}"), "");
        assert_eq!(page.status(), 200, "{}", page.text());
        let page = page.json();
        rows.extend(page["audit"].as_array().expect("rows").clone());
        let Some(next) = page["next"].as_str() else { return rows };
        next.clone_into(&mut after);
    }
}

/// Action, object, effect and outcome of each row.
fn told(rows: &[Value]) -> Vec<[&str; 4]> {
    let names = ["action", "object", "effect", "outcome"];
    rows.iter().map(|row| names.map(|name| row[name].as_str().unwrap_or("-"))).collect()
}

#[test]
fn each_change_is_a_row_that_outlives_a_restart() {
    let upstream = Upstream::answering(answer("200 OK", &[], "{}"));
    let gateway = Gateway::configured(&text(&upstream));
    let mut secrets = Vec::new();
    for (token, line, body, status) in [
        (
            ADMIN_TOKEN,
            "POST /admin/keys",
            r#"{"tenant":"one","id":"k1","expires":"30d","note":"for-the-audit"}"#,
            201,
        ),
        (NIGHT, "POST /admin/keys/k1/rotate", "", 200),
        (NIGHT, "DELETE /admin/keys/k9", "", 404),
        (NIGHT, "POST /admin/tenants", r#"{"name":"acme","weight":2}"#, 201),
        (NIGHT, "POST /admin/tenants/acme/credits", r#"{"id":"i-1","amount":"5.00","note":"paid"}"#, 201),
        (ADMIN_TOKEN, "POST /admin/keys", r#"{"tenant":"one","id":"sk-a-secret-by-mistake"}"#, 400),
        (ADMIN_TOKEN, "POST /admin/tokens/rotate", "", 200),
        (ADMIN_TOKEN, "DELETE /admin/keys/k1", "", 200),
    ] {
        let got = with_token(&gateway, token, line, body);
        assert_eq!(got.status(), status, "{line}: {}", got.text());
        secrets.extend(got.json()["key"].as_str().map(str::to_owned));
    }
    // A change that the role of the token forbids is a row, too; a look, or a caller without a token, is none.
    assert_eq!(with_token(&gateway, WATCHER, "DELETE /admin/keys/one-key", "").status(), 403);
    assert_eq!(
        with_token(&gateway, "wrong-token-0123456789", "DELETE /admin/keys/one-key", "").status(),
        401
    );
    let expected = [
        ["revoke_key", "-", "not changed", "read_only"],
        ["revoke_key", "key/k1", "changed", "done"],
        ["rotate_tokens", "browser_tokens", "changed", "done"],
        ["create_key", "-", "not changed", "bad_field"],
        ["enter_credit", "tenant/acme", "changed", "done"],
        ["create_tenant", "tenant/acme", "changed", "done"],
        ["revoke_key", "key/k9", "not changed", "no_such_key"],
        ["rotate_key", "key/k1", "changed", "done"],
        ["create_key", "key/k1", "changed", "done"],
    ];
    let all = rows(&gateway, "");
    assert_eq!(told(&all), expected);
    let found = &all[1..];
    assert!(all[0]["by"].is_string(), "{}", all[0]);
    let by: Vec<&str> = found.iter().map(|row| row["by"].as_str().unwrap_or("-")).collect();
    assert_eq!(by, ["-", "-", "-", "night-shift", "night-shift", "night-shift", "night-shift", "-"]);
    let credit = &found[3];
    assert_eq!(credit["detail"], json!({ "tenant": "acme", "entry": "credit:i-1", "amount": "5" }));
    assert!(credit["peer"].as_str().is_some_and(|peer| peer.starts_with("127.0.0.1:")), "{credit}");
    assert!(credit["token"].is_string() && credit["at"].as_str() > Some("2026"), "{credit}");
    let shown = json!(found).to_string();
    let hidden = ["sk-a-secret", "for-the-audit", NIGHT, ADMIN_TOKEN].map(str::to_owned);
    assert!(secrets.len() == 2 && !hidden.iter().chain(&secrets).any(|text| shown.contains(text)), "{shown}");

    let actions = |query: &str| -> Vec<Value> {
        rows(&gateway, query).iter().map(|row| row["action"].clone()).collect()
    };
    assert_eq!(actions("&object=key%2Fk1"), ["revoke_key", "rotate_key", "create_key"]);
    assert_eq!(actions("&by=night-shift&object=key/k9"), ["revoke_key"]);
    assert_eq!(actions("&by="), ["revoke_key", "rotate_tokens", "create_key", "create_key"]);
    assert_eq!(actions("&by=nobody"), [""; 0]);
    for wrong in ["?limit=0", "?limit=1001", "?after=x", "?tenant=one"] {
        assert_eq!(code(&gateway.administer(&format!("GET /admin/audit{wrong}"), "")).0, 400, "{wrong}");
    }
    let state = gateway.stop();
    let gateway = Gateway::over(state, &text(&upstream));
    assert_eq!(rows(&gateway, ""), all);
}

#[test]
fn a_changed_file_is_a_row_too_and_the_command_shows_it() {
    let upstream = Upstream::answering(answer("200 OK", &[], "{}"));
    let text = text(&upstream);
    let gateway = Gateway::from_file(&text);
    assert_eq!(
        gateway.reload(&text.replace("workers = 1", "workers = 1\nmax_body_bytes = 1000000")).status(),
        200
    );
    assert_eq!(gateway.reload(&text.replace("workers = 1", "workers = \"many\"")).status(), 422);
    let found = rows(&gateway, "&object=config");
    let expected = [
        ["reload", "config", "not changed", "bad_config"],
        ["reload", "config", "changed", "done"],
        ["take_configuration", "config", "changed", "done"],
    ];
    assert_eq!(told(&found), expected);
    assert_eq!(found[2]["detail"]["changes"], "server.max_body_bytes", "{}", found[2]);
    let shown = gateway.printed("audit", &["--object", "config"]);
    let lines: Vec<&str> = shown.lines().collect();
    assert!(lines.len() == 4 && lines[0].starts_with("AT ") && lines[0].contains("  ACTION "), "{shown}");
    assert!(
        lines[3].contains("take_configuration") && lines[3].contains("changes=server.max_body_bytes"),
        "{shown}"
    );
    let column = lines[0].find("ACTION").expect("a column");
    assert!(lines[1][column..].starts_with("reload "), "{shown}");
    let printed = gateway.printed("audit", &["--by", "", "--json"]);
    let json: Vec<Value> = printed.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(json, found);
    // A reload has a command of its own, which tells the faults of a file.
    let refused = gateway.command("reload", &[]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(refused.status.code() == Some(1) && said.contains("server.workers"), "{said}");
}

#[test]
fn a_session_is_told_its_name_and_role() {
    let upstream = Upstream::answering(answer("200 OK", &[], "{}"));
    let gateway = Gateway::configured(&text(&upstream));
    for (token, expected) in [
        (ADMIN_TOKEN, json!({ "name": null, "role": "operate" })),
        (NIGHT, json!({ "name": "night-shift", "role": "operate" })),
        (WATCHER, json!({ "name": "watcher", "role": "read" })),
    ] {
        assert_eq!(with_token(&gateway, token, "GET /admin/session", "").json(), expected);
    }
}

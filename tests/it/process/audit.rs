//! Each change by the admin API, and each try without the token, is a line of the log.

use super::{Process, configured, nowhere, program};
use crate::harness::gateway::administer;
use crate::harness::ports::free_address;
use crate::harness::{ADMIN_TOKEN, client, eventually, message};
use crate::process::upgrade::clients::RawConnection;

/// Number of refused requests, of which only some are logged.
const FLOOD: usize = 200;

#[test]
fn every_change_is_told_with_who_what_and_how_it_ended() {
    let folder = configured(nowhere(), "127.0.0.1:0");
    // Changes are logged, whatever else is suppressed.
    let mut process =
        Process::start(program(folder.path()).arg("serve").env("RUST_LOG", "error,dashgate=info"));
    let admin = process.admin_address();
    let mut secrets = Vec::new();
    for (line, body, expected) in [
        ("POST /admin/keys", r#"{"tenant":"one","id":"k1","expires":"30d"}"#, 201),
        ("POST /admin/keys", r#"{"tenant":"one","id":"k1"}"#, 409),
        ("POST /admin/keys", r#"{"tenant":"nobody-there","id":"k2"}"#, 400),
        ("POST /admin/keys", r#"{"tenant":"one","id":"sk-a-secret-by-mistake"}"#, 400),
        ("POST /admin/keys/k1/rotate", "", 200),
        ("POST /admin/keys/one-key/rotate", "", 409),
        ("DELETE /admin/keys/k1", "", 200),
        ("DELETE /admin/keys/k9", "", 404),
        ("POST /admin/tenants/one/credits", r#"{"id":"i-42","amount":"100.00","note":"paid"}"#, 201),
        ("POST /admin/tenants/one/credits", r#"{"id":"i-42","amount":"99","note":"paid"}"#, 409),
        ("POST /admin/reload", "", 200),
    ] {
        let got = administer(admin, line, body);
        assert_eq!(got.status(), expected, "{line} {body}: {}", got.text());
        secrets.extend(got.json()["key"].as_str().map(str::to_owned));
    }
    for _ in 0..FLOOD {
        let wrong = message("GET /admin/keys", &["Authorization: Bearer a-wrong-token-0123"], "");
        assert_eq!(client::once(admin, wrong).status(), 401);
    }
    administer(admin, "GET /admin/keys", "");
    process.signal("TERM");
    let (_, printed) = process.end();
    let lines: Vec<&str> = printed.lines().filter(|line| line.contains(" audit: ")).collect();
    let logged = |action: &str| -> Vec<&str> {
        let action = format!("action=\"{action}\"");
        lines.iter().copied().filter(|line| line.contains(&action)).collect()
    };
    let check = |action: &str, expected: &[&[&str]]| {
        let logged = logged(action);
        assert_eq!(logged.len(), expected.len(), "{action}: {logged:#?}");
        for (line, words) in logged.iter().zip(expected) {
            assert!(words.iter().all(|word| line.contains(word)), "{words:?} in {line}");
            assert!(line.contains("peer=127.0.0.1:") && line.contains("token="), "{line}");
            assert!(line.starts_with("20") && line.contains('Z'), "no time in {line}");
        }
    };
    check(
        "create_key",
        &[
            &["key_id=\"k1\"", "tenant=\"one\"", "outcome=\"done\"", "until=\"20"],
            &["key_id=\"k1\"", "tenant=\"one\"", "outcome=\"id_taken\""],
            &["key_id=\"k2\"", "outcome=\"unknown_tenant\""],
            &["outcome=\"bad_field\""],
        ],
    );
    check(
        "rotate_key",
        &[
            &["key_id=\"k1\"", "tenant=\"one\"", "outcome=\"done\"", "until=\"20"],
            &["one-key", "configured_key"],
        ],
    );
    check(
        "revoke_key",
        &[&["key_id=\"k1\"", "tenant=\"one\"", "\"done\""], &["key_id=\"k9\"", "no_such_key"]],
    );
    check(
        "enter_credit",
        &[
            &["entry=\"credit:i-42\"", "amount=\"100\"", "tenant=\"one\"", "outcome=\"done\""],
            &["entry=\"credit:i-42\"", "amount=\"99\"", "outcome=\"id_taken\""],
        ],
    );
    check("reload", &[&["outcome=\"done\""]]);
    assert_eq!(logged("sign_in").len(), 10, "{:#?}", logged("sign_in"));
    let planted = ["sk-a-secret-by-mistake", "nobody-there", "a-wrong-token", ADMIN_TOKEN];
    assert!(!planted.iter().any(|text| printed.contains(text)), "{printed}");
    assert!(secrets.len() == 2 && !secrets.iter().any(|secret| printed.contains(secret)), "{printed}");
}

#[test]
fn the_audit_can_be_turned_off_by_name_only() {
    for (asked, expected) in [("warn", true), ("", true), ("off", true), ("info,audit=off", false)] {
        let folder = configured(nowhere(), "127.0.0.1:0");
        // The address can't be read where nothing is logged.
        let admin = free_address();
        let file = folder.path().join("dashgate.toml");
        let text = std::fs::read_to_string(&file).expect("a file");
        let text =
            text.replace("[admin]\nlisten = \"127.0.0.1:0\"", &format!("[admin]\nlisten = \"{admin}\""));
        std::fs::write(&file, text).expect("written");
        let process = Process::start(program(folder.path()).arg("serve").env("RUST_LOG", asked));
        let ask =
            || RawConnection::open(admin).and_then(|mut line| line.ask(&message("GET /livez", &[], "")));
        eventually("it lives", || ask().is_ok_and(|got| got.status() == 200));
        assert_eq!(administer(admin, "POST /admin/keys", r#"{"tenant":"one"}"#).status(), 201);
        process.signal("TERM");
        let (_, printed) = process.end();
        assert_eq!(printed.contains("action=\"create_key\""), expected, "{asked}: {printed}");
    }
}

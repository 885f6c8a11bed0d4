//! Commands about the gateway itself: its health, the admin token from a file, completions and the version.

use std::process::{Command, Output};

use serde_json::Value;

use super::gateway;
use crate::harness::state::is_shared;
use crate::harness::upstream::ClosedPort;
use crate::harness::{ADMIN_TOKEN, Gateway};

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_dashgate")).env_clear().args(arguments).output().expect("the program")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn health(gateway: &Gateway, more: &[&str]) -> Output {
    run(&[&["health", "--admin", &format!("http://{}", gateway.admin)], more].concat())
}

#[test]
fn health_is_zero_while_the_gateway_is_ready() {
    let (_upstream, gateway) = gateway();
    let ready = health(&gateway, &[]);
    assert_eq!((ready.status.code(), text(&ready.stdout)), (Some(0), "ready\n".into()));
    let json: Value = serde_json::from_slice(&health(&gateway, &["--json"]).stdout).expect("JSON");
    assert_eq!(json["status"], "ready");
    let lock = gateway.directory.lock();
    let submit = gateway.administer("POST /admin/keys", r#"{"tenant":"one","id":"k"}"#);
    assert_eq!(submit.status(), 503, "the store can't be written");
    let failing = || {
        let failing = health(&gateway, &[]);
        (failing.status.code(), text(&failing.stderr))
    };
    if is_shared() {
        // A database that is away must not take every replica out of the balancer at once.
        assert_eq!(failing(), (Some(0), String::new()));
    } else {
        let (code, said) = failing();
        assert!(code == Some(1) && said.contains("not ready (store): the store"), "{said}");
    }
    drop(lock);
    gateway.running.drain();
    let (code, said) = failing();
    assert!(code == Some(1) && said.contains("not ready (draining)"), "{said}");
}

#[test]
fn health_tells_a_wrong_listener_and_none_at_all() {
    let (_upstream, gateway) = gateway();
    let clients = run(&["health", "--admin", &format!("http://{}", gateway.address)]);
    let said = text(&clients.stderr);
    assert!(clients.status.code() == Some(1) && said.contains("not as an admin listener does"), "{said}");
    let closed = ClosedPort::reserve();
    let nobody = run(&["health", "--admin", &format!("http://{}", closed.address())]);
    assert!(nobody.status.code() == Some(1), "{}", text(&nobody.stderr));
    assert_eq!(run(&["health", "--admin", "nonsense"]).status.code(), Some(64));
}

#[test]
fn the_admin_token_may_stand_in_a_file() {
    let (_upstream, gateway) = gateway();
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("written");
        path.to_str().expect("a path").to_owned()
    };
    let list = |path: &str| {
        run(&["keys", "list", "--admin", &format!("http://{}", gateway.admin), "--token-file", path])
    };
    let good = list(&file("good", &format!("{ADMIN_TOKEN}\n")));
    assert!(good.status.success() && text(&good.stdout).contains("one-key"), "{}", text(&good.stderr));
    let wrong = list(&file("wrong", "another-token-of-32-characters-00"));
    assert!(wrong.status.code() == Some(1) && text(&wrong.stderr).contains("--token-file"));
    assert_eq!(list("/nowhere/token").status.code(), Some(64));
}

#[test]
fn completions_and_the_version_need_no_gateway() {
    for (shell, word) in
        [("bash", "complete"), ("zsh", "#compdef dashgate"), ("fish", "complete -c dashgate")]
    {
        let printed = run(&["completions", shell]);
        let script = text(&printed.stdout);
        assert!(printed.status.success() && script.contains(word) && script.contains("tasks"), "{shell}");
    }
    let version = text(&run(&["--version"]).stdout);
    let (name, commit) = version.trim().split_once(" (").expect("a commit");
    assert_eq!(name, concat!("dashgate ", env!("CARGO_PKG_VERSION")));
    assert!(commit.ends_with(')') && commit.len() > 4, "{version}");
}

#[test]
fn each_command_for_keys_prints_json() {
    let (_upstream, gateway) = gateway();
    let printed = |arguments: &[&str]| -> Value {
        let printed = gateway.printed("keys", &[arguments, &["--json"]].concat());
        assert_eq!(printed.lines().count(), 1, "{printed}");
        serde_json::from_str(&printed).expect("JSON")
    };
    let made = printed(&["create", "--tenant", "one", "--id", "k1"]);
    assert!(
        made["id"] == "k1" && made["key"].as_str().is_some_and(|key| key.starts_with("sk-dg-")),
        "{made}"
    );
    assert_eq!(printed(&["set", "k1", "--note", "n"])["note"], "n");
    assert_ne!(printed(&["rotate", "k1", "--grace", "0s"])["key"], made["key"]);
    assert_eq!(printed(&["revoke", "k1"])["status"], "revoked");
    let list = gateway.printed("keys", &["list", "--tenant", "one", "--json"]);
    let ids: Vec<Value> = list.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(ids.iter().map(|key| &key["id"]).collect::<Vec<_>>(), ["k1", "one-key"]);
}

#[test]
fn a_table_is_as_wide_as_what_stands_in_it() {
    let (_upstream, gateway) = gateway();
    let long = "a-key-with-an-id-that-is-longer-than-any-column-was";
    gateway.printed("keys", &["create", "--tenant", "one", "--id", long]);
    let list = gateway.printed("keys", &["list", "--tenant", "one"]);
    let lines: Vec<&str> = list.lines().collect();
    let column = lines[0].find("TENANT").expect("a column");
    assert!(
        column == long.len() + 2 && lines[1..].iter().all(|line| line[column..].starts_with("one ")),
        "{list}"
    );
}

#[test]
fn the_accounts_are_shown_with_what_rests() {
    let (_upstream, gateway) = gateway();
    let shown = gateway.printed("accounts", &[]);
    let rows: Vec<Vec<&str>> = shown.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["ACCOUNT", "HOST", "WEIGHT", "RESTS"]);
    assert!(rows.len() == 2 && rows[1][0] == "main" && rows[1][3] == "-", "{shown}");
    let json: Value = serde_json::from_str(&gateway.printed("accounts", &["--json"])).expect("JSON");
    assert_eq!(json["name"], "main");
}

//! `dashgate keys` against the real gateway, and the gateway's log lines at start.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::process::{Child, Command, Output, Stdio};

use super::{ONE, configuration, create, outcome, secret, upstream};
use crate::harness::{ADMIN_TOKEN, Gateway, logs, message, needs_the_file};

fn keys(admin: SocketAddr, arguments: &[&str]) -> Output {
    let admin = format!("http://{admin}");
    let mut command = Command::new(env!("CARGO_BIN_EXE_dashgate"));
    command.env("DASHGATE_ADMIN_TOKEN", ADMIN_TOKEN).env("DASHGATE_ADMIN_URL", "http://127.0.0.1:1");
    command.arg("keys").args(arguments).args(["--admin", &admin]).output().expect("the dashgate binary")
}

fn printed(output: &Output, code: i32) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, error) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{out}{error}");
    if code == 0 { out } else { error }
}

fn secret_in(printed: &str) -> String {
    let word = printed.split_whitespace().find(|word| word.starts_with("sk-dg-"));
    word.unwrap_or_else(|| panic!("no secret in {printed}")).to_owned()
}

#[test]
fn a_key_from_its_making_to_its_end() {
    let upstream = upstream();
    let gateway = Gateway::configured(&configuration(&upstream, ONE));
    let run = |arguments: &[&str]| printed(&keys(gateway.admin, arguments), 0);
    let made = run(&["create", "--tenant", "one", "--id", "ci", "--expires", "30d"]);
    assert!(made.contains("ci: made, for the tenant one, until 20"), "{made}");
    let first = secret_in(&made);
    assert_eq!(outcome(&gateway, &first), "200");
    let second = secret_in(&run(&["rotate", "ci", "--grace", "1h"]));
    assert_eq!((outcome(&gateway, &first), outcome(&gateway, &second)), ("200".into(), "200".into()));
    let changed = run(&["set", "ci", "--expires", "never", "--note", "for CI", "--address", "127.0.0.0/8"]);
    assert_eq!(changed, "ci: changed\n");
    let listed = run(&["list"]);
    assert!(listed.lines().any(|line| line.starts_with("ci ") && line.ends_with(" for CI")), "{listed}");
    assert!(run(&["set", "ci", "--address", "any", "--expires", "30d"]).starts_with("ci: changed, until 20"));
    assert!(listed.lines().any(|line| line.starts_with("ci ") && line.contains(" live ")), "{listed}");
    assert!(listed.lines().any(|line| line.starts_with("one-key ") && line.contains(" config ")), "{listed}");
    assert!(!listed.contains("sk-"));
    assert_eq!(run(&["list", "--tenant", "two"]).lines().count(), 1);
    assert!(run(&["revoke", "ci"]).starts_with("ci: revoked"));
    assert_eq!(outcome(&gateway, &second), "revoked_key");
}

fn find(gateway: &Gateway, secret: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dashgate"));
    command.env("DASHGATE_ADMIN_TOKEN", ADMIN_TOKEN).args(["keys", "find", "--admin"]);
    command.arg(format!("http://{}", gateway.admin)).stdin(Stdio::piped());
    let mut running = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("dashgate");
    running.stdin.take().expect("a pipe").write_all(secret.as_bytes()).expect("a reader");
    running.wait_with_output().expect("an end")
}

#[test]
fn a_found_secret_names_its_owner_and_is_never_told() {
    let upstream = upstream();
    let tenant = r#"{ name = "one", tokens = {}, keys = [{ id = "one-key", key = "sk-one-0123456789" }] }"#;
    let gateway = Gateway::configured(&configuration(&upstream, tenant));
    let first = secret(&create(&gateway, r#"{"tenant":"one","id":"ci"}"#));
    let rotated = gateway.administer("POST /admin/keys/ci/rotate", r#"{"grace":"1h"}"#);
    let second = secret(&rotated.json());
    let bearer = format!("Authorization: Bearer {second}");
    let made = gateway.ask(message("POST /wan/api/v1/tokens?expire_in_seconds=600", &[&bearer], ""));
    let token = made.json()["token"].as_str().expect("a token").to_owned();
    let configured = "one-key: the key, of the configuration, of the tenant one; it works\n\
                      To end it, remove one-key from the configuration, and reload.\n";
    assert_eq!(printed(&find(&gateway, " sk-one-0123456789\r\n"), 0), configured);
    let found = printed(&find(&gateway, &first), 0);
    assert!(
        found.starts_with("ci: the key, made at run time, of the tenant one; it works on for a while"),
        "{found}"
    );
    assert!(
        found.contains(" (end: 20") && found.ends_with("\nTo end it: dashgate keys revoke ci\n"),
        "{found}"
    );
    let found = printed(&find(&gateway, &format!("{second}\n")), 0);
    assert_eq!(
        found,
        "ci: the key, made at run time, of the tenant one; it works\nTo end it: dashgate keys revoke ci\n"
    );
    let found = printed(&find(&gateway, &token), 0);
    assert!(
        found.starts_with(
            "ci: a browser token of the key, made at run time, of the tenant one; it works (end: 20"
        ),
        "{found}"
    );
    // Also after its end.
    assert_eq!(gateway.administer("DELETE /admin/keys/ci", "").status(), 200);
    for ended in [&first, &second, &token] {
        let found = printed(&find(&gateway, ended), 0);
        assert!(found.contains("; it was revoked") && !found.contains("To end it"), "{found}");
    }
    // The forged token has a token's shape, and only its signature is wrong.
    let mut forged = token.clone();
    forged.replace_range(token.len() - 8..token.len() - 7, if token.ends_with('A') { "B" } else { "A" });
    let half = &second[..second.len() - 9];
    for unknown in ["sk-of-nobody-01234", &forged] {
        let error = printed(&find(&gateway, unknown), 1);
        assert!(error.contains("no key has this secret, and none") && !error.contains(unknown), "{error}");
    }
    let error = printed(&find(&gateway, half), 1);
    assert!(error.contains("a character is wrong, or it is not whole") && !error.contains(half), "{error}");
    for nothing in ["", "\n", "sk-a\nsk-b\n"] {
        assert!(printed(&find(&gateway, nothing), 64).contains("standard input"), "{nothing:?}");
    }
    // A secret that stands in the wrong place is not shown either.
    for body in
        [format!("\"{second}\""), format!(r#"{{"{second}":1}}"#), format!(r#"{{"secret":["{second}"]}}"#)]
    {
        let got = gateway.administer("POST /admin/keys/find", &body);
        assert_eq!(got.status(), 400, "{}", got.text());
        assert!(!got.text().contains(&second), "{}", got.text());
    }
    let logged = logs::captured();
    assert!([&first, &second, &token].iter().all(|secret| !logged.contains(&***secret)));
}

#[test]
fn many_keys_are_revoked_at_once_and_each_has_its_result() {
    let upstream = upstream();
    let gateway = Gateway::configured(&configuration(&upstream, ONE));
    let secrets = ["a", "b", "c", "d"].map(|id| {
        let made = create(&gateway, &format!(r#"{{"tenant":"one","id":"{id}"}}"#));
        secret(&made)
    });
    let revoked = keys(gateway.admin, &["revoke", "a", "nothing", "one-key", "b"]);
    let error = printed(&revoked, 1);
    assert!(error.contains("2 of 4 keys were not revoked:\nthere is no key `nothing`"), "{error}");
    assert!(error.contains("change or remove it there, in `keys` of the tenant `one`"), "{error}");
    let out = String::from_utf8_lossy(&revoked.stdout).into_owned();
    assert_eq!(out.lines().map(|line| &line[..10]).collect::<Vec<_>>(), ["a: revoked", "b: revoked"]);
    let outcomes = || secrets.each_ref().map(|secret| outcome(&gateway, secret));
    assert_eq!(outcomes(), ["revoked_key", "revoked_key", "200", "200"]);
    let error = printed(&keys(gateway.admin, &["revoke", "--tenant", "one"]), 64);
    assert!(error.contains("2 key(s) of one would be revoked; add --yes to do it: c d"), "{error}");
    assert_eq!(outcomes()[2..], ["200", "200"]);
    let out = printed(&keys(gateway.admin, &["revoke", "--tenant", "one", "--yes"]), 0);
    assert!(
        out.contains("c: revoked;")
            && out.contains("one: 2 key(s) revoked\n1 key(s) of the configuration stay"),
        "{out}"
    );
    assert_eq!(outcomes()[2..], ["revoked_key", "revoked_key"]);
    assert_eq!(outcome(&gateway, "sk-one-0123456789"), "200");
    assert!(
        printed(&keys(gateway.admin, &["revoke", "--tenant", "one"]), 0).starts_with("one: 0 key(s) revoked")
    );
    for (arguments, code, expected) in [
        (&["revoke", "--tenant", "nobody"][..], 1, "no tenant `nobody`"),
        (&["revoke"], 64, "<IDS>"),
        (&["revoke", "a", "--tenant", "one"], 64, "--tenant"),
        (&["revoke", "c", "a/../b"], 64, "a name has 1 to 64"),
    ] {
        let error = printed(&keys(gateway.admin, arguments), code);
        assert!(error.contains(expected), "{arguments:?}: {error}");
    }
}

#[test]
fn what_goes_wrong_is_told_with_what_to_do() {
    let upstream = upstream();
    let gateway = Gateway::configured(&configuration(&upstream, ONE));
    for (arguments, code, expected) in [
        (&["create", "--tenant", "nobody"][..], 1, "no tenant `nobody` is configured"),
        (&["create", "--tenant", "one", "--id", "one-key"], 1, "choose another id"),
        (&["create", "--tenant", "one", "--expires", "soon"], 1, "`expires` must be a duration like"),
        (&["create"], 64, "--tenant"),
        (&["rotate", "one-key"], 1, "is a key of the configuration"),
        (&["rotate", "one-key", "--grace", "soon"], 64, "--grace"),
        (&["revoke", "nothing"], 1, "there is no key `nothing`"),
        (&["revoke", "sk-dg-0123"], 1, "looks like a secret"),
        (&["revoke", "a/../b"], 64, "a name has 1 to 64"),
        (&["forget"], 64, "forget"),
    ] {
        let error = printed(&keys(gateway.admin, arguments), code);
        assert!(error.contains(expected), "{arguments:?}: {error}");
    }
    // The data listener is no admin listener, and nobody listens on port 1.
    let error = printed(&keys(gateway.address, &["list"]), 1);
    assert!(error.contains("--admin"), "{error}");
    let error = printed(&keys(SocketAddr::from(([127, 0, 0, 1], 1)), &["list"]), 1);
    assert!(error.contains("can't be reached") && error.contains("is the gateway running"), "{error}");
    let mut command = Command::new(env!("CARGO_BIN_EXE_dashgate"));
    command.env_remove("DASHGATE_ADMIN_TOKEN").args(["keys", "list"]);
    assert!(
        printed(&command.output().expect("the dashgate binary"), 64).contains("set DASHGATE_ADMIN_TOKEN")
    );
    let mut command = Command::new(env!("CARGO_BIN_EXE_dashgate"));
    command.env("DASHGATE_ADMIN_TOKEN", "another").args(["keys", "list", "--admin"]);
    command.arg(format!("http://{}", gateway.admin));
    let error = printed(&command.output().expect("the dashgate binary"), 1);
    assert!(error.contains("is not the gateway's token") && !error.contains("another"), "{error}");
}

/// A real gateway, killed when it is dropped.
struct ServerProcess(Child);

impl Drop for ServerProcess {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_start_says_where_it_listens_and_which_keys_clash() {
    if needs_the_file() {
        return;
    }
    let upstream = upstream();
    let gateway = Gateway::configured(&configuration(&upstream, ONE));
    create(&gateway, r#"{"tenant":"one","id":"both"}"#);
    let twin = secret(&create(&gateway, r#"{"tenant":"one","id":"dynamic"}"#));
    let directory = gateway.stop();
    let both = r#"{ name = "one", keys = [{ id = "both", key = "sk-both-0123456789" }] }"#;
    let two = format!(r#"{{ name = "two", keys = [{{ id = "two-key", key = "{twin}" }}] }}"#);
    let store = directory.path().join("dashgate.db");
    let text = configuration(&upstream, &format!("{both}, {two}"));
    let text = format!("store = {{ path = \"{}\" }}\n{text}", store.display())
        .replace("admin = {", "admin = { listen = \"127.0.0.1:0\",");
    let file = directory.path().join("dashgate.toml");
    std::fs::write(&file, text).expect("a file");
    let mut command = Command::new(env!("CARGO_BIN_EXE_dashgate"));
    command.args(["serve", "-c"]).arg(&file).env_remove("RUST_LOG").stderr(Stdio::piped());
    let mut server = ServerProcess(command.spawn().expect("the dashgate binary"));
    let lines = BufReader::new(server.0.stderr.take().expect("a pipe")).lines().map_while(Result::ok);
    let mut said = String::new();
    for line in lines {
        said.push_str(&line);
        said.push('\n');
        if line.contains("ready:") {
            break;
        }
    }
    assert!(
        said.contains("two keys have the id `both`") && said.contains("dashgate keys revoke both"),
        "{said}"
    );
    assert!(said.contains("`two-key` of the configuration has the same secret as `dynamic`"), "{said}");
    assert!(
        said.contains("listening on http://127.0.0.1:") && said.contains("(admin http://127.0.0.1:"),
        "{said}"
    );
    assert!(!said.contains(&twin));
}

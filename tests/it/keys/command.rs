//! `dashgate keys` against the real gateway, and the gateway's log lines at start.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Output, Stdio};

use super::{ONE, configuration, create, outcome, secret, upstream};
use crate::harness::{ADMIN_TOKEN, Gateway, needs_the_file};

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

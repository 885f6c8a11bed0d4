//! Reload of the real program: at SIGHUP, and when one of its files is replaced.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use super::{Process, configured, nowhere, program};
use crate::harness::calls::{bearer, generate};
use crate::harness::gateway::write_config;
use crate::harness::{
    ADMIN_TOKEN, OTHER_KEY, TENANT_KEY, UPSTREAM_KEY, Upstream, answer, client, configuration, eventually,
    let_pass, message,
};

const SERVER: &str = "listen = \"127.0.0.1:0\"\nworkers = 2";
const NEW_KEY: &str = "sk-tenant-new-7c20b5e9f1a84d36";

fn status(address: SocketAddr, key: &str) -> u16 {
    client::once(address, generate("{}").replace(TENANT_KEY, key)).status()
}

fn text(upstream: SocketAddr) -> String {
    configuration(SERVER, &[("main", upstream, &[UPSTREAM_KEY], "")], "")
}

/// Interval at which the program checks its files.
const PERIOD: Duration = Duration::from_millis(200);

#[test]
fn a_signal_reloads_and_a_bad_file_is_told() {
    let upstream = Upstream::answering(answer("200 OK", &[], "{}"));
    let folder = tempfile::tempdir().expect("a folder");
    write_config(folder.path(), &text(upstream.address));
    let mut process = Process::start(program(folder.path()).arg("serve"));
    let (address, admin) = (process.address(), process.admin_address());
    // A key that a configuration will have too.
    let token = format!("Authorization: Bearer {ADMIN_TOKEN}");
    let create = message(
        "POST /admin/keys",
        &[&token, "Content-Type: application/json"],
        r#"{"tenant":"two","id":"clash"}"#,
    );
    assert_eq!(client::once(admin, create).status(), 201);

    let new = text(upstream.address).replace(TENANT_KEY, NEW_KEY).replace("one-key", "fresh");
    write_config(folder.path(), &new.replace("\"fresh\"", "\"clash\""));
    process.signal("HUP");
    eventually("it says so", || process.printed().contains("two keys have the id `clash`"));
    assert!(process.printed().contains("not reloaded, and nothing changed: it has 1 fault(s)"));
    assert_eq!((status(address, NEW_KEY), status(address, TENANT_KEY)), (401, 200));

    write_config(folder.path(), &new.replace("workers = 2", "workers = 3"));
    process.signal("HUP");
    eventually("it says so", || process.printed().contains("takes effect at the next start only"));
    let printed = process.printed();
    let line = |what: &str| printed.lines().any(|line| line.contains(what));
    assert!(line("dashgate.toml: reloaded: keys +fresh -one-key"), "{printed}");
    assert!(line("takes effect at the next start only: server.workers"), "{printed}");
    assert_eq!((status(address, NEW_KEY), status(address, TENANT_KEY)), (200, 401));

    write_config(folder.path(), &new.replace("[admin]", "[adminn]").replace("prefix = \"/\"", "prefix = 7"));
    process.signal("HUP");
    eventually("it says so", || process.printed().contains("mounts[2].prefix: must be a string"));
    let printed = process.printed();
    assert!(printed.contains("not reloaded, and nothing changed"), "{printed}");
    assert!(printed.contains("unknown key `adminn`"), "{printed}");
    assert_eq!(status(address, NEW_KEY), 200);

    write_config(folder.path(), &text(upstream.address));
    process.signal("HUP");
    eventually("it says so", || process.printed().contains("keys +one-key -fresh"));
    assert_eq!(status(address, TENANT_KEY), 200);

    write_config(folder.path(), &text(upstream.address).replace("name = \"two\"", "name = \"three\""));
    process.signal("HUP");
    let homeless = "1 key(s) made at run time are refused, as their tenants are not configured: `clash`;";
    eventually("it says so", || process.printed().contains(homeless));
    process.signal("TERM");
    let (ended, printed) = process.end();
    assert_eq!(ended.code(), Some(0), "{printed}");
    let keys = [UPSTREAM_KEY, TENANT_KEY, NEW_KEY, OTHER_KEY, ADMIN_TOKEN];
    assert!(!keys.iter().any(|key| printed.contains(key)), "{printed}");
}

/// Tenants whose keys are made at run time had a warning each, at each start and reload, that they had no keys.
#[test]
fn tenants_with_keys_made_at_run_time_are_no_warning_and_others_are_named_in_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let tenants: String = (0..8).map(|number| format!("[[tenants]]\nname = \"t{number}\"\n")).collect();
    let text = text(nowhere()) + &tenants;
    write_config(folder.path(), &text);
    let mut process = Process::start(program(folder.path()).arg("serve"));
    let admin = process.admin_address();
    let none =
        "8 tenant(s) have no valid key, so nobody can call as them: `t0`, `t1`, `t2`, `t3`, `t4`, 3 more;";
    assert!(process.printed().contains(none), "{}", process.printed());
    let create = |tenant: &str| {
        let fields = [&*format!("Authorization: Bearer {ADMIN_TOKEN}"), "Content-Type: application/json"];
        let body = format!(r#"{{"tenant":"{tenant}","id":"{tenant}-key"}}"#);
        assert_eq!(client::once(admin, message("POST /admin/keys", &fields, &body)).status(), 201);
    };
    (0..7).for_each(|number| create(&format!("t{number}")));
    process.signal("HUP");
    let one = "1 tenant(s) have no valid key, so nobody can call as them: `t7`; make keys with `dashgate keys create";
    eventually("it says so", || process.printed().contains(one));
    create("t7");
    process.signal("HUP");
    eventually("it is reloaded", || process.printed().matches("reloaded: nothing changed").count() == 2);
    process.signal("TERM");
    let (ended, printed) = process.end();
    assert_eq!(ended.code(), Some(0), "{printed}");
    assert_eq!(printed.matches("no valid key").count(), 2, "{printed}");
}

/// Writes files as Kubernetes mounts a ConfigMap or a Secret: as links through `..data`, which it swaps.
pub(super) fn swap(mount: &Path, version: &str, files: &[(&str, &str)]) {
    let folder = mount.join(version);
    fs::create_dir(&folder).expect("a folder");
    for (name, text) in files {
        fs::write(folder.join(name), text).expect("written");
        if !mount.join(name).exists() {
            symlink(Path::new("..data").join(name), mount.join(name)).expect("linked");
        }
    }
    symlink(version, mount.join("..data_tmp")).expect("linked");
    fs::rename(mount.join("..data_tmp"), mount.join("..data")).expect("renamed");
}

#[test]
fn a_swapped_config_map_and_a_swapped_secret_are_taken_without_a_signal() {
    let upstream = Upstream::answering(answer("200 OK", &[], "{}"));
    let folder = tempfile::tempdir().expect("a folder");
    let (config, secret) = (folder.path().join("config"), folder.path().join("secret"));
    fs::create_dir(&config).expect("a folder");
    fs::create_dir(&secret).expect("a folder");
    let key_file = "{ key_file = \"../secret/upstream\" }";
    let text = text(upstream.address).replace(&format!("{UPSTREAM_KEY:?}"), key_file);
    // A call with a replaced key must get 401, not the limit on failed authentications.
    let text = text.replace("[server]", "[server]\nauth_failures_per_second = 0");
    swap(&secret, "..1", &[("upstream", UPSTREAM_KEY)]);
    swap(&config, "..1", &[("dashgate.toml", &text)]);
    let mut process = Process::start(program(folder.path()).args(["serve", "-c", "config/dashgate.toml"]));
    let address = process.address();
    assert_eq!(status(address, TENANT_KEY), 200);

    swap(&config, "..2", &[("dashgate.toml", &text.replace(TENANT_KEY, NEW_KEY))]);
    eventually("it says so", || process.printed().contains("reloaded: keys ~one-key"));
    assert_eq!((status(address, NEW_KEY), status(address, TENANT_KEY)), (200, 401));

    swap(&secret, "..2", &[("upstream", "sk-upstream-rotated")]);
    eventually("it says so", || process.printed().contains("reloaded: accounts ~main"));
    assert_eq!(status(address, NEW_KEY), 200);
    assert!(upstream.requests().last().is_some_and(|seen| seen.holds("sk-upstream-rotated")));

    swap(&config, "..3", &[("dashgate.toml", "half = [")]);
    eventually("it says so", || process.printed().contains("not reloaded"));
    let_pass(5 * PERIOD);
    assert_eq!(process.printed().matches("not reloaded").count(), 1, "{}", process.printed());
    assert_eq!(status(address, NEW_KEY), 200);
    swap(&config, "..4", &[("dashgate.toml", &text)]);
    eventually("it says so", || process.printed().matches("reloaded: keys ~one-key").count() == 2);
    assert_eq!(status(address, TENANT_KEY), 200);
    process.signal("TERM");
    assert_eq!(process.end().0.code(), Some(0));
}

#[test]
fn a_sidecar_has_nothing_to_reload_and_goes_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = program(folder.path());
    command
        .arg("serve")
        .env("DASHSCOPE_API_KEY", UPSTREAM_KEY)
        .env("DASHGATE_LISTEN", "127.0.0.1:0")
        .env("DASHGATE_UPSTREAM_URL", format!("http://{}", nowhere()));
    let mut process = Process::start(&mut command);
    let address = process.address();
    process.signal("HUP");
    eventually("it says so", || process.printed().contains("nothing to reload"));
    let answered = client::once(address, message("GET /api/v1/tasks", &[&bearer()], ""));
    assert_eq!(answered.status(), 200);
    process.signal("TERM");
    assert_eq!(process.end().0.code(), Some(0));
}

/// Signals may come faster than the files are read.
#[test]
fn many_signals_at_once_do_no_harm() {
    let upstream = Upstream::answering(answer("200 OK", &[], "{}"));
    let folder = configured(upstream.address, "127.0.0.1:0");
    let mut process = Process::start(program(folder.path()).arg("serve"));
    let address = process.address();
    for _ in 0..50 {
        process.signal("HUP");
    }
    eventually("one was heard", || process.printed().contains("reloaded: nothing changed"));
    assert_eq!(status(address, TENANT_KEY), 200);
    process.signal("TERM");
    assert_eq!(process.end().0.code(), Some(0));
}

//! Sources of a configuration: a file, key files, and for a sidecar the environment alone are each read and checked.

use std::fs;

use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::*;

fn directory(files: &[(&str, &str)]) -> TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    for (name, text) in files {
        fs::write(directory.path().join(name), text).expect("a file");
    }
    directory
}

#[test]
fn key_files_stand_wherever_secrets_do() {
    let text = r#"
[admin]
key_file = "admin"
[[accounts]]
name = "a"
base_url = "https://h"
key_file = "upstream"
[[accounts]]
name = "b"
base_url = "https://h"
keys = ["sk-4", { key_file = "${DIR:-.}/other" }]
[[tenants]]
name = "t"
keys = [{ id = "k", key_file = "virtual" }, { id = "l", key = { key_file = "virtual2" } }]
"#;
    let directory = directory(&[
        ("admin", "admin-token-0123\n"),
        ("upstream", "sk-1\r\n\n  sk-2  \n"),
        ("other", "sk-3"),
        ("virtual", "0123456789abcdef\n"),
        ("virtual2", "0123456789abcdeg\n"),
    ]);
    let config = Config::parse(text, directory.path(), &environment).unwrap().config;
    let keys = |index: usize| config.accounts[index].keys.iter().map(Secret::expose).collect::<Vec<_>>();
    assert_eq!(config.settings.admin.token.as_ref().map(Secret::expose), Some("admin-token-0123"));
    assert_eq!((keys(0), keys(1)), (vec!["sk-1", "sk-2"], vec!["sk-4", "sk-3"]));
    let digests: Vec<[u8; 32]> = config.tenants[0].keys.iter().map(|key| key.sha256).collect();
    assert_eq!(digests[0], <[u8; 32]>::from(Sha256::digest("0123456789abcdef")));
    assert_eq!(digests[1], <[u8; 32]>::from(Sha256::digest("0123456789abcdeg")));
}

#[test]
fn key_files_that_hold_no_key() {
    let directory = directory(&[("empty", " \n"), ("two", "sk-1 sk-2"), ("large", &"x".repeat(70_000))]);
    let of = |file: &str| {
        let text = account(&format!("name = \"a\"\nbase_url = \"https://h\"\nkey_file = \"{file}\""));
        problems(&Config::parse(&text, directory.path(), &environment).unwrap_err())
    };
    assert_eq!(of("empty"), ["4:12: accounts[0].key_file: the file empty is empty"]);
    assert_eq!(
        of("none"),
        ["4:12: accounts[0].key_file: the file none cannot be read: there is no such file"]
    );
    assert_eq!(of("."), ["4:12: accounts[0].key_file: the file . cannot be read: it is a directory"]);
    assert_eq!(of("large"), ["4:12: accounts[0].key_file: the file large cannot be read: it is too large"]);
    let two = "a key in line 1 of the file two has a character that is not printable ASCII, or a space";
    assert_eq!(of("two"), [format!("4:12: accounts[0].key_file: {two}")]);
}

#[test]
fn certificate_authorities_are_read_and_checked() {
    let authority = rcgen::generate_simple_self_signed(["h".to_owned()]).unwrap().cert.pem();
    let directory = directory(&[
        ("good.pem", &authority),
        ("none.pem", "nothing"),
        ("bad.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
    ]);
    let of = |file: &str| {
        let more = "name = \"a\"\nbase_url = \"https://h\"\nkeys = [\"sk-1\"]";
        let text = account(&format!("{more}\nca_file = \"{file}\""));
        Config::parse(&text, directory.path(), &environment).map_err(|faults| problems(&faults))
    };
    let config = of("good.pem").unwrap().config;
    assert_eq!(config.accounts[0].ca_pem.as_deref(), Some(authority.as_bytes()));
    assert_eq!(of("none.pem").unwrap_err(), ["5:11: accounts[0].ca_file: has no certificate in it"]);
    let expected = ["5:11: accounts[0].ca_file: has a certificate that cannot be read"];
    assert_eq!(of("bad.pem").unwrap_err(), expected);
}

#[test]
fn a_file_is_loaded() {
    let directory = directory(&[("dashgate.toml", &around("")), ("broken.toml", "x = 1")]);
    let config = Config::load(&directory.path().join("dashgate.toml")).unwrap().config;
    assert_eq!(config.tenants[0].name.as_ref(), "t");
    assert_eq!(Config::load(&directory.path().join("broken.toml")).unwrap_err().len(), 3);
    let faults = Config::load(&directory.path().join("none.toml")).unwrap_err();
    let hint = "give a readable file with -c, or set DASHGATE_CONFIG";
    assert_eq!(
        report("none.toml", &faults),
        format!("none.toml: cannot be read: there is no such file\n    {hint}\n")
    );
}

#[test]
fn a_file_that_is_not_utf8() {
    let directory = directory(&[]);
    let path = directory.path().join("f");
    fs::write(&path, b"a = 1\nb = \"\xff\"").unwrap();
    assert_eq!(problems(&Config::load(&path).unwrap_err()), ["2:6: is not UTF-8"]);
}

#[test]
fn warnings_do_not_stop() {
    let cleartext = around("").replace("https://h", "http://dashscope.example");
    let problem = "accounts[0].base_url: the account `a` sends upstream keys unencrypted to a public host";
    assert_eq!(warnings(&cleartext), [format!("4:12: {problem}")]);
    assert_eq!(warnings(&around("").replace("https://h", "http://127.0.0.1:9000")), [""; 0]);
    let expired = key("{ id = \"i\", key = \"0123456789abcdef\", expires = 2020-01-01T00:00:00Z }");
    let problem = "tenants[0].keys[0].expires: the key `i` of the tenant `t` has expired";
    assert_eq!(warnings(&expired), [format!("7:57: {problem}")]);
    let weightless = around("").replace("keys = [\"sk-1\"]", "keys = [\"sk-1\"]\nweight = 0");
    let problem = "all accounts of the tenant `t` have the weight 0, so that it can call on old tasks only";
    assert_eq!(warnings(&weightless), [format!("7:1: tenants[0]: {problem}")]);
    let named = weightless.replace("name = \"t\"", "name = \"t\"\naccounts = [\"a\"]");
    assert_eq!(warnings(&named), [format!("9:12: tenants[0].accounts: {problem}")]);
}

/// Each of 30 tenants without keys in the file had a warning that nobody could call as it, though all had keys that
/// were made at run time.
#[test]
fn tenants_without_keys_in_the_file_are_a_warning_only_where_none_can_be_made() {
    let tenants: String = (0..30).map(|number| format!("[[tenants]]\nname = \"t{number}\"\n")).collect();
    let keyless = format!("{ACCOUNT}{tenants}");
    assert_eq!(warnings(&format!("{keyless}[admin]\ntoken = \"admin-token-0123\"\n")), [""; 0]);
    let names =
        "the tenant `t0`, the tenant `t1`, the tenant `t2`, the tenant `t3`, the tenant `t4`, 25 more";
    let problem = format!("no keys are given for {names}, and none can be made without `token` in [admin]");
    assert_eq!(warnings(&keyless), [format!("5:1: tenants: {problem}")]);
}

fn sidecar(variables: &[(&str, &str)]) -> Option<Result<Loaded, Vec<String>>> {
    let environment = |name: &str| {
        variables.iter().find(|(variable, _)| *variable == name).map(|(_, value)| (*value).to_owned())
    };
    Config::sidecar(&environment).map(|result| {
        result
            .map_err(|faults| report("environment", &faults).lines().step_by(2).map(str::to_owned).collect())
    })
}

#[test]
fn a_sidecar_needs_a_key_only() {
    assert!(sidecar(&[]).is_none());
    assert!(sidecar(&[("DASHSCOPE_API_KEY", "")]).is_none());
    let Loaded { config, warnings, .. } = sidecar(&[("DASHSCOPE_API_KEY", "sk-1")]).unwrap().unwrap();
    assert_eq!(warnings, []);
    assert!(config.sidecar);
    assert_eq!(config.settings.server.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(config.accounts[0].base_url.host, "dashscope.aliyuncs.com");
    assert_eq!(config.accounts[0].keys[0].expose(), "sk-1");
    let prefixes: Vec<&str> = config.mounts.iter().map(|mount| &*mount.prefix).collect();
    assert_eq!(prefixes, ["/alibabacloudapi", "/wan", "/"]);
    assert_eq!((config.tenants[0].name.as_ref(), config.tenants[0].keys.len()), ("local", 0));
}

#[test]
fn a_sidecar_is_for_its_own_host() {
    let config = sidecar(&[
        ("DASHSCOPE_API_KEY", "sk-1"),
        ("DASHGATE_LISTEN", "[::1]:0"),
        ("DASHGATE_ADMIN_LISTEN", "127.0.0.1:0"),
        ("DASHGATE_STORE_PATH", "/tmp/aside.db"),
        ("DASHGATE_UPSTREAM_URL", "http://127.0.0.1:9000"),
    ]);
    let config = config.unwrap().unwrap().config;
    assert_eq!(config.settings.admin.listen.to_string(), "127.0.0.1:0");
    assert!(config.settings.admin.token.is_none());
    assert_eq!(config.settings.store.path(), Some(Path::new("/tmp/aside.db")));
    assert_eq!(config.settings.server.listen.to_string(), "[::1]:0");
    assert_eq!(config.accounts[0].base_url.port, 9000);
    let quoted = sidecar(&[("DASHSCOPE_API_KEY", "\"sk-1\"")]).unwrap().unwrap_err();
    assert_eq!(quoted, ["environment: DASHSCOPE_API_KEY: has quotes around it"]);
    let two = sidecar(&[("DASHSCOPE_API_KEY", "sk-1,sk-2")]).unwrap().unwrap_err();
    assert_eq!(two, ["environment: DASHSCOPE_API_KEY: is not one key: it has a comma or a semicolon"]);
    let faults = sidecar(&[
        ("DASHSCOPE_API_KEY", "sk 1"),
        ("DASHGATE_LISTEN", "0.0.0.0:8080"),
        ("DASHGATE_UPSTREAM_URL", "https://h/"),
    ]);
    let expected = [
        "environment: DASHSCOPE_API_KEY: has a character that is not printable ASCII, or a space",
        "environment: DASHGATE_LISTEN: is not a loopback address, and a sidecar takes calls without a key",
        "environment: DASHGATE_UPSTREAM_URL: ends in a slash",
    ];
    assert_eq!(faults.unwrap().unwrap_err(), expected);
    for admin in ["127.0.0.1:9000", "0.0.0.0:9000"] {
        let faults = sidecar(&[
            ("DASHSCOPE_API_KEY", "sk-1"),
            ("DASHGATE_LISTEN", "127.0.0.1:9000"),
            ("DASHGATE_ADMIN_LISTEN", admin),
        ]);
        let expected = ["environment: DASHGATE_LISTEN: is the admin listener's address"];
        assert_eq!(faults.unwrap().unwrap_err(), expected);
    }
}

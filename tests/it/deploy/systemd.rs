//! The unit is one that systemd takes, lets nothing in that it can keep out, and fits the gateway that it runs.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use dashgate::config::Config;
use tempfile::TempDir;

use super::tools::{installed, root, run};

#[test]
fn systemd_takes_the_unit_and_finds_it_tight() {
    installed("");
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("dashgate.service");
    // Nothing is installed here, so the program is the one that was built.
    fs::write(&path, unit().replace("/usr/local/bin/dashgate", env!("CARGO_BIN_EXE_dashgate")))
        .expect("written");
    let verified =
        Command::new("systemd-analyze").arg("verify").arg(&path).output().expect("systemd-analyze");
    let said = String::from_utf8_lossy(&verified.stderr);
    assert!(verified.status.success() && !said.contains("dashgate.service"), "{said}");
    // Exposure by `systemd-analyze security`, in tenths, of 100: 15 at most.
    let options = ["security", "--offline=true", "--no-pager", "--threshold=15"];
    run(Command::new("systemd-analyze").args(options).arg(&path), "");
}

#[test]
fn the_unit_s_configuration_is_one_that_the_gateway_takes() {
    let folder = TempDir::new().expect("a folder");
    for name in ["secret_admin.token", "secret_dashscope.key", "secret_acme.key"] {
        fs::write(folder.path().join(name), format!("0123456789abcdef-{name}\n")).expect("written");
    }
    let text = fs::read_to_string(root().join("deploy/systemd/dashgate.toml")).expect("the configuration");
    let credentials = folder.path().display().to_string();
    let environment = |name: &str| (name == "CREDENTIALS_DIRECTORY").then(|| credentials.clone());
    let loaded = Config::parse(&text, Path::new("/etc/dashgate"), &environment);
    let loaded = loaded.unwrap_or_else(|faults| panic!("{faults:?}"));
    assert_eq!(loaded.warnings.len(), 0, "{:?}", loaded.warnings);

    let unit = unit();
    let setting = |name: &str| {
        let found = unit.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        found.unwrap_or_else(|| panic!("no {name}"))
    };
    assert_eq!(setting("LoadCredential"), "secret:/etc/dashgate/secrets");
    let state = Path::new("/var/lib").join(setting("StateDirectory"));
    assert_eq!(loaded.config.settings.store.path().and_then(Path::parent), Some(&*state));
    let patience = humantime::parse_duration(setting("TimeoutStopSec")).expect("a duration");
    assert!(
        patience > loaded.config.settings.server.timeouts.drain + Duration::from_secs(5),
        "a drain is cut"
    );
}

fn unit() -> String {
    fs::read_to_string(root().join("deploy/systemd/dashgate.service")).expect("the unit")
}

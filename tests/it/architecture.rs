//! The dependency rule and the sizes.

use std::fs;
use std::path::{Path, PathBuf};

/// The rooms of ours that each room may use: those that stand to its right in the order of `src/lib.rs`. `main`, `app`
/// and `cli` wire programs together and may use all.
const MAY_USE: &[(&str, &[&str])] = &[
    (
        "admin",
        &[
            "account",
            "config",
            "dashscope",
            "lifecycle",
            "net",
            "polling",
            "store",
            "tasks",
            "telemetry",
            "tenant",
        ],
    ),
    ("server", &["lifecycle", "net", "proxy", "tenant"]),
    ("lifecycle", &["account", "config", "polling", "store", "telemetry", "tenant"]),
    (
        "proxy",
        &[
            "account",
            "config",
            "dashscope",
            "limits",
            "polling",
            "store",
            "tasks",
            "telemetry",
            "tenant",
            "unified",
            "upstream",
        ],
    ),
    ("polling", &["account", "config", "dashscope", "store", "tasks", "telemetry", "tenant", "upstream"]),
    ("tasks", &["dashscope", "limits", "store"]),
    ("tenant", &["account", "config", "dashscope", "net", "store", "telemetry"]),
    ("upstream", &["account", "config", "net", "telemetry"]),
    ("account", &["config", "dashscope", "store", "telemetry"]),
    ("limits", &["config", "dashscope"]),
    ("store", &["dashscope", "unified"]),
    ("telemetry", &["config", "dashscope", "net"]),
    ("config", &["dashscope", "net", "unified"]),
    ("net", &[]),
    ("unified", &["dashscope"]),
    ("dashscope", &[]),
    ("sim", &[]),
    ("lib", &[]),
    ("build", &[]),
];
const WIRING: [&str; 3] = ["main", "app", "cli"];
const MOST_LINES: usize = 500;

#[test]
fn modules_use_only_what_the_rule_allows() {
    for file in sources() {
        let module = module_of(&file);
        if WIRING.contains(&module.as_str()) {
            continue;
        }
        let rule = MAY_USE.iter().find(|(name, _)| *name == module);
        let (_, allowed) = rule.unwrap_or_else(|| panic!("{} is not in the rule", file.display()));
        let text = fs::read_to_string(&file).expect("a source");
        for used in text.split("crate::").skip(1).map(first_name) {
            assert!(
                used == module || allowed.contains(&used.as_str()),
                "{} uses {used}, and {module} may use {allowed:?}",
                file.display()
            );
        }
    }
}

#[test]
fn only_the_demo_and_the_program_know_the_simulator() {
    for file in sources() {
        let text = fs::read_to_string(&file).expect("a source");
        let uses = text.contains("crate::sim") || text.contains("dashgate::sim");
        let may = ["sim", "cli", "main"].contains(&module_of(&file).as_str());
        assert!(!uses || may, "{} uses the simulator", file.display());
    }
}

#[test]
fn no_file_is_longer_than_it_may_be() {
    for file in sources() {
        let lines = fs::read_to_string(&file).expect("a source").lines().count();
        assert!(lines <= MOST_LINES, "{} has {lines} lines", file.display());
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    assert!(found.len() > 20, "sources found: {}", found.len());
    found
}

/// The first name below `src/`: a folder or a file.
fn module_of(file: &Path) -> String {
    let below = file.strip_prefix(root().join("src")).expect("a source");
    let first = below.components().next().expect("a name");
    Path::new(first.as_os_str()).with_extension("").display().to_string()
}

fn first_name(text: &str) -> String {
    text.chars().take_while(|letter| letter.is_ascii_alphanumeric() || *letter == '_').collect()
}

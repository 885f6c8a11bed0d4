//! Metrics that the README, the rules and the dashboard name exist, and what exists is in the README.

use std::collections::BTreeSet;
use std::path::Path;

use super::{Page, upstream};
use crate::harness::calls::{generate, poll, submit};
use crate::harness::{Gateway, message};

/// Each family has a series once something happened that it tells of.
fn families() -> BTreeSet<String> {
    let upstream = upstream("SUCCEEDED");
    let gateway = Gateway::start(upstream.address);
    gateway.ask(generate("busy"));
    gateway.ask(submit());
    gateway.ask(poll("task-1"));
    gateway.ask(message("GET /v1/tasks", &[], ""));
    Page::of(&gateway).families().into_iter().map(str::to_owned).collect()
}

/// The names of ours in a text. A histogram may be named by one of its parts.
fn named(text: &str, families: &BTreeSet<String>) -> BTreeSet<String> {
    let is_letter = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let words = text.split(|letter: char| !is_letter(letter)).filter(|word| word.starts_with("dashgate_"));
    let plain = |word: &str| {
        let family = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| word.strip_suffix(suffix));
        family.filter(|family| families.contains(*family)).unwrap_or(word).to_owned()
    };
    words.map(plain).collect()
}

fn texts(folder: &Path, found: &mut Vec<(String, String)>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            texts(&path, found);
        } else if let Ok(text) = std::fs::read_to_string(&path) {
            found.push((path.display().to_string(), text));
        }
    }
}

#[test]
fn every_metric_that_is_named_exists_and_every_one_is_named() {
    let families = families();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = std::fs::read_to_string(root.join("README.md")).expect("the README");
    let mut deployed = Vec::new();
    texts(&root.join("deploy"), &mut deployed);
    for (path, text) in deployed.iter().chain([&("README.md".to_owned(), readme.clone())]) {
        // Names of recording rules have colons, and stand in no gateway.
        for name in named(text, &families) {
            assert!(families.contains(&name), "{path} names {name}, which is not in /metrics");
        }
    }
    let told = named(&readme, &families);
    for family in families.iter().filter(|family| family.starts_with("dashgate_")) {
        assert!(told.contains(family), "the README does not tell of {family}");
    }
}

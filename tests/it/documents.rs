//! The documents are true: each link leads somewhere, each command and each fragment of a configuration is run or
//! checked, the tables of the guide name what the program has, and the guide says the same in both languages.

mod answers;
mod blocks;
mod commands;
mod configurations;
mod error_messages;
mod examples;
mod languages;
mod links;
mod llms;
mod pictures;
mod shell;
mod tables;
mod walk;
mod words;
mod world;

use std::fs;
use std::path::Path;

/// Largest size of the README in bytes: visitors of the repository and of the package's page read it first.
const LONGEST_README: usize = 9_216;

#[test]
fn the_readme_is_short() {
    let length = read("README.md").len();
    assert!(length <= LONGEST_README, "README.md has {length} bytes: move text to the guide");
}

#[test]
fn the_test_command_of_the_readme_is_what_ci_runs() {
    assert!(read("README.md").lines().any(|line| line == "cargo test"), "the README names no test command");
    assert!(read(".ci/run").lines().any(|line| line == "exec cargo test"), ".ci/run runs something else");
}

/// All pages for people, with their paths.
pub(crate) fn documents() -> Vec<(String, String)> {
    let mut found = vec![("README.md".to_owned(), read("README.md"))];
    for folder in ["benches", "deploy", ".github"] {
        let pages = texts_below(folder).into_iter().filter(|(path, _)| path.ends_with(".md"));
        found.extend(pages);
    }
    assert!(found.len() > 10, "documents found: {}", found.len());
    found
}

/// A page of the guide.
pub(crate) fn guide(page: &str) -> String {
    read(&format!("deploy/guide/en/{page}"))
}

/// The text files below a folder, with their paths.
pub(crate) fn texts_below(folder: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if let Ok(text) = fs::read_to_string(&path) {
                found.push((path.strip_prefix(root()).expect("below the root").display().to_string(), text));
            }
        }
    }
    found.sort();
    found
}

/// The cells of a table's row. A bar in a cell is written `\|`.
pub(crate) fn cells(row: &str) -> Vec<&str> {
    row.trim_matches('|').split(" | ").map(str::trim).collect()
}

/// The pieces of code in a text.
pub(crate) fn in_backticks(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

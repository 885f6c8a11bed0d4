//! Architecture: the order of the rooms in `src`, no circle between files, the sizes of files, and the words.

mod circles;
mod rooms;
mod words;

use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn only_the_demo_and_the_program_know_the_simulator() {
    for file in sources() {
        let uses = file.text.contains("crate::sim") || file.text.contains("dashgate::sim");
        let may = ["sim", "cli", "main"].contains(&file.room());
        assert!(!uses || may, "{} uses the simulator", file.path.display());
    }
}

#[test]
fn no_file_is_longer_than_it_may_be() {
    for file in sources() {
        let lines = file.text.lines().count();
        assert!(lines <= MOST_LINES, "{} has {lines} lines", file.path.display());
    }
}

/// A file below `src`.
struct SourceFile {
    /// The path below the repository's root.
    path: PathBuf,
    /// The module that the file defines, like `["proxy", "send", "forward"]`.
    module: Vec<String>,
    text: String,
}

impl SourceFile {
    fn room(&self) -> &str {
        &self.module[0]
    }
}

fn sources() -> Vec<SourceFile> {
    let mut found = Vec::new();
    let mut folders = vec![root().join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("a source");
                let path = path.strip_prefix(root()).expect("a path below the root").to_owned();
                found.push(SourceFile { module: module_of(&path), path, text });
            }
        }
    }
    assert!(found.len() > 20, "sources found: {}", found.len());
    found.sort_by(|left, right| left.path.cmp(&right.path));
    found
}

fn module_of(path: &Path) -> Vec<String> {
    let names = path.with_extension("");
    let mut module: Vec<String> =
        names.iter().skip(1).map(|name| name.to_str().expect("UTF-8").to_owned()).collect();
    module.pop_if(|name| name == "mod");
    module
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

const MOST_LINES: usize = 500;

//! `llms.txt` and `llms-full.txt`, the guide for language models, are as `deploy/guide/llms.py` makes them.

use std::fs;
use std::process::Command;

use tempfile::TempDir;

use super::links::links;
use super::{guide, read, root};

#[test]
fn both_files_are_as_the_command_makes_them() {
    let folder = TempDir::new().expect("a folder");
    let mut python = Command::new("python3");
    let output =
        python.arg(root().join("deploy/guide/llms.py")).arg(folder.path()).output().expect("python3");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for name in ["llms.txt", "llms-full.txt"] {
        let made = fs::read_to_string(folder.path().join(name)).expect("made");
        let kept = read(&format!("deploy/guide/{name}"));
        assert!(made == kept, "deploy/guide/{name} is old; make it anew with: python3 deploy/guide/llms.py");
    }
}

#[test]
fn both_files_have_every_page() {
    let (list, whole) = (read("deploy/guide/llms.txt"), read("deploy/guide/llms-full.txt"));
    assert!(
        list.starts_with("# ") && list.lines().nth(2).is_some_and(|line| line.starts_with("> ")),
        "{list}"
    );
    let listed = links(&list);
    for link in &listed {
        assert!(root().join("deploy/guide").join(link).exists(), "llms.txt: there is no {link}");
    }
    for entry in fs::read_dir(root().join("deploy/guide/en")).expect("a folder") {
        let name = entry.expect("an entry").file_name().into_string().expect("UTF-8");
        if name.ends_with(".md") {
            let is_listed = listed.contains(&format!("en/{name}"));
            assert!(is_listed || name == "index.md", "llms.txt does not lead to {name}");
            assert!(whole.contains(guide(&name).trim()), "llms-full.txt has no {name}");
        }
    }
}

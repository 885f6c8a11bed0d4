//! The shell commands of the documents, also of blocks that are marked as not run: commands of dashgate are read by the
//! program itself, and for all others the program is known and the files are there.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::{Command, Stdio};

use super::blocks::blocks;
use super::shell::{commands, heredocs};
use super::{documents, in_backticks, read, root};

/// All simple commands, each with the place of its block.
fn all() -> impl Iterator<Item = (String, Vec<String>)> {
    let of_a_block = |block: super::blocks::Block| {
        let place = block.place();
        commands(&block.text).into_iter().map(move |words| (place.clone(), words))
    };
    blocks("sh").into_iter().flat_map(of_a_block)
}

#[test]
fn each_block_is_sound_shell() {
    for block in blocks("sh") {
        let mut bash = Command::new("bash").arg("-n").stdin(Stdio::piped()).spawn().expect("bash");
        bash.stdin.take().expect("a pipe").write_all(block.text.as_bytes()).expect("written");
        assert!(bash.wait().expect("its end").success(), "{}:\n{}", block.place(), block.text);
        for (name, _) in heredocs(&block.text) {
            // `configurations` checks configurations, and `deploy::kubernetes` this kustomization.
            let has_check = name.ends_with(".toml") || name == "kustomization.yaml";
            assert!(has_check, "{}: nothing checks {name}", block.place());
        }
    }
}

#[test]
fn each_command_has_a_program_and_its_files() {
    let mut checked = 0;
    for (place, words) in all() {
        let is_assignment =
            |word: &&String| word.split_once('=').is_some_and(|(name, _)| name.bytes().all(is_of_a_variable));
        let words: Vec<&str> = words.iter().skip_while(is_assignment).map(String::as_str).collect();
        let words = words.strip_prefix(&["sudo"]).unwrap_or(&words);
        let Some((program, arguments)) = words.split_first() else { continue };
        for word in words {
            let path = word.trim_start_matches("../").split(':').next().unwrap_or_default();
            let is_ours = OURS.iter().any(|folder| path.starts_with(folder));
            assert!(!is_ours || root().join(path).exists(), "{place}: there is no {word}");
        }
        match *program {
            "dashgate" | "./target/release/dashgate" => is_read(&place, arguments),
            "podman" if ["run", "exec"].contains(&arguments[0]) => {
                // The last of these words is the image's name, or the program's.
                let is_image = |word: &&str| *word == "dashgate" || word.starts_with("dashgate:0");
                let image = arguments.iter().rposition(is_image).expect("an image");
                is_read(&place, &arguments[image + 1..]);
            }
            "cargo" => is_of_cargo(&place, arguments),
            // `walk` runs them.
            "curl" => {}
            path if OURS.iter().any(|folder| path.starts_with(folder)) => {}
            other => assert!(SYSTEM.contains(&other), "{place}: nothing is known of {other}"),
        }
        checked += 1;
    }
    assert!(checked > 50, "commands checked: {checked}");
}

#[test]
fn each_command_of_dashgate_that_the_text_names_is_one() {
    let mut named = BTreeSet::new();
    for (path, text) in documents() {
        let prose: String = text.split("```").step_by(2).collect();
        let codes = in_backticks(&prose).into_iter().filter(|code| code.starts_with("dashgate "));
        named.extend(codes.map(|code| (path.clone(), code.replace(['[', ']'], ""))));
    }
    assert!(named.len() > 10, "{named:?}");
    for (path, code) in named {
        let words: Vec<&str> = code.split_whitespace().skip(1).collect();
        is_read(&path, &words);
    }
}

/// Checks that the program knows the subcommand and each option: with `--help` it reads all words, and does nothing.
fn is_read(place: &str, arguments: &[&str]) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dashgate"));
    let output = command.args(arguments).arg("--help").output().expect("the dashgate binary");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{place}: dashgate {}: {said}", arguments.join(" "));
}

/// Checks a cargo command: its targets exist, and the words behind `--` are known to the program that cargo runs.
fn is_of_cargo(place: &str, arguments: &[&str]) {
    let mut parts = arguments.splitn(2, |word| *word == "--");
    let own = parts.next().expect("a command");
    let passed = parts.next().unwrap_or_default();
    let manifest: toml::Table = toml::from_str(&read("Cargo.toml")).expect("TOML");
    let target = |kind: &str| {
        let at = own.iter().position(|word| *word == format!("--{kind}"))?;
        let name = own[at + 1];
        let known = manifest[kind].as_array().into_iter().flatten();
        assert!(known.into_iter().any(|one| one["name"].as_str() == Some(name)), "{place}: no {kind} {name}");
        Some(name)
    };
    match own[0] {
        "run" => is_read(place, passed),
        "bench" => are_options_of_a_bench(place, target("bench").expect("a bench"), passed),
        "test" => {
            let folder = if target("test").is_some() { "tests/it" } else { "src" };
            for filter in passed {
                let path = root().join(folder).join(filter.trim_end_matches("::"));
                let is_there = path.exists() || path.with_extension("rs").exists();
                assert!(is_there, "{place}: no tests in {}", path.display());
            }
        }
        other => assert!(["build", "clippy", "fmt"].contains(&other), "{place}: cargo {other}"),
    }
}

/// Checks that the options of a bench are fields of its `Options`, and that its words are points.
fn are_options_of_a_bench(place: &str, bench: &str, words: &[&str]) {
    let source = read(&format!("benches/{bench}/main.rs"));
    let mut takes_value = false;
    for word in words {
        if let Some(option) = word.strip_prefix("--") {
            let field = format!(" {}: ", option.replace('-', "_"));
            let is_switch = source.contains(&format!("{field}bool")) || option == "help";
            assert!(is_switch || source.contains(&field), "{place}: {bench} has no {word}");
            takes_value = !is_switch;
        } else if !std::mem::take(&mut takes_value) {
            let (first, rest) = word.split_at(1);
            let variant = format!(" {}{rest},", first.to_uppercase());
            assert!(source.contains(&variant), "{place}: {bench} has no point {word}");
        }
    }
}

fn is_of_a_variable(byte: u8) -> bool {
    byte.is_ascii_uppercase() || byte == b'_'
}

/// Folders of this repository.
const OURS: [&str; 5] = ["deploy/", "src/", "tests/", "benches/", ".github/"];
/// Programs of the system, which the documents use as everybody does.
const SYSTEM: [&str; 23] = [
    "base64",
    "createdb",
    "logrotate",
    "mv",
    "pg_dump",
    "pg_restore",
    "sed",
    "ssh",
    "podman",
    "kubectl",
    "systemctl",
    "install",
    "openssl",
    "printf",
    "tee",
    "echo",
    "export",
    "mkdir",
    "cat",
    "sha256sum",
    "python",
    "cp",
    "kill",
];

#[test]
fn a_wrong_command_is_noticed() {
    let is_noticed = |check: fn()| std::panic::catch_unwind(check).is_err_and(|_| true);
    assert!(is_noticed(|| is_read("here", &["serve", "--nothing"])));
    assert!(is_noticed(|| is_read("here", &["nothing"])));
    assert!(is_noticed(|| is_of_cargo("here", &["bench", "--bench", "nothing"])));
    assert!(is_noticed(|| are_options_of_a_bench("here", "peers", &["--nothing"])));
    assert!(is_noticed(|| are_options_of_a_bench("here", "peers", &["nothing"])));
}

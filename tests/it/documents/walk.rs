//! Walks: the shell blocks of a page run in a shell, in their order and in one folder, as a reader goes through the page.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::answers;
use super::blocks::{Block, Fate, all};
use super::shell::heredocs;
use super::world::World;
use crate::harness::{let_pass, signal};

#[test]
fn the_commands_of_the_readme_run() {
    walk_pages(|page| page == "README.md");
}

#[test]
fn the_commands_of_the_english_guide_run() {
    walk_pages(|page| page.starts_with("deploy/guide/en/"));
}

#[test]
fn the_commands_of_the_chinese_guide_run() {
    walk_pages(|page| page.starts_with("deploy/guide/zh/"));
}

/// Walks the pages, and tells the faults of all.
fn walk_pages(is_meant: impl Fn(&str) -> bool) {
    crate::clients::installed("curl");
    let mut pages: BTreeMap<String, Vec<Block>> = BTreeMap::new();
    for block in all().into_iter().filter(|block| is_meant(&block.page)) {
        pages.entry(block.page.clone()).or_default().push(block);
    }
    let (mut run, mut faults) = (0, Vec::new());
    for blocks in pages.into_values() {
        let (shell, _): (Vec<&Block>, Vec<&Block>) = blocks.iter().partition(|block| is_walked(block));
        if shell.is_empty() {
            continue;
        }
        match walk(&shell) {
            Ok(outputs) => {
                for (block, output) in shell.iter().zip(&outputs) {
                    let at = blocks.iter().position(|other| other.place() == block.place()).expect("a place");
                    let shown = blocks.get(at + 1).filter(|next| next.is_answer);
                    faults.extend(fault_of_an_answer(block, output, shown));
                }
            }
            Err(fault) => faults.push(fault),
        }
        run += shell.len();
    }
    assert!(faults.is_empty(), "blocks that do not run: {}\n{}", faults.len(), faults.join("\n\n"));
    assert!(run > 0, "no block was run");
}

fn is_walked(block: &Block) -> bool {
    block.language == "sh" && block.fate() == Fate::Run
}

/// The output of a block.
struct BlockOutput {
    out: String,
    error: String,
}

/// Runs the blocks of a page. The error names the block that failed.
fn walk(blocks: &[&Block]) -> Result<Vec<BlockOutput>, String> {
    let text: String = blocks.iter().map(|block| &*block.text).collect();
    let world = World::of(&text);
    let folder = TempDir::new().expect("a folder");
    provide(folder.path(), &world, &text);
    let mut script = super::read(SESSION);
    for (number, block) in blocks.iter().enumerate() {
        let mark = format!("printf '\\n{NEXT}{number}\\n'");
        script += &format!("\n{mark}\n{mark} >&2\n{}", session_text(&world, block));
    }
    let (is_good, out, error) = run(&script, folder.path(), &world);
    let (outs, errors) = (parts(&out), parts(&error));
    if !is_good {
        let last = errors.len().saturating_sub(1);
        let place = blocks.get(last).map_or_else(|| "the session".to_owned(), |block| block.place());
        let out = outs.get(last).map_or("", |text| &**text);
        return Err(format!("{place}: {}\n{}", errors.last().unwrap_or(&error).trim(), end_of(out)));
    }
    assert_eq!((outs.len(), errors.len()), (blocks.len(), blocks.len()), "{out}\n{error}");
    Ok(outs.into_iter().zip(errors).map(|(out, error)| BlockOutput { out, error }).collect())
}

/// Puts into the folder what the page's commands read there: the repository's folders, certificates, a configuration.
fn provide(folder: &Path, world: &World, text: &str) {
    fs::create_dir(folder.join("backups")).expect("a folder");
    for name in ["deploy", "tests", "benches"] {
        std::os::unix::fs::symlink(super::root().join(name), folder.join(name)).expect("a link");
    }
    for file in world.files() {
        fs::copy(&file, folder.join(file.file_name().expect("a name"))).expect("a copy");
    }
    let writes_one = heredocs(text).iter().any(|(name, _)| name == CONFIGURATION);
    // Without a file, `serve` is a sidecar.
    if text.contains(CONFIGURATION) && !writes_one {
        fs::write(folder.join(CONFIGURATION), world.configuration()).expect("written");
    }
}

/// The text of a block, for this world.
fn session_text(world: &World, block: &Block) -> String {
    let mut text = block.text.clone();
    for (name, body) in heredocs(&block.text).into_iter().filter(|(name, _)| name.ends_with(".toml")) {
        // A text that is appended to a file is no whole configuration.
        if text.contains(&format!("cat > {name} <<")) {
            text = text.replace(&body, &world.adapted(&body));
        }
    }
    let text = text.replace("./target/release/dashgate", "dashgate").replace("/backups/", "backups/");
    let lines = world.put_in(&text).lines().map(in_foreground).collect::<Vec<_>>();
    lines.join("\n") + "\n"
}

/// The session itself puts servers into the background, and waits until they are ready.
fn in_foreground(line: &str) -> String {
    let (command, comment) = line.split_once(" #").unwrap_or((line, ""));
    let is_server = ["serve", "sim", "demo"].iter().any(|name| command.contains(&format!("dashgate {name}")));
    match command.trim_end().strip_suffix(" &") {
        Some(command) if is_server && comment.is_empty() => command.to_owned(),
        Some(command) if is_server => format!("{command} #{comment}"),
        Some(_) | None => line.to_owned(),
    }
}

/// Runs a script in bash. Returns whether it succeeded, and what it wrote.
fn run(script: &str, folder: &Path, world: &World) -> (bool, String, String) {
    let written = |name: &str| folder.join(name);
    let file = |name: &str| fs::File::create(written(name)).expect("a file");
    let mut command = Command::new("bash");
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("DASH") || name.ends_with("PROXY"))
    {
        command.env_remove(name);
    }
    // Files take the output, because a server that is left behind would hold a pipe open.
    let mut bash = command
        .args(["-s"])
        .current_dir(folder)
        .env("DASHGATE", env!("CARGO_BIN_EXE_dashgate"))
        .env("RUST_LOG", "info")
        .env("HOME", folder)
        .env("TMPDIR", folder)
        .envs(world.variables())
        .stdin(Stdio::piped())
        .stdout(file(".out"))
        .stderr(file(".error"))
        .process_group(0)
        .spawn()
        .expect("bash");
    // Bash reads the script to its end before it runs it, so that no command can take its lines as input.
    let script = format!("{{\n{script}\nexit 0\n}} </dev/null\n");
    bash.stdin.take().expect("a pipe").write_all(script.as_bytes()).expect("written");
    let deadline = Instant::now() + WALKED_WITHIN;
    let ended = loop {
        if let Some(status) = bash.try_wait().expect("its state") {
            break Some(status);
        }
        if Instant::now() > deadline {
            signal("KILL", &format!("-{}", bash.id()));
            bash.wait().expect("its end");
            break None;
        }
        let_pass(Duration::from_millis(20));
    };
    let is_good = ended.is_some_and(|status| status.success());
    let read = |name: &str| fs::read_to_string(written(name)).expect("text");
    (is_good, read(".out"), read(".error"))
}

/// The output for each block.
fn parts(text: &str) -> Vec<String> {
    let mark = format!("\n{NEXT}");
    text.split(&mark)
        .skip(1)
        .map(|part| part.split_once('\n').map_or("", |(_, text)| text).to_owned())
        .collect()
}

/// Compares what a block's calls have answered with the answer that the page shows.
fn fault_of_an_answer(block: &Block, output: &BlockOutput, shown: Option<&Block>) -> Option<String> {
    let answered = answers::last_json(&output.out);
    let shown = shown.map(|shown| (shown, answers::parse(shown)));
    if let Some((shown, expected)) = &shown {
        let Some(answered) = &answered else {
            return Some(format!("{}: no JSON came of {}: {}", shown.place(), block.place(), output.out));
        };
        if let Err(difference) = answers::compare(expected, answered, "") {
            return Some(format!("{}: {difference}\nThe answer is {answered}", shown.place()));
        }
    }
    let shows_refusal = shown.is_some_and(|(_, expected)| answers::is_refusal(&expected));
    let statuses = output.error.lines().filter_map(|line| line.strip_prefix("@status "));
    let bad = statuses.filter(|status| {
        let is_named = shows_refusal || block.text.lines().any(|line| names_status(line, status));
        !is_named && status.parse::<u16>().is_ok_and(|status| !(100..400).contains(&status))
    });
    let bad: Vec<&str> = bad.collect();
    (!bad.is_empty()).then(|| format!("{}: answered with {bad:?}: {}", block.place(), end_of(&output.out)))
}

/// The last part of an output.
fn end_of(output: &str) -> &str {
    let output = output.trim();
    let start = output.char_indices().rev().nth(SHOWN).map_or(0, |(at, _)| at);
    &output[start..]
}

/// True if the comment of a line names the status: the page shows a refusal.
fn names_status(line: &str, status: &str) -> bool {
    line.split_once('#').is_some_and(|(_, comment)| comment.contains(status))
}

/// Longest time for the blocks of a page.
const WALKED_WITHIN: Duration = Duration::from_secs(120);
const SESSION: &str = "tests/it/documents/session.sh";
/// Stands in both outputs before those of a block, with its number.
const NEXT: &str = "@block ";
/// Characters of an output that a fault shows.
const SHOWN: usize = 1000;
const CONFIGURATION: &str = "dashgate.toml";

#[test]
fn a_block_that_fails_is_named() {
    let block = |text: &str| super::blocks::of_page("README.md", &format!("```sh\n{text}\n```\n")).remove(0);
    let (good, bad) = (block("dashgate keys list"), block("dashgate keys list | grep nobody\necho never"));
    let fault = walk(&[&good, &bad]).err().expect("a fault");
    assert!(fault.starts_with("README.md:1: @failed: grep nobody"), "{fault}");
    let refused = block("curl http://localhost:8080/api/v1/tasks/x");
    let outputs = walk(&[&refused]).expect("outputs");
    let fault = fault_of_an_answer(&refused, &outputs[0], None).expect("a fault");
    assert!(fault.contains("401"), "{fault}");
}

#[test]
fn servers_are_awaited() {
    assert_eq!(in_foreground("dashgate serve -c a.toml &   # b & c"), "dashgate serve -c a.toml # b & c");
    assert_eq!(in_foreground("A=1 dashgate sim &"), "A=1 dashgate sim");
    assert_eq!(in_foreground("sleep 1 &"), "sleep 1 &");
}

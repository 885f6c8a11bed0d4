//! Programs that check the files of `deploy/`, installed by `tests/deploy/setup`.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// Runs a program with this input, and returns its standard output.
///
/// # Panics
/// With the program's whole output, if it ends with another code than 0.
pub(crate) fn run(command: &mut Command, input: &str) -> String {
    let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = spawned.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    // The program may end before it has read everything; its exit code then says why.
    let _ = child.stdin.take().expect("a pipe").write_all(input.as_bytes());
    let output = child.wait_with_output().expect("its output");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{command:?}: {}\n{}{said}", output.status, {
        String::from_utf8_lossy(&output.stderr)
    });
    said
}

/// A path below the directory into which `tests/deploy/setup` installs, after the installation.
pub(crate) fn installed(path: &str) -> PathBuf {
    static SETUP: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let directory = SETUP.get_or_init(|| {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("deploy");
        let setup = root().join("tests/deploy/setup");
        let output = Command::new("bash").arg(setup).arg(&directory).stdin(Stdio::null()).output();
        let output = output.map_err(|error| format!("bash: {error}"))?;
        let said = [output.stdout, output.stderr].concat();
        if output.status.success() { Ok(directory) } else { Err(String::from_utf8_lossy(&said).into_owned()) }
    });
    match directory {
        Ok(directory) => directory.join(path),
        Err(said) => panic!("what deploy/ is held against could not be installed:\n{said}"),
    }
}

pub(crate) fn promtool() -> Command {
    Command::new(installed("bin/promtool"))
}

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

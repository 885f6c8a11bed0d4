//! Programs of other projects that benches compare with.

use std::io;
use std::path::Path;
use std::process::Command;

/// The command that starts a program of `benches/fetch`, which fetches the program if the machine has none.
pub(crate) fn program(name: &str) -> io::Result<Command> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/fetch");
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("peers");
    let found = Command::new("bash").arg(script).arg(name).arg(target).output()?;
    if !found.status.success() {
        return Err(io::Error::other(String::from_utf8_lossy(&found.stderr).into_owned()));
    }
    let words = String::from_utf8_lossy(&found.stdout).trim().to_owned();
    let mut words = words.split_whitespace();
    let mut command = Command::new(words.next().unwrap_or_default());
    command.args(words);
    Ok(command)
}

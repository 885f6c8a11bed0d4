//! Builds the measured programs that cargo has not built already.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::rig::machine;

/// Makes a release build of a package below the repository's target directory, and returns the directory of its
/// programs. The build runs on all processors, although the load may use only some of them.
pub(crate) fn release(package: &str, name: &str, environment: &[(&str, &str)]) -> io::Result<PathBuf> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join(package).join("Cargo.toml");
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name(name);
    let built = Command::new("taskset")
        .args([
            "-c",
            machine::processors()?.as_str(),
            env!("CARGO"),
            "build",
            "--release",
            "--quiet",
            "--bins",
        ])
        .arg("--manifest-path")
        .arg(&manifest)
        .arg("--target-dir")
        .arg(&target)
        .envs(environment.iter().copied())
        .status()?;
    if built.success() {
        Ok(target.join("release"))
    } else {
        Err(io::Error::other(format!("{} can't be built", manifest.display())))
    }
}

//! The programs of PostgreSQL on this machine, and the user that runs them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;

pub(super) struct Programs {
    directory: PathBuf,
    /// User and group of the server where the tests run as root, as whom PostgreSQL refuses to run.
    user: Option<(u32, u32)>,
}

impl Programs {
    /// The programs as `tests/postgres/setup` finds or installs them.
    ///
    /// # Panics
    /// With the advice of the script, if there are none.
    pub(super) fn here() -> &'static Self {
        static FOUND: OnceLock<Result<Programs, String>> = OnceLock::new();
        let found = FOUND.get_or_init(Self::find);
        found.as_ref().unwrap_or_else(|said| panic!("PostgreSQL is not there:\n{said}"))
    }

    fn find() -> Result<Self, String> {
        let setup = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/postgres/setup");
        let output = Command::new("bash").arg(setup).stdin(Stdio::null()).output();
        let output = output.map_err(|error| format!("bash: {error}"))?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        let directory = String::from_utf8_lossy(&output.stdout).trim().into();
        let user = if rustix::process::geteuid().is_root() { Some(unprivileged()?) } else { None };
        Ok(Self { directory, user })
    }

    pub(super) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.directory.join(program));
        command.env_clear().env("LC_ALL", "C").env("PATH", "/usr/bin:/bin");
        if let Some((user, group)) = self.user {
            command.uid(user).gid(group);
        }
        command
    }

    /// User and group of the programs, where the tests run as root.
    pub(super) fn user(&self) -> Option<(u32, u32)> {
        self.user
    }

    /// Gives a file or a directory to the user that runs the programs.
    pub(super) fn own(&self, path: &Path) {
        if let Some((user, group)) = self.user {
            chown(path, Some(user), Some(group)).expect("given away");
        }
    }
}

/// Runs a program to its end.
///
/// # Panics
/// With its output, if it ends with another code than 0.
pub(super) fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{said}", output.status);
}

/// User and group of `postgres`, or of `nobody` where PostgreSQL was installed without a user.
fn unprivileged() -> Result<(u32, u32), String> {
    let users = fs::read_to_string("/etc/passwd").map_err(|error| format!("/etc/passwd: {error}"))?;
    let of = |name: &str| {
        let user =
            users.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|user| user[0] == name)?;
        Some((user.get(2)?.parse().ok()?, user.get(3)?.parse().ok()?))
    };
    of("postgres").or_else(|| of("nobody")).ok_or_else(|| "no user `postgres` and no `nobody`".to_owned())
}

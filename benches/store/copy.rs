//! The copy of an embedded store into PostgreSQL, by the command that an operator uses.

use std::io;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use crate::gateway::{mebibytes, write_configuration};
use crate::rig::postgres::Postgres;

/// Copies the file at `from` into the empty database of the lines of `[store]`.
pub(crate) fn measure(
    program: &Path,
    from: &Path,
    folder: &Path,
    store: &str,
    postgres: &Postgres,
) -> io::Result<()> {
    let file = write_configuration(folder, store)?;
    let began = Instant::now();
    let output =
        Command::new(program).args(["store", "-c"]).arg(file).args(["copy", "--from"]).arg(from).output()?;
    let took = began.elapsed();
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(io::Error::other(format!("the copy ended with {}\n{said}", output.status)));
    }
    println!("copied in {took:.1?}, with {} lines of progress:", said.lines().count());
    print!("{}", String::from_utf8_lossy(&output.stdout));
    let size = postgres.query("SELECT pg_database_size(current_database())")?;
    let bytes: u64 = size.trim().parse().map_err(io::Error::other)?;
    println!("  the database has {:.1} MiB", mebibytes(bytes));
    Ok(())
}

//! The ways to a configuration: a file, a text, or the environment alone.

use std::path::Path;
use std::time::SystemTime;

use toml::de::DeTable;

use super::fault::{Fault, Lines};
use super::interpolate::Environment;
use super::reader::{Reading, Table};
use super::{Config, check, file, secret, sidecar};

/// A configuration that holds, and what the operator should know about it.
#[derive(Debug, Clone)]
pub struct Loaded {
    pub config: Config,
    pub warnings: Vec<Fault>,
}

impl Config {
    /// Reads a file, with variables from the process's environment.
    pub fn load(path: &Path) -> Result<Loaded, Vec<Fault>> {
        let bytes = std::fs::read(path).map_err(|error| {
            let problem = format!("cannot be read: {}", secret::why(&error));
            vec![Fault::elsewhere("", problem, "give a readable file with -c, or set DASHGATE_CONFIG")]
        })?;
        let text =
            std::str::from_utf8(&bytes).map_err(|error| vec![not_utf8(&bytes, error.valid_up_to())])?;
        let directory = path.parent().unwrap_or(Path::new(""));
        Self::parse(text, directory, &|name| std::env::var(name).ok())
    }

    /// Reads a text as if it stood in a file of this directory.
    pub fn parse(text: &str, directory: &Path, environment: Environment<'_>) -> Result<Loaded, Vec<Fault>> {
        let (tree, errors) = DeTable::parse_recoverable(text);
        let reading = Reading::new(text, directory, environment, &errors);
        let file = file::file(Table::root(&reading, tree.get_ref()));
        let config = check::check(&reading, file, SystemTime::now());
        let (faults, warnings) = reading.finish();
        match config {
            Some(config) if faults.is_empty() => Ok(Loaded { config, warnings }),
            Some(_) | None => Err(faults),
        }
    }

    /// The configuration of `DASHSCOPE_API_KEY` without a file; None if it is not set.
    pub fn sidecar(environment: Environment<'_>) -> Option<Result<Loaded, Vec<Fault>>> {
        sidecar::sidecar(environment)
    }
}

fn not_utf8(bytes: &[u8], valid: usize) -> Fault {
    let before = std::str::from_utf8(&bytes[..valid]).unwrap_or_default();
    Fault {
        position: Some(Lines::of(before).position(valid)),
        ..Fault::elsewhere("", "is not UTF-8", "save the file as UTF-8")
    }
}

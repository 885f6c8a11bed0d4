//! Loading a configuration from a file, from a text, or from the environment alone.

use std::path::Path;
use std::time::SystemTime;

use toml::de::DeTable;

use super::fault::{Fault, LineIndex};
use super::files::Files;
use super::interpolate::Environment;
use super::node::Table;
use super::reader::ConfigReader;
use super::{Config, Loaded, check, file, secret, sidecar, written};

impl Config {
    /// Reads a file, with variables from the process's environment.
    pub fn load(path: &Path) -> Result<Loaded, Vec<Fault>> {
        Self::load_with_files(path).1
    }

    /// Like [`Config::load`], and also returns the files that were read, after a fault too.
    pub fn load_with_files(path: &Path) -> (Files, Result<Loaded, Vec<Fault>>) {
        let mut files = Files::default();
        let bytes = match files.read(path, MAX_FILE_BYTES) {
            Ok(bytes) => bytes,
            Err(error) => {
                let problem = format!("cannot be read: {}", secret::why(&error));
                let hint = "give a readable file with -c, or set DASHGATE_CONFIG";
                return (files, Err(vec![Fault::elsewhere("", problem, hint)]));
            }
        };
        let text = match std::str::from_utf8(&bytes) {
            Ok(text) => text,
            Err(error) => return (files, Err(vec![not_utf8(&bytes, error.valid_up_to())])),
        };
        let directory = path.parent().unwrap_or(Path::new(""));
        Self::read(text, directory, &|name| std::env::var(name).ok(), files)
    }

    /// Reads a text as if it stood in a file of this directory.
    pub fn parse(text: &str, directory: &Path, environment: Environment<'_>) -> Result<Loaded, Vec<Fault>> {
        Self::read(text, directory, environment, Files::default()).1
    }

    fn read(
        text: &str,
        directory: &Path,
        environment: Environment<'_>,
        files: Files,
    ) -> (Files, Result<Loaded, Vec<Fault>>) {
        let (tree, errors) = DeTable::parse_recoverable(text);
        let reader = ConfigReader::new(text, directory, environment, &errors, files);
        let file = file::read(Table::root(&reader, tree.get_ref()));
        let config = check::check(&reader, file, SystemTime::now());
        let files = reader.files.take();
        let written = written::written(&reader, tree.get_ref());
        let (faults, warnings) = reader.finish();
        let outcome = match config {
            Some(config) if faults.is_empty() => Ok(Loaded { config, warnings, written }),
            Some(_) | None => Err(faults),
        };
        (files, outcome)
    }

    /// The configuration without a file, from `DASHSCOPE_API_KEY`; `None` if the variable is not set.
    pub fn sidecar(environment: Environment<'_>) -> Option<Result<Loaded, Vec<Fault>>> {
        sidecar::sidecar(environment)
    }
}

fn not_utf8(bytes: &[u8], valid: usize) -> Fault {
    let before = std::str::from_utf8(&bytes[..valid]).unwrap_or_default();
    Fault {
        position: Some(LineIndex::of(before).position(valid)),
        ..Fault::elsewhere("", "is not UTF-8", "save the file as UTF-8")
    }
}

/// A file with a million keys has a tenth of this size.
const MAX_FILE_BYTES: u64 = 1 << 30;

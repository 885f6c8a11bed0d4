//! The configuration in use as operators see it, and the faults of a file that was refused since.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use serde_json::Value;

use crate::config::Fault;

/// The configuration in use.
#[derive(Debug, Clone)]
pub struct ConfigView {
    pub file: PathBuf,
    pub loaded_at: SystemTime,
    /// The file as written, without secrets.
    pub written: Arc<Value>,
    pub warnings: Vec<Fault>,
    /// Settings that take effect at the next start only.
    pub needs_restart: Vec<&'static str>,
    /// The last file, if it was refused.
    pub refused: Option<RefusedFile>,
}

/// A file that changed nothing.
#[derive(Debug, Clone)]
pub struct RefusedFile {
    pub at: SystemTime,
    /// Its first faults.
    pub faults: Vec<Fault>,
}

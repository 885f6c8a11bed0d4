//! The first names of many, for one line of a warning.

use std::fmt;

/// Names of a warning: their number, and the first of them.
#[derive(Debug, Default)]
pub struct NamedFew {
    pub count: usize,
    names: Vec<String>,
}

impl NamedFew {
    /// Adds a name as it is to be shown.
    pub fn note(&mut self, name: impl fmt::Display) {
        self.count += 1;
        if self.names.len() < MOST_NAMED {
            self.names.push(name.to_string());
        }
    }
}

impl fmt::Display for NamedFew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.names.join(", "))?;
        match self.count - self.names.len() {
            0 => Ok(()),
            more => write!(f, ", {more} more"),
        }
    }
}

/// Names that one line has.
const MOST_NAMED: usize = 5;

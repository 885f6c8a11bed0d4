//! Faults of a configuration, with their positions. A fault never holds a value of the file or of the environment,
//! which may be a secret.

use std::fmt::{self, Write as _};

/// One fault for the operator to mend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// `None` for a fault outside the text: an unreadable file, an environment variable.
    pub position: Option<Position>,
    /// Key path, as in `tenants[0].limits.burst`; empty for the whole file.
    pub path: String,
    pub problem: String,
    /// Advice to the operator.
    pub hint: String,
}

/// Line and column of a character. Both count from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    pub line: usize,
    pub column: usize,
}

impl Fault {
    /// A fault outside the text.
    pub(super) fn elsewhere(path: &str, problem: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { position: None, path: path.to_owned(), problem: problem.into(), hint: hint.into() }
    }

    /// `file:line:column: path: problem`, without the hint.
    fn headline(&self, file: &str) -> String {
        let mut line = file.to_owned();
        if let Some(Position { line: row, column }) = self.position {
            let _ = write!(line, "{}{row}:{column}", if file.is_empty() { "" } else { ":" });
        }
        for part in [&self.path, &self.problem] {
            if !part.is_empty() {
                line.push_str(if line.is_empty() { "" } else { ": " });
                line.push_str(part);
            }
        }
        line
    }
}

/// One line for the log.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.headline(""))?;
        if self.hint.is_empty() { Ok(()) } else { write!(f, " ({})", self.hint) }
    }
}

/// A report with a line `file:line:column: problem` for each fault, and the hint on the line below.
pub fn report(file: &str, faults: &[Fault]) -> String {
    let mut text = String::new();
    for fault in faults {
        text.push_str(&fault.headline(file));
        text.push('\n');
        if !fault.hint.is_empty() {
            let _ = writeln!(text, "    {}", fault.hint);
        }
    }
    text
}

/// Sorts faults in the order of the file, and removes duplicates.
pub(super) fn in_order(mut faults: Vec<Fault>) -> Vec<Fault> {
    faults.sort_by_key(|fault| fault.position);
    let mut once: Vec<Fault> = Vec::with_capacity(faults.len());
    for fault in faults {
        let said = once.iter().rev().take_while(|other| other.position == fault.position);
        if !said.into_iter().any(|other| *other == fault) {
            once.push(fault);
        }
    }
    once
}

/// Index of the lines of a text, which turns offsets into positions.
pub(super) struct LineIndex<'a> {
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> LineIndex<'a> {
    pub(super) fn of(text: &'a str) -> Self {
        let starts = std::iter::once(0).chain(memchr::memchr_iter(b'\n', text.as_bytes()).map(|at| at + 1));
        Self { text, starts: starts.collect() }
    }

    pub(super) fn position(&self, offset: usize) -> Position {
        let line = self.starts.partition_point(|start| *start <= offset);
        let start = self.starts[line - 1];
        let before = self.text.as_bytes().get(start..offset).unwrap_or_default();
        // UTF-8 continuation bytes are not counted.
        let column = before.iter().filter(|byte| **byte & 0xc0 != 0x80).count() + 1;
        Position { line, column }
    }

    /// The text of a line, to be inspected and never printed.
    pub(super) fn line(&self, position: Position) -> &'a str {
        let start = self.starts[position.line - 1];
        let end = self.starts.get(position.line).copied().unwrap_or(self.text.len());
        &self.text[start..end]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_characters() {
        let lines = LineIndex::of("a = 1\nname = \"通义\" # x\n");
        assert_eq!(lines.position(0), Position { line: 1, column: 1 });
        assert_eq!(lines.position(6), Position { line: 2, column: 1 });
        assert_eq!(lines.position(6 + "name = \"通义\"".len()), Position { line: 2, column: 12 });
        assert_eq!(lines.position(usize::MAX).line, 3);
    }

    #[test]
    fn a_report_has_a_line_for_the_hint() {
        let faults = [
            Fault::elsewhere("", "cannot be read", ""),
            Fault {
                position: Some(Position { line: 3, column: 7 }),
                path: "server.listen".into(),
                problem: "is wrong".into(),
                hint: "mend it".into(),
            },
        ];
        assert_eq!(report("f", &faults), "f: cannot be read\nf:3:7: server.listen: is wrong\n    mend it\n");
        assert_eq!(faults[1].to_string(), "3:7: server.listen: is wrong (mend it)");
    }
}

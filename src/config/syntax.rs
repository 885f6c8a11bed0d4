//! Syntax errors of the parser, in plain words and without the errors that follow from the first one.

use std::collections::HashSet;

use super::fault::{Fault, LineIndex, Position};

/// Lines for which the parser had to guess the tree.
pub(super) struct UnreliableText {
    lines: HashSet<usize>,
    /// Start of a bracket or brace that is never closed: the rest of the file is unreliable.
    from: Option<Position>,
}

impl UnreliableText {
    pub(super) fn holds(&self, position: Position) -> bool {
        self.lines.contains(&position.line) || self.from.is_some_and(|from| position >= from)
    }
}

/// Syntax faults, at most one per line, and none below the first fault of an unclosed bracket or brace, which would
/// make a fault of each further line. The second value is `None` if the tree is complete.
pub(super) fn syntax_faults(
    lines: &LineIndex<'_>,
    length: usize,
    errors: &[toml::de::Error],
) -> (Vec<Fault>, Option<UnreliableText>) {
    let mut errors: Vec<(Position, &toml::de::Error)> = errors
        .iter()
        .map(|error| (lines.position(error.span().map_or(0, |span| span.start.min(length))), error))
        .collect();
    errors.sort_by_key(|(position, _)| *position);

    let unclosed = errors.iter().any(|(_, error)| error.message().starts_with("unclosed"));
    let runs_on = |error: &toml::de::Error| RUNNING_ON.iter().any(|start| error.message().starts_with(start));
    let from = errors.iter().find(|(_, error)| unclosed && runs_on(error)).map(|(position, _)| *position);

    let mut guessed = HashSet::new();
    let mut faults = Vec::new();
    for (position, error) in errors {
        let repeated = is_repeated_key(error, lines.line(position));
        if from.is_some_and(|from| position > from) || !repeated && !guessed.insert(position.line) {
            continue;
        }
        let (problem, hint) = describe(error.message(), unclosed);
        faults.push(Fault { position: Some(position), ..Fault::elsewhere("", problem, hint) });
    }
    let whole = guessed.is_empty();
    (faults, (!whole).then_some(UnreliableText { lines: guessed, from }))
}

/// A duplicate key leaves the tree complete; a duplicate table header does not.
fn is_repeated_key(error: &toml::de::Error, line: &str) -> bool {
    error.message() == "duplicate key" && !line.trim_start().starts_with('[')
}

/// Describes an error by the message of the parser, which has no text of the file in it; `Display` would print the
/// line.
fn describe(message: &str, unclosed: bool) -> (&str, &'static str) {
    if message == "duplicate key" {
        let hint = "keep one of them; what may stand several times is written with two brackets: [[tenants]]";
        ("the key is written twice", hint)
    } else if message.starts_with("string values must be quoted") {
        ("a value is missing or not in quotes", "write text between double quotes")
    } else if message.ends_with("string, expected `\"`") {
        ("the text is not closed", "put a double quote at its end")
    } else if unclosed && RUNNING_ON.iter().any(|start| message.starts_with(start)) {
        ("a [ or { above is not closed", "look for the last ] or } that is missing")
    } else {
        let message = message.trim_end_matches(", expected nothing");
        (message, "this is not TOML; write key = \"value\", or [table], a line each")
    }
}

/// Messages of the parser for a list that goes on where the operator thought it had ended.
const RUNNING_ON: [&str; 4] = [
    "unclosed array",
    "unclosed inline table",
    "missing key for inline table element",
    "missing comma between",
];

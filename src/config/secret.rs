//! Secrets: written in place, taken from the environment, or read from a file of their own.

use std::io;

use super::Secret;
use super::node::Node;
use super::reader::{Located, Location, ValueFault};

/// A string, or `{ key_file = "path" }` in its place.
pub(super) fn secret(node: &Node<'_>) -> Option<Located<Secret>> {
    let hint = "write it as \"${NAME}\" to take it from the environment, or as { key_file = \"path\" }";
    if node.is_table() {
        let mut table = node.table(hint)?;
        let file = table.required("key_file", hint);
        table.finish();
        return secret_in_file(&file?);
    }
    let (text, variables) = node.interpolated("a string or { key_file = \"path\" }", hint)?;
    if text.is_empty() {
        let hint = match (variables.as_slice(), node.raw()) {
            ([name], Some(raw)) if raw == format!("${{{name}}}") => {
                "the environment variable is set to nothing"
            }
            _ => hint,
        };
        node.reader.fault(&node.location, "is empty", hint);
        return None;
    }
    let secret = Located { value: text, location: node.location.clone() };
    node.reader.check(&secret, checked).map(|value| Located { value, location: secret.location })
}

/// The one secret that a file holds.
pub(super) fn secret_in_file(node: &Node<'_>) -> Option<Located<Secret>> {
    let (text, shown) = text_in_file(node)?;
    secret_of_line(node, text.trim(), &shown)
}

/// The secrets that a file holds, one a line.
pub(super) fn secrets_in_file(node: &Node<'_>) -> Option<Vec<Located<Secret>>> {
    let (text, shown) = text_in_file(node)?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.map(|line| secret_of_line(node, line, &shown)).collect()
}

fn text_in_file(node: &Node<'_>) -> Option<(String, String)> {
    let (bytes, shown) = bytes_in_file(node, MAX_KEY_FILE_BYTES)?;
    let Ok(text) = String::from_utf8(bytes) else {
        node.reader.fault(&node.location, format!("{shown} is not text"), "one key a line, nothing else");
        return None;
    };
    if text.trim().is_empty() {
        node.reader.fault(&node.location, format!("{shown} is empty"), "put the key into this file");
        return None;
    }
    Some((text, shown))
}

/// Reads a file, and returns its path as faults may show it: as the operator wrote it, with variables not replaced.
pub(super) fn bytes_in_file(node: &Node<'_>, limit: u64) -> Option<(Vec<u8>, String)> {
    let path = node.string("write the path of a file, relative to this file's directory")?;
    let raw = node.raw().unwrap_or_default();
    let shown = if looks_like_a_path(raw) { format!("the file {raw}") } else { "the file".to_owned() };
    let found = node.reader.directory.join(&path.value);
    let bytes = node.reader.files.borrow_mut().read(&found, limit);
    match bytes {
        Ok(bytes) => Some((bytes, shown)),
        Err(error) => {
            let hint = if looks_like_a_path(raw) {
                "a relative path starts at this file's directory"
            } else {
                "give a path; what is written here is not shown, as it looks like a secret"
            };
            node.reader.fault(&node.location, format!("{shown} cannot be read: {}", why(&error)), hint);
            None
        }
    }
}

/// Describes an I/O error in plain words.
pub(super) fn why(error: &io::Error) -> String {
    let words = [
        (io::ErrorKind::NotFound, "there is no such file"),
        (io::ErrorKind::PermissionDenied, "permission denied"),
        (io::ErrorKind::IsADirectory, "it is a directory"),
        (io::ErrorKind::FileTooLarge, "it is too large"),
    ];
    let known = words.iter().find(|(kind, _)| *kind == error.kind());
    known.map_or_else(|| error.kind().to_string(), |(_, words)| (*words).to_owned())
}

fn secret_of_line(node: &Node<'_>, line: &str, shown: &str) -> Option<Located<Secret>> {
    match checked(line) {
        Ok(value) => Some(Located { value, location: node.location.clone() }),
        Err(ValueFault { problem, hint }) => {
            node.reader.fault(&node.location, format!("a key in {shown} {problem}"), hint);
            None
        }
    }
}

/// A secret that can stand in a header.
pub(super) fn checked(text: &str) -> Result<Secret, ValueFault> {
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(ValueFault::new(
            "has a character that is not printable ASCII, or a space",
            "check for a line end, quotes or several keys",
        ));
    }
    if text.strip_prefix('$').is_some_and(is_variable) {
        return Err(ValueFault::new("looks like a variable without braces", "write it as \"${NAME}\""));
    }
    Ok(Secret::new(text))
}

fn is_variable(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_')
}

/// Checks the length of a tenant's key.
pub(super) fn check_virtual_key(secret: &Located<Secret>) -> Result<(), (Location, ValueFault)> {
    if secret.value.expose().len() >= MIN_VIRTUAL_KEY_BYTES {
        return Ok(());
    }
    let problem = format!("is shorter than {MIN_VIRTUAL_KEY_BYTES} bytes, and could be guessed");
    Err((secret.location.clone(), ValueFault::new(problem, "make one with: openssl rand -hex 24")))
}

/// Tells whether a path may be shown: an operator may write a secret instead of a path by mistake.
fn looks_like_a_path(raw: &str) -> bool {
    let random = |run: &str| {
        let letters = run.bytes().any(|byte| byte.is_ascii_alphabetic());
        run.len() >= 32 || run.len() >= 12 && letters && run.bytes().any(|byte| byte.is_ascii_digit())
    };
    !raw.contains("sk-")
        && !raw.chars().any(char::is_control)
        && !raw.split(|c: char| !c.is_ascii_alphanumeric()).any(random)
}

const MAX_KEY_FILE_BYTES: u64 = 64 * 1024;
const MIN_VIRTUAL_KEY_BYTES: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_shown_and_secrets_are_not() {
        for path in ["acme.key", "/run/secrets/dashgate-key", "../k8s/2026-01/key1", "${DIR}/key"] {
            assert!(looks_like_a_path(path), "{path}");
        }
        for secret in ["sk-abc", "0f9a8b7c6d5e4f3a2b1c", "x/0f9a8b7c6d5e4f3a2b1c", "a\nb"] {
            assert!(!looks_like_a_path(secret), "{secret}");
        }
    }

    #[test]
    fn secrets_fit_a_header() {
        for fine in ["sk-123", "$", "$$A", "$aB1", "a=b/c+d"] {
            assert!(checked(fine).is_ok(), "{fine}");
        }
        for wrong in ["a b", "a\n", "ключ", "$ACME_KEY", "a\0"] {
            assert!(checked(wrong).is_err(), "{wrong}");
        }
    }
}

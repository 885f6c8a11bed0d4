//! Secrets: written in place, taken from the environment, or read from a file of their own.

use std::io;

use super::node::Node;
use super::reader::{Located, Text, ValueFault};
use super::{Secret, scalar};

/// A string, or `{ key_file = "path" }` in its place.
pub(super) fn secret(node: &Node<'_>) -> Option<Located<Secret>> {
    node.reader.hide(&node.location);
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

/// The password that a file holds, which may have blanks and any letters in it. One line end behind it is not its own.
pub(super) fn password_in_file(node: &Node<'_>) -> Option<Located<Secret>> {
    let (text, shown) = text_in_file(node)?;
    let password = text.strip_suffix('\n').unwrap_or(&text);
    let password = password.strip_suffix('\r').unwrap_or(password);
    if password.chars().any(char::is_control) {
        let problem = format!("{shown} has more than one line, or a control character");
        node.reader.fault(&node.location, problem, "put the password alone into it");
        return None;
    }
    Some(Located { value: Secret::new(password), location: node.location.clone() })
}

/// The secrets that a file holds, one a line.
pub(super) fn secrets_in_file(node: &Node<'_>) -> Option<Vec<Located<Secret>>> {
    let (text, shown) = text_in_file(node)?;
    let lines = text.lines().zip(1..).map(|(line, number)| (line.trim(), number));
    let keys = lines.filter(|(line, _)| !line.is_empty());
    keys.map(|(line, number)| secret_of_line(node, line, &format!("line {number} of {shown}"))).collect()
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
    let shown = if may_be_shown(raw) { format!("the file {raw}") } else { "the file".to_owned() };
    let found = node.reader.directory.join(&path.value);
    let bytes = node.reader.files.borrow_mut().read(&found, limit);
    match bytes {
        Ok(bytes) => Some((bytes, shown)),
        Err(error) => {
            let hint = if may_be_shown(raw) {
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
    // Docker's --env-file and systemd's credentials keep quotes.
    if QUOTES.iter().any(|quote| text.len() > 1 && text.starts_with(*quote) && text.ends_with(*quote)) {
        return Err(ValueFault::new(
            "has quotes around it",
            "leave them off: here they belong to the secret",
        ));
    }
    if text.strip_prefix('$').is_some_and(is_variable) {
        return Err(ValueFault::new("looks like a variable without braces", "write it as \"${NAME}\""));
    }
    Ok(Secret::new(text))
}

/// Checks that a secret can be a key of DashScope, which is sent as `Authorization: Bearer` and is a `b64token` therefore
/// (RFC 6750, section 2.1).
pub(super) fn check_upstream_key(secret: &Secret) -> Result<(), ValueFault> {
    let is_fine = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte);
    let unpadded = secret.expose().trim_end_matches('=');
    if !unpadded.is_empty() && unpadded.bytes().all(is_fine) {
        return Ok(());
    }
    Err(if unpadded.contains([',', ';']) {
        let hint =
            "give each key a text of its own, as in keys = [\"${ONE}\", \"${TWO}\"], or a line in `key_file`";
        ValueFault::new("is not one key: it has a comma or a semicolon", hint)
    } else if unpadded.contains(QUOTES) {
        ValueFault::new("has a quote in it", "copy the key alone, like sk-..., without quotes")
    } else {
        let hint = "copy the key alone, like sk-..., without its name and without brackets";
        ValueFault::new("has a character that no key of DashScope has", hint)
    })
}

/// Checks that a secret that callers of this gateway present can't be guessed.
pub(super) fn check_length(secret: &Secret) -> Result<(), ValueFault> {
    if secret.expose().len() >= SHORTEST_BYTES {
        return Ok(());
    }
    let problem = format!("is shorter than {SHORTEST_BYTES} bytes, and could be guessed");
    Err(ValueFault::new(problem, "make one with: openssl rand -hex 24"))
}

fn is_variable(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_')
}

/// The item that a warning is about, by its name: the key path has only its number in the file. The name is left out if
/// it may be a secret in the wrong place.
pub(super) fn shown(name: &Option<Text>, kind: &str) -> String {
    match name.as_ref().filter(|name| may_be_shown(&name.value) && scalar::name(&name.value).is_ok()) {
        Some(name) => format!("the {kind} `{}`", name.value),
        None => format!("this {kind}"),
    }
}

/// Tells whether a path or a name may be shown: an operator may write a secret in its place by mistake.
pub(super) fn may_be_shown(raw: &str) -> bool {
    let random = |run: &str| {
        let letters = run.bytes().any(|byte| byte.is_ascii_alphabetic());
        run.len() >= 32 || run.len() >= 12 && letters && run.bytes().any(|byte| byte.is_ascii_digit())
    };
    !raw.contains("sk-")
        && !raw.chars().any(char::is_control)
        && !raw.split(|c: char| !c.is_ascii_alphanumeric()).any(random)
}

const MAX_KEY_FILE_BYTES: u64 = 64 * 1024;
/// Least length of a virtual key and of the admin token.
const SHORTEST_BYTES: usize = 16;
const QUOTES: [char; 3] = ['"', '\'', '`'];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_shown_and_secrets_are_not() {
        for path in ["acme.key", "/run/secrets/dashgate-key", "../k8s/2026-01/key1", "${DIR}/key"] {
            assert!(may_be_shown(path), "{path}");
        }
        for secret in ["sk-abc", "0f9a8b7c6d5e4f3a2b1c", "x/0f9a8b7c6d5e4f3a2b1c", "a\nb"] {
            assert!(!may_be_shown(secret), "{secret}");
        }
    }

    #[test]
    fn secrets_fit_a_header() {
        for fine in ["sk-123", "$", "$$A", "$aB1", "a=b/c+d"] {
            assert!(checked(fine).is_ok(), "{fine}");
        }
        for wrong in ["a b", "a\n", "ключ", "$ACME_KEY", "a\0", "\"sk-1\"", "'sk-1'"] {
            assert!(checked(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_upstream_key_is_one_bearer_token() {
        let check = |key: &str| check_upstream_key(&Secret::new(key)).map_err(|fault| fault.problem);
        for fine in ["sk-1", "sk-ws-H.a_b~c/d+e==", "st-0f9a", "0"] {
            assert_eq!(check(fine), Ok(()), "{fine}");
        }
        for (wrong, problem) in [
            ("sk-1,sk-2", "is not one key: it has a comma or a semicolon"),
            ("sk-1;sk-2", "is not one key: it has a comma or a semicolon"),
            ("\"sk-1\",\"sk-2\"", "is not one key: it has a comma or a semicolon"),
            ("sk-1\"", "has a quote in it"),
            ("'sk-1", "has a quote in it"),
            ("DASHSCOPE_API_KEY=sk-1", "has a character that no key of DashScope has"),
            ("<sk-1>", "has a character that no key of DashScope has"),
            ("${KEY}", "has a character that no key of DashScope has"),
            ("==", "has a character that no key of DashScope has"),
        ] {
            assert_eq!(check(wrong), Err(problem.to_owned()), "{wrong}");
        }
    }
}

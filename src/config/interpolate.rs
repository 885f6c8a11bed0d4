//! `${NAME}` and `${NAME:-default}` in strings; `$${` stands for `${`.

/// Source of variables: the process, or a test.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// A string with its variables replaced.
pub(super) struct Interpolated<'a> {
    pub(super) text: String,
    /// Names of the variables.
    pub(super) variables: Vec<&'a str>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum InterpolationFault<'a> {
    /// The variable is not set and has no default.
    Unset(&'a str),
    /// The text between the braces is not the name of a variable.
    BadName,
    /// The default contains a variable.
    Nested,
    /// The closing `}` is missing.
    Unclosed,
}

/// Replaces the variables of a string.
///
/// # Errors
/// All faults of the string at once.
pub(super) fn interpolate<'a>(
    raw: &'a str,
    environment: Environment<'_>,
) -> Result<Interpolated<'a>, Vec<InterpolationFault<'a>>> {
    let mut text = String::with_capacity(raw.len());
    let mut variables = Vec::new();
    let mut flaws = Vec::new();
    let mut rest = raw;
    while let Some(at) = rest.find("${") {
        let (before, from) = rest.split_at(at);
        if let Some(before) = before.strip_suffix('$') {
            text.push_str(before);
            text.push_str("${");
            rest = &from[2..];
            continue;
        }
        text.push_str(before);
        let Some(end) = from.find('}') else {
            flaws.push(InterpolationFault::Unclosed);
            rest = "";
            break;
        };
        let (name, default) = match from[2..end].split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (&from[2..end], None),
        };
        rest = &from[end + 1..];
        if !is_name(name) {
            flaws.push(InterpolationFault::BadName);
            continue;
        }
        if default.is_some_and(|default| default.contains("${")) {
            flaws.push(InterpolationFault::Nested);
            continue;
        }
        variables.push(name);
        // As in a shell, `:-` also replaces an empty variable.
        match (environment(name).filter(|value| default.is_none() || !value.is_empty()), default) {
            (Some(value), _) => text.push_str(&value),
            (None, Some(default)) => text.push_str(default),
            (None, None) => flaws.push(InterpolationFault::Unset(name)),
        }
    }
    text.push_str(rest);
    if flaws.is_empty() { Ok(Interpolated { text, variables }) } else { Err(flaws) }
}

fn is_name(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with(|c: char| c.is_ascii_digit())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(raw: &str) -> Result<String, Vec<InterpolationFault<'_>>> {
        let environment = |name: &str| match name {
            "A" => Some("one".to_owned()),
            "LOOP" => Some("${A}".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        interpolate(raw, &environment).map(|done| done.text)
    }

    #[test]
    fn variables_defaults_and_escapes() {
        for (raw, expected) in [
            ("", ""),
            ("plain $A {A}", "plain $A {A}"),
            ("${A}", "one"),
            ("<${A}${A}>", "<oneone>"),
            ("${B:-two}", "two"),
            ("${A:-two}", "one"),
            ("${EMPTY:-two}", "two"),
            ("${EMPTY}", ""),
            ("${B:-}", ""),
            ("${B:-http://h:1}", "http://h:1"),
            ("$${A}", "${A}"),
            ("$$${A}", "$${A}"),
            ("$${A}${A}", "${A}one"),
            ("${LOOP}", "${A}"),
        ] {
            assert_eq!(with(raw).as_deref(), Ok(expected), "{raw}");
        }
    }

    #[test]
    fn flaws_are_all_told() {
        assert_eq!(
            with("${B} ${} ${C"),
            Err(vec![
                InterpolationFault::Unset("B"),
                InterpolationFault::BadName,
                InterpolationFault::Unclosed
            ])
        );
        assert_eq!(with("${1A}"), Err(vec![InterpolationFault::BadName]));
        assert_eq!(with("${A-b}"), Err(vec![InterpolationFault::BadName]));
        assert_eq!(with("${A:-${B}}"), Err(vec![InterpolationFault::Nested]));
    }
}

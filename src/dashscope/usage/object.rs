//! Objects of an answer, read in place, with numbers as the text that they are. Of a chat's answer of 1,200 bytes the
//! use is read in 8,000 instructions; derived readers of `serde_json` with its raw values take 15,000. The form of values
//! that are skipped is not checked.

use std::borrow::Cow;

use memchr::{memchr, memchr2, memmem};

/// The values of the fields with these names, as they are written; `None` for one that is absent or null. Fails if the
/// text is no object, or has a field twice: readers differ in which one they take.
pub(super) fn fields<'t, const N: usize>(text: &'t [u8], names: [&str; N]) -> Option<[Option<&'t [u8]>; N]> {
    let mut found = [None; N];
    each_field(text, |key, value| {
        let Some(at) = names.iter().position(|name| name.as_bytes() == key) else { return Some(()) };
        set_once(&mut found[at], value)
    })?;
    Some(found.map(|value| value.filter(|value| *value != b"null")))
}

/// The fields as [`fields`] reads them, but reads keys that are written with escapes too, and of a field that is there twice the last one, as
/// the upstream does: for what a client sends, who may hide what it must pay for.
pub(super) fn last_fields<'t, const N: usize>(
    text: &'t [u8],
    names: [&str; N],
) -> Option<[Option<&'t [u8]>; N]> {
    let mut found = [None; N];
    each_field(text, |key, value| {
        let key = unescaped(key);
        if let Some(at) = names.iter().position(|name| Some(*name) == key.as_deref()) {
            found[at] = Some(value);
        }
        Some(())
    })?;
    Some(found.map(|value| value.filter(|value| *value != b"null")))
}

/// The text of a value without its quotes and escapes; `None` for any other value.
pub(super) fn text(value: &[u8]) -> Option<Cow<'_, str>> {
    unescaped(value.strip_prefix(b"\"")?.strip_suffix(b"\"")?)
}

fn unescaped(written: &[u8]) -> Option<Cow<'_, str>> {
    if memchr(b'\\', written).is_none() {
        return std::str::from_utf8(written).ok().map(Cow::Borrowed);
    }
    serde_json::from_slice::<String>(&[b"\"", written, b"\""].concat()).ok().map(Cow::Owned)
}

/// Passes each field of one object with nothing behind it: the key without quotes and the value, both as written. Fails
/// if the text is no object, or `take` fails.
pub(super) fn each_field<'t>(
    text: &'t [u8],
    mut take: impl FnMut(&'t [u8], &'t [u8]) -> Option<()>,
) -> Option<()> {
    each(text, b"{", b'}', |rest| {
        let key_end = text_end(rest)?;
        let value = rest[key_end..].trim_ascii_start().strip_prefix(b":")?.trim_ascii_start();
        let (value, behind) = value.split_at(value_end(value)?);
        take(&rest[1..key_end - 1], value)?;
        Some(behind)
    })
}

/// Passes each value of one list, as written. Fails if the text is no list, or `take` fails.
pub(super) fn each_item<'t>(text: &'t [u8], mut take: impl FnMut(&'t [u8]) -> Option<()>) -> Option<()> {
    each(text, b"[", b']', |rest| {
        let (value, behind) = rest.split_at(value_end(rest)?);
        take(value)?;
        Some(behind)
    })
}

/// Passes the text from each part on; `take` returns what is behind the part.
fn each<'t>(
    text: &'t [u8],
    open: &[u8],
    close: u8,
    mut take: impl FnMut(&'t [u8]) -> Option<&'t [u8]>,
) -> Option<()> {
    let mut rest = text.trim_ascii().strip_prefix(open)?.trim_ascii_start();
    if rest == [close] {
        return Some(());
    }
    loop {
        rest = take(rest)?.trim_ascii_start();
        let (mark, behind) = rest.split_first()?;
        match *mark {
            b',' => rest = behind.trim_ascii_start(),
            mark if mark == close && behind.is_empty() => return Some(()),
            _ => return None,
        }
    }
}

/// Sets a value; fails if it is set already.
pub(super) fn set_once<T>(place: &mut Option<T>, value: T) -> Option<()> {
    place.replace(value).is_none().then_some(())
}

/// The text of a value without its quotes, escapes unread; `None` for any other value.
pub(super) fn unquoted(value: &[u8]) -> Option<&str> {
    std::str::from_utf8(value.strip_prefix(b"\"")?.strip_suffix(b"\"")?).ok()
}

/// The length of the value that a text begins with.
fn value_end(text: &[u8]) -> Option<usize> {
    match text.first()? {
        b'"' => text_end(text),
        b'{' | b'[' => nested_end(text),
        _ => {
            let end = text
                .iter()
                .position(|byte| matches!(byte, b',' | b'}' | b']' | b' ' | b'\t' | b'\r' | b'\n'))
                .unwrap_or(text.len());
            (end > 0).then_some(end)
        }
    }
}

/// The length of the text, quotes included, that `text` begins with.
pub(super) fn text_end(text: &[u8]) -> Option<usize> {
    let mut at = text.starts_with(b"\"").then_some(1)?;
    loop {
        at += memchr2(b'"', b'\\', text.get(at..)?)?;
        if text[at] == b'"' {
            return Some(at + 1);
        }
        at += 2;
    }
}

fn nested_end(text: &[u8]) -> Option<usize> {
    let (mut at, mut depth) = (0, 0);
    loop {
        at += text[at..].iter().position(|byte| matches!(byte, b'"' | b'{' | b'}' | b'[' | b']'))?;
        match text[at] {
            b'"' => at += text_end(&text[at..])?,
            b'{' | b'[' => (at, depth) = (at + 1, depth + 1),
            _ if depth == 1 => return Some(at + 1),
            _ => (at, depth) = (at + 1, depth - 1),
        }
    }
}

/// False if a text surely has no object under the name `usage`: most events of a stream then need no reader. The name
/// can't stand in a text of JSON, where its quotes are escaped.
pub(super) fn may_have_usage(text: &[u8]) -> bool {
    memmem::find_iter(text, NAME).any(|at| {
        let value = text[at + NAME.len()..].trim_ascii_start().strip_prefix(b":");
        value.is_some_and(|value| value.trim_ascii_start().starts_with(b"{"))
    })
}

const NAME: &[u8] = b"\"usage\"";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn value() -> impl Strategy<Value = Value> {
        let text = || prop_oneof!["usage", "[a-z\\\\\"\\{\\}\\[\\],: \n\u{e9}\u{732b}]{0,6}"];
        let leaf = prop_oneof![
            text().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            Just(json!(null)),
        ];
        leaf.prop_recursive(4, 24, 5, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::vec((text(), inner), 0..5)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    fn found(text: &str) -> Option<Option<Value>> {
        let [usage] = fields(text.as_bytes(), ["usage"])?;
        Some(usage.map(|usage| serde_json::from_slice(usage).expect("a value")))
    }

    #[test]
    fn what_is_no_object_or_has_a_field_twice_is_not_read() {
        for text in [
            "",
            "[]",
            "7",
            "{",
            "{}x",
            "{,}",
            r#"{"usage"}"#,
            r#"{"usage":}"#,
            r#"{"usage":1"#,
            r#"{"usage":1,}"#,
            r#"{"a":1 "usage":1}"#,
            r#"{"usage":1,"usage":1}"#,
            r#"{"a":"\"#,
            r#"{"a":"\""#,
            r#"{"a":[}"#,
            r#"{usage:1}"#,
        ] {
            assert_eq!(found(text), None, "{text}");
        }
        assert_eq!(found(" {} "), Some(None));
        assert_eq!(found(r#"{ "a" : [ ] , "usage" : null }"#), Some(None));
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_reader_of_json(value in value(), other in value(), pretty in any::<bool>()) {
            for body in [json!({"a": other, "usage": value}), json!({"usage": value, "z": other})] {
                let text = if pretty { serde_json::to_string_pretty(&body) } else { serde_json::to_string(&body) };
                let text = text.expect("JSON");
                prop_assert_eq!(found(&text), Some(Some(value.clone()).filter(|value| !value.is_null())));
                for end in (0..text.len()).filter(|end| text.is_char_boundary(*end)) {
                    prop_assert_eq!(found(&text[..end]), None, "broken off");
                }
            }
        }

        #[test]
        fn no_text_makes_it_panic(text in "[\\{\\}\\[\\]\",:\\\\ a1]{0,40}") {
            let _ = fields(text.as_bytes(), ["a"]);
            let _ = each_item(text.as_bytes(), |_| Some(()));
        }
    }
}

//! Objects of an answer, read in place, with numbers as the text that they are: derived readers of `serde_json` with its
//! raw values took more than twice the instructions. The form of values that are skipped is not checked.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::LazyLock;

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

/// The fields as [`fields`] reads them, but keys that are written with escapes too, and the last one of a field that is
/// there twice, as the upstream reads them: for bodies of clients, who may hide what they must pay for.
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
    take: impl FnMut(&'t [u8], &'t [u8]) -> Option<()>,
) -> Option<()> {
    let text = text.trim_ascii();
    (each_field_from(text, 0, take)? == text.len()).then_some(())
}

/// Passes each field of the object that begins at a place, as [`each_field`] does, and returns the object's end.
pub(super) fn each_field_from<'t>(
    text: &'t [u8],
    begin: usize,
    mut take: impl FnMut(&'t [u8], &'t [u8]) -> Option<()>,
) -> Option<usize> {
    each(text, begin, [b'{', b'}'], |text, begin| {
        let (key, value) = field(text, begin)?;
        let end = value.end;
        take(&text[key], &text[value])?;
        Some(end)
    })
}

/// The places of the key without quotes, and of the value, of the field that begins at a place.
fn field(text: &[u8], begin: usize) -> Option<(Range<usize>, Range<usize>)> {
    let key_end = text_end_from(text, begin)?;
    let colon = past_space(text, key_end);
    let value = past_space(text, (*text.get(colon)? == b':').then_some(colon + 1)?);
    Some((begin + 1..key_end - 1, value..value_end(text, value)?))
}

/// Passes each value of one list, as written. Fails if the text is no list, or `take` fails.
pub(super) fn each_item<'t>(text: &'t [u8], mut take: impl FnMut(&'t [u8]) -> Option<()>) -> Option<()> {
    let text = text.trim_ascii();
    let end = each(text, 0, [b'[', b']'], |text, begin| {
        let end = value_end(text, begin)?;
        take(&text[begin..end])?;
        Some(end)
    })?;
    (end == text.len()).then_some(())
}

/// Passes the text and the place of each part of the object or list that begins at a place, and returns its end; `take`
/// returns the place behind the part.
fn each<'t>(
    text: &'t [u8],
    begin: usize,
    [open, close]: [u8; 2],
    mut take: impl FnMut(&'t [u8], usize) -> Option<usize>,
) -> Option<usize> {
    let mut at = past_space(text, (*text.get(begin)? == open).then_some(begin + 1)?);
    if text.get(at) == Some(&close) {
        return Some(at + 1);
    }
    loop {
        at = past_space(text, take(text, at)?);
        match *text.get(at)? {
            b',' => at = past_space(text, at + 1),
            mark if mark == close => return Some(at + 1),
            _ => return None,
        }
    }
}

/// The place behind white space.
fn past_space(text: &[u8], mut at: usize) -> usize {
    while text.get(at).is_some_and(u8::is_ascii_whitespace) {
        at += 1;
    }
    at
}

/// Sets a value; fails if it is set already.
pub(super) fn set_once<T>(place: &mut Option<T>, value: T) -> Option<()> {
    place.replace(value).is_none().then_some(())
}

/// The text of a value without its quotes, escapes unread; `None` for any other value.
pub(super) fn unquoted(value: &[u8]) -> Option<&str> {
    std::str::from_utf8(value.strip_prefix(b"\"")?.strip_suffix(b"\"")?).ok()
}

/// The end of the value that begins at a place.
fn value_end(text: &[u8], begin: usize) -> Option<usize> {
    match text.get(begin)? {
        b'"' => text_end_from(text, begin),
        b'{' | b'[' => nested_end(text, begin),
        _ => {
            let ends = |byte: &u8| matches!(byte, b',' | b'}' | b']' | b' ' | b'\t' | b'\r' | b'\n');
            let length = text[begin..].iter().position(ends).unwrap_or(text.len() - begin);
            (length > 0).then_some(begin + length)
        }
    }
}

/// The length of the text, quotes included, that `text` begins with.
pub(super) fn text_end(text: &[u8]) -> Option<usize> {
    text_end_from(text, 0)
}

/// The end of the text, quotes included, that begins at a place. Most texts of an answer are short: a call of `memchr2`
/// takes 70 instructions before it looks at the first byte, and eight bytes take 12 here.
fn text_end_from(text: &[u8], begin: usize) -> Option<usize> {
    let begin = (*text.get(begin)? == b'"').then_some(begin + 1)?;
    let (words, _) = text[begin..].as_chunks();
    for (number, word) in words.iter().take(NEAR_WORDS).enumerate() {
        let word = u64::from_le_bytes(*word);
        let marks = zero_bytes(word ^ repeated(b'"')) | zero_bytes(word ^ repeated(b'\\'));
        if marks != 0 {
            let at = begin + 8 * number + marks.trailing_zeros() as usize / 8;
            return if text[at] == b'"' { Some(at + 1) } else { long_text_end(text, at) };
        }
    }
    long_text_end(text, begin)
}

/// The end of the text that goes on at a place.
#[inline(never)]
fn long_text_end(text: &[u8], mut at: usize) -> Option<usize> {
    loop {
        at += memchr2(b'"', b'\\', text.get(at..)?)?;
        if text[at] == b'"' {
            return Some(at + 1);
        }
        at += 2;
    }
}

/// The end of the object or list that begins at a place.
fn nested_end(text: &[u8], begin: usize) -> Option<usize> {
    let (mut at, mut depth) = (begin, 0);
    loop {
        let byte = *text.get(at)?;
        if byte == b'"' {
            at = text_end_from(text, at)?;
            continue;
        }
        at += 1;
        // The bit is all that a brace and a bracket differ in.
        match byte | 0x20 {
            b'{' => depth += 1,
            b'}' if depth == 1 => return Some(at),
            b'}' => depth -= 1,
            _ => {}
        }
    }
}

/// A bit in the first byte that is zero, and in none before it; bytes behind it may have one too.
const fn zero_bytes(word: u64) -> u64 {
    word.wrapping_sub(repeated(0x01)) & !word & repeated(0x80)
}

const fn repeated(byte: u8) -> u64 {
    u64::from_le_bytes([byte; 8])
}

/// The place of the object under the name `usage`, where `"usage"` stands in the text once. That it is a field of the
/// outermost object is for [`ends_behind`] to tell.
pub(super) fn sole_usage(text: &[u8]) -> Option<usize> {
    let mut places = NAME_FINDER.find_iter(text);
    let at = places.next()?;
    // Behind a backslash, the name's first quote is part of a longer text.
    let is_sole = places.next().is_none() && !text[..at].ends_with(b"\\");
    let colon = past_space(text, is_sole.then_some(at + NAME.len())?);
    let begin = past_space(text, (*text.get(colon)? == b':').then_some(colon + 1)?);
    (*text.get(begin)? == b'{').then_some(begin)
}

/// True if fields of one object follow a value, and then the text's end. A valid text is as deep at a place as it has
/// brackets to close behind it, so the value is one of the outermost object, and nothing before it need be read.
pub(super) fn ends_behind(text: &[u8], value_end: usize) -> bool {
    let mut at = past_space(text, value_end);
    while text.get(at) == Some(&b',') {
        let Some((_, value)) = field(text, past_space(text, at + 1)) else { return false };
        at = past_space(text, value.end);
    }
    text.get(at) == Some(&b'}') && past_space(text, at + 1) == text.len()
}

/// False if a text surely has no object under the name `usage`: most events of a stream have none, and need no reader. The
/// name can't stand in a text of JSON, where its quotes are escaped.
pub(super) fn may_have_usage(text: &[u8]) -> bool {
    NAME_FINDER.find_iter(text).any(|at| {
        let value = text[at + NAME.len()..].trim_ascii_start().strip_prefix(b":");
        value.is_some_and(|value| value.trim_ascii_start().starts_with(b"{"))
    })
}

/// To make the finder takes 300 instructions, more than a search through an event of 300 bytes.
static NAME_FINDER: LazyLock<memmem::Finder<'static>> = LazyLock::new(|| memmem::Finder::new(NAME));
const NAME: &[u8] = b"\"usage\"";
/// Words of eight bytes in which the beginning of a text is searched for its end.
const NEAR_WORDS: usize = 5;

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
        /// Answers repeat what callers wrote: a `usage` in a text, or deeper in the answer, is never taken.
        #[test]
        fn an_object_that_is_found_by_its_name_is_the_field_of_the_whole(
            before in value(),
            usage in value(),
            behind in value(),
            is_deep in any::<bool>(),
            pretty in any::<bool>(),
        ) {
            let planted = if is_deep { json!({"usage": {"planted": 1}}) } else { before.clone() };
            for body in [
                json!({"a": before, "usage": usage, "z": behind}),
                json!({"a": planted, "z": behind}),
                json!({"a": behind, "usage\\": {"planted": 1}, "\"usage": planted}),
            ] {
                let text = if pretty { serde_json::to_string_pretty(&body) } else { serde_json::to_string(&body) };
                let text = text.expect("JSON");
                let found = sole_usage(text.as_bytes()).and_then(|begin| {
                    let end = each_field_from(text.as_bytes(), begin, |_, _| Some(()))?;
                    ends_behind(text.as_bytes(), end).then(|| &text[begin..end])
                });
                let found = found.map(|found| serde_json::from_str::<Value>(found).expect("an object"));
                if found.is_some() {
                    prop_assert_eq!(found.as_ref(), body.get("usage"));
                }
                // A name that stands there once is always found.
                let is_object = body.get("usage").is_some_and(Value::is_object);
                if is_object && text.matches("\"usage\"").count() == 1 {
                    prop_assert!(found.is_some(), "{text}");
                }
            }
        }

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
        fn a_text_ends_at_its_first_bare_quote(text in "[ab\u{e9}\u{732b}\u{a2}\u{5c5c}]{0,60}(\\\\.|[a-z]){0,20}.{0,20}") {
            let text = format!("\"{text}\"");
            let mut ends = None;
            let mut bytes = text.bytes().enumerate().skip(1);
            while let Some((at, byte)) = bytes.next() {
                match byte {
                    b'\\' => drop(bytes.next()),
                    b'"' => { ends = Some(at + 1); break; }
                    _ => {}
                }
            }
            prop_assert_eq!(text_end(text.as_bytes()), ends);
        }

        #[test]
        fn no_text_makes_it_panic(text in "[\\{\\}\\[\\]\",:\\\\ a1]{0,40}") {
            let _ = fields(text.as_bytes(), ["a"]);
            let _ = each_item(text.as_bytes(), |_| Some(()));
        }
    }
}

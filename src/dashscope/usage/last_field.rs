//! Fields at the end of an object whose beginning is not known, read from the end.

use memchr::memrchr;

use super::object::set_once;

/// The value of an object's own field, as it is written, from the end of the object's text. Outside of a text of JSON
/// the end is at a known depth, and backwards each quote begins or ends a text: whatever stands in texts or in objects
/// within counts for nothing. Fails if the end has no such field, has it twice, or is no end of an object.
pub(super) fn last_field<'t>(end: &'t [u8], name: &str) -> Option<&'t [u8]> {
    let end = end.trim_ascii_end().strip_suffix(b"}")?;
    let (mut at, mut depth, mut value_end, mut value_start, mut found) =
        (end.len(), 1, end.len(), None, None);
    while at > 0 {
        at -= 1;
        match end[at] {
            b'"' => {
                let begins = match text_start(end, at) {
                    TextStart::At(begins) => begins,
                    TextStart::Before => break,
                    TextStart::Broken => return None,
                };
                if let Some(start) = value_start.take_if(|_| depth == 1)
                    && &end[begins + 1..at] == name.as_bytes()
                {
                    set_once(&mut found, end[start..value_end].trim_ascii())?;
                }
                at = begins;
            }
            b'}' | b']' => depth += 1,
            b'{' | b'[' if depth == 1 => break,
            b'{' | b'[' => depth -= 1,
            b':' if depth == 1 => value_start = Some(at + 1),
            b',' if depth == 1 => (value_end, value_start) = (at, None),
            b'\\' => return None,
            _ => {}
        }
    }
    found
}

/// The place of the quote that begins a text.
enum TextStart {
    At(usize),
    /// Before the part of the object that is known.
    Before,
    /// No text of JSON ends there.
    Broken,
}

/// Looks for the beginning of the text that ends with the quote at `end`. A quote within the text has an odd number of
/// backslashes before it, the quote that begins it has none, and the one that ends it an even number.
fn text_start(text: &[u8], end: usize) -> TextStart {
    if !backslashes(&text[..end]).is_multiple_of(2) {
        return TextStart::Broken;
    }
    let mut at = end;
    while let Some(quote) = memrchr(b'"', &text[..at]) {
        match backslashes(&text[..quote]) {
            0 if quote == 0 => return TextStart::Before,
            0 => return TextStart::At(quote),
            // They may go on before the part that is known.
            count if count == quote => return TextStart::Before,
            count if count.is_multiple_of(2) => return TextStart::Broken,
            _ => at = quote,
        }
    }
    TextStart::Before
}

/// The number of backslashes at the end of a text.
fn backslashes(text: &[u8]) -> usize {
    text.iter().rev().take_while(|byte| **byte == b'\\').count()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn the_objects_own_field_is_found() {
        for (end, expected) in [
            (r#"xt"},"usage":{"a":1},"request_id":"r"}"#, Some(r#"{"a":1}"#)),
            (r#"xt"}, "usage" : { "a" : [1, {"usage":2}] } } "#, Some(r#"{ "a" : [1, {"usage":2}] }"#)),
            (r#""usage":null}"#, None),
            (r#"{"usage":null}"#, Some("null")),
            (r#"},"usage":7,"z":"\\"}"#, Some("7")),
            (r#"{"usage":{"a":1}},"z":1}"#, None),
            (r#"\",\"usage\":{\"a\":1}}","z":1}"#, None),
            (r#"\",\"usage\":{\"a\":1}}"#, None),
            (r#","usage":1,"z":"\"usage\":2,"}"#, Some("1")),
            (r#"},"usage":1,"usage":2}"#, None),
            (r#"},"usage":1"#, None),
            (r#"},["usage":1]}"#, None),
            (r#"},"usage",1}"#, None),
            (r#"},"a":"usage"}"#, None),
            ("}", None),
            ("", None),
        ] {
            let found = last_field(end.as_bytes(), "usage").map(|value| str::from_utf8(value).expect("text"));
            assert_eq!(found, expected, "{end}");
        }
    }

    fn text() -> impl Strategy<Value = String> {
        "([a-z\\\\\"\\{\\}\\[\\],:]|\"usage\":|\\{\"usage\":1\\}\\}){0,9}"
    }

    proptest! {
        /// Each cut either tells the field or nothing.
        #[test]
        fn no_text_within_is_taken_for_the_field(one in text(), other in text(), behind in text(), tokens in 0..99) {
            let inner = json!({"text": one, "usage": {"tokens": -1}, other: [{"usage": -2}]});
            let usage = json!({"tokens": tokens});
            let body = format!(r#"{{"output":{inner},"usage":{usage},"request_id":{}}}"#, Value::from(behind));
            for start in (0..body.len()).filter(|start| body.is_char_boundary(*start)) {
                let found = last_field(&body.as_bytes()[start..], "usage");
                let found = found.map(|value| serde_json::from_slice::<Value>(value).expect("a value"));
                prop_assert!(found.is_none() || found == Some(usage.clone()), "{}", &body[start..]);
            }
            prop_assert!(last_field(body.as_bytes(), "usage").is_some());
        }

        #[test]
        fn no_end_makes_it_panic(text in "[\\{\\}\\[\\]\",:\\\\ a1]{0,40}") {
            let _ = last_field(text.as_bytes(), "a");
        }
    }
}

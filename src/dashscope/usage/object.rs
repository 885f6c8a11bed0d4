//! Objects of an answer.

use memchr::memmem;
use serde::Deserialize;

use crate::dashscope::lenient_json;

/// Reads one object, with nothing behind it. A derived reader alone would also take a list, as the values of its fields.
pub(super) fn read<'b, T: Deserialize<'b>>(text: &'b [u8]) -> Option<T> {
    let text = lenient_json::without_mark(text).trim_ascii_start();
    text.starts_with(b"{").then(|| lenient_json::from_slice(text))?
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

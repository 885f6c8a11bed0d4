//! Objects of an answer.

use serde::Deserialize;

use crate::dashscope::lenient_json;

/// Reads one object, with nothing behind it. A derived reader alone would also take a list, as the values of its fields.
pub(super) fn read<'b, T: Deserialize<'b>>(text: &'b [u8]) -> Option<T> {
    let text = lenient_json::without_mark(text).trim_ascii_start();
    text.starts_with(b"{").then(|| lenient_json::from_slice(text))?
}

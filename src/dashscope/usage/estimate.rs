//! The use of a call whose answer told none, because it broke off or could not be read: a guess, so that no way of
//! leaving makes a call free.

use memchr::{memchr, memmem};

use super::object;
use super::unit::{Unit, Units};

/// The part of an answer that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnswerPart {
    /// Events of a stream: about a token each.
    Events(u64),
    /// Bytes of an answer, or of a stream that can't be read: about a token for four of them.
    Bytes(u64),
}

/// Bytes at the beginning of a request's body that surely are no tokens: names, marks and numbers of JSON. Each text
/// counts as a few bytes more than it has, as a chat's template sets its messages apart. Tools are in the prompt as they
/// are written, so a body with tools has no such bytes.
pub fn frame_bytes(beginning: &[u8]) -> u64 {
    if memmem::find(beginning, b"\"tools\"").or_else(|| memmem::find(beginning, b"\"functions\"")).is_some() {
        return 0;
    }
    let (mut rest, mut texts) = (beginning, 0);
    while let Some(begins) = memchr(b'"', rest) {
        let text = &rest[begins..];
        let length = object::text_end(text).unwrap_or(text.len());
        rest = &text[length..];
        if !rest.trim_ascii_start().starts_with(b":") {
            texts += told_bytes(&text[..length]) + BESIDE_A_TEXT;
        }
    }
    (beginning.len() as u64).saturating_sub(texts)
}

/// The bytes that a text of JSON stands for: three of an escaped UTF-16 unit, one of any other escape.
fn told_bytes(text: &[u8]) -> u64 {
    let (mut rest, mut told) = (text, text.len() as u64);
    while let Some(at) = memchr(b'\\', rest) {
        let is_unit = rest.get(at + 1) == Some(&b'u');
        told -= if is_unit { 3 } else { 1 };
        rest = rest.get(at + 2..).unwrap_or_default();
    }
    told
}

/// Estimates what a call used, from its path on the upstream, its model, and the bytes of its request.
pub fn estimate(path: &str, model: &str, asked_bytes: u64, part: AnswerPart) -> Units {
    let path_has = |word: &str| path.contains(word);
    if path_has("image") || model.contains("image") || model.contains("-t2i") {
        return Units::from_iter([(Unit::Image, 1_000)]);
    }
    if path_has("/tts/") || model.contains("-tts") {
        return Units::from_iter([(Unit::Character, asked_bytes.saturating_mul(1_000))]);
    }
    // Vectors and scores are not billed.
    let output = match part {
        _ if path_has("embedding") || path_has("rerank") => 0,
        AnswerPart::Events(events) => events.saturating_mul(1_000),
        AnswerPart::Bytes(bytes) => tokens(bytes),
    };
    Units::from_iter([(Unit::InputToken, tokens(asked_bytes)), (Unit::OutputToken, output)])
}

/// The output of a message of Anthropic's that broke off before it told its last use: about a token for each event
/// behind the two that begin the message, or more if it told more.
pub fn estimate_message(told: &mut Units, events: u64) {
    let output = events.saturating_sub(EVENTS_BEFORE_TEXT).saturating_mul(1_000);
    told.set(Unit::OutputToken, told.get(Unit::OutputToken).max(output));
}

/// The output of a stream whose last event with a use could not be read: that of the event before, or about a token for
/// each event, if that is more. No output is added where none is billed.
pub fn estimate_behind(told: &mut Units, events: u64) {
    let kinds = [Unit::ThinkingToken, Unit::OutputAudioToken, Unit::OutputImageToken];
    let others: u64 = kinds.iter().map(|kind| told.get(*kind)).sum();
    let output = told.get(Unit::OutputToken);
    if output + others > 0 {
        let counted = events.saturating_mul(1_000).saturating_sub(others);
        told.set(Unit::OutputToken, output.max(counted));
    }
}

/// Tokens in a text of this length, in thousandths.
fn tokens(bytes: u64) -> u64 {
    bytes.saturating_mul(1_000) / 4
}

/// Bytes that a text counts beside its own: about a token.
const BESIDE_A_TEXT: u64 = 4;
/// `message_start` and `content_block_start`.
const EVENTS_BEFORE_TEXT: u64 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_a_body_are_told_from_its_frame() {
        for (body, texts) in [
            (r#"{"model": "m", "messages": [{"role": "user", "content": "hi"}]}"#, 1 + 4 + 2 + 3 * 6),
            (r#"{"x":"\u4f60\"a\\"}"#, 3 + 1 + 1 + 1 + 6),
            (r#"{"x" : 1, "y":["a","b"], "stream":true}"#, 1 + 1 + 2 * 6),
            (r#"{"cut":"off in a te"#, 11 + 5),
            (r#"{"cut":"off in an escape\"#, 17 + 4),
            ("", 0),
            ("{}", 0),
        ] {
            assert_eq!(frame_bytes(body.as_bytes()), body.len() as u64 - texts, "{body}");
        }
        assert_eq!(frame_bytes(br#"{"tools":[{"type":"function"}],"messages":[]}"#), 0);
        assert_eq!(frame_bytes(b"\"\"\"\"\"\""), 0, "more beside the texts than there is");
    }

    #[test]
    fn what_was_told_before_is_the_least() {
        for (told, events, expected) in [
            ("input_token=9000,output_token=5000", 3, "input_token=9000,output_token=5000"),
            ("input_token=9000,output_token=5000", 7, "input_token=9000,output_token=7000"),
            ("output_token=1000,thinking_token=5000", 7, "output_token=2000,thinking_token=5000"),
            ("character=7000", 7, "character=7000"),
        ] {
            let mut units = Units::from_text(told).expect(told);
            estimate_behind(&mut units, events);
            assert_eq!(units.to_string(), expected, "{told} {events}");
        }
    }

    #[test]
    fn no_call_is_free() {
        const CHAT: &str = "/compatible-mode/v1/chat/completions";
        const MULTIMODAL: &str = "/api/v1/services/aigc/multimodal-generation/generation";
        for (path, model, part, units) in [
            (CHAT, "qwen3-max", AnswerPart::Events(3), "input_token=10000,output_token=3000"),
            (CHAT, "qwen3-max", AnswerPart::Bytes(6), "input_token=10000,output_token=1500"),
            (CHAT, "qwen3-max", AnswerPart::Bytes(0), "input_token=10000"),
            ("/compatible-mode/v1/embeddings", "v4", AnswerPart::Bytes(9000), "input_token=10000"),
            ("/compatible-api/v1/reranks", "gte", AnswerPart::Bytes(9000), "input_token=10000"),
            (MULTIMODAL, "qwen-vl-max", AnswerPart::Bytes(0), "input_token=10000"),
            (MULTIMODAL, "qwen-image-plus", AnswerPart::Bytes(0), "image=1000"),
            (MULTIMODAL, "wan2.6-t2i", AnswerPart::Bytes(0), "image=1000"),
            ("/api/v1/services/aigc/text2image/image-synthesis", "", AnswerPart::Bytes(0), "image=1000"),
            (MULTIMODAL, "qwen3-tts-flash", AnswerPart::Bytes(0), "character=40000"),
        ] {
            assert_eq!(estimate(path, model, 40, part).to_string(), units, "{path} {model}");
        }
    }
}

//! The use of a call whose answer told none, because it broke off or could not be read: a guess, so that no way of
//! leaving makes a call free.

use super::unit::{Unit, Units};

/// The part of an answer that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnswerPart {
    /// Events of a stream: about a token each.
    Events(u64),
    /// Bytes of an answer, or of a stream that can't be read: about a token for four of them.
    Bytes(u64),
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

/// Tokens in a text of this length, in thousandths.
fn tokens(bytes: u64) -> u64 {
    bytes.saturating_mul(1_000) / 4
}

#[cfg(test)]
mod tests {
    use super::*;

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

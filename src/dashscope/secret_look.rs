//! Secrets in places where names belong: a client that mixes two variables up sends its key as the model.

/// True if the text looks like a secret, or holds one. Such a text is kept nowhere: not in logs, records or lists.
pub fn looks_like_secret(text: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric();
    let words = text.as_bytes().split(|byte| !is_word(*byte));
    let mut before = false;
    words.into_iter().any(|word| {
        let is_secret = before && !word.is_empty() || is_random(word);
        before = BEGINNINGS.iter().any(|beginning| word.eq_ignore_ascii_case(beginning));
        is_secret
    })
}

/// True for a long run of letters and digits: names are made of words and short numbers.
fn is_random(word: &[u8]) -> bool {
    word.len() >= LONG && word.iter().any(u8::is_ascii_digit) && word.iter().any(u8::is_ascii_alphabetic)
}

/// First words of keys: `sk-...`, of DashScope's tokens, `st-...`, of other issuers' keys, and of `Authorization`.
const BEGINNINGS: [&[u8]; 9] = [b"sk", b"st", b"pk", b"ak", b"tk", b"whsec", b"ghp", b"bearer", b"basic"];
/// An id of an access key of Alibaba Cloud has 24 characters, its secret 30; a digest in hex has 32 or more.
const LONG: usize = 24;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_told_from_names() {
        for secret in [
            "sk-0123456789abcdef",
            "SK-dg-abc",
            "st-abc",
            "tk-alpha-000000000001",
            "openai/sk-abc",
            "Bearer sk-abc",
            "whsec_abc",
            "LTAI5tAbCdEfGhIjKlMnOpQr",
            "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.e30",
            "0123456789abcdef0123456789abcdef",
        ] {
            assert!(looks_like_secret(secret), "{secret}");
        }
        for name in [
            "",
            "sk",
            "wan2.7-t2v",
            "wan2.7-i2v-2026-04-25",
            "qwen3-235b-a22b-instruct-2507",
            "mask-1",
            "disk-task-1",
            "text-embedding-async-v2",
            "qwen3-asr-flash-filetrans",
            "deepseek-r1-distill-qwen-32b",
            "stable-diffusion-3.5-large",
            "MiniMax/MiniMax-M2",
            "wan2.7-*",
            "llama3.1-405b-instruct",
        ] {
            assert!(!looks_like_secret(name), "{name}");
        }
    }
}

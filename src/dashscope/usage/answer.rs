//! The use of a call that is answered at once, from its whole answer.

use super::family;
use super::object;
use super::reading::Reading;
use crate::dashscope::lenient_json::without_mark;

/// Reads the answer to a call whose use is billed: native, OpenAI-compatible, Anthropic-compatible, or to `/responses`.
/// Each has its `usage` at top level, and the fields of that tell the shape.
pub fn of_answer(body: &[u8]) -> Reading {
    let body = without_mark(body);
    if let Some(reading) = object::sole_usage(body).and_then(|begin| family::read_at(body, begin)) {
        return reading;
    }
    let Some([usage, error, code]) = object::fields(body, ["usage", "error", "code"]) else {
        return Reading::Unread { raw: None };
    };
    // A native error may come with status 200, and an empty code with a success.
    let is_error = error.is_some() || code.is_some_and(|code| code != b"\"\"");
    match usage {
        Some(usage) => family::read(usage, false),
        None if is_error => Reading::Unused,
        None => Reading::Unread { raw: None },
    }
}

#[cfg(test)]
mod tests {
    use super::super::unit::Unit::{self, *};
    use super::*;

    const ANSWERS: [(&str, &[(Unit, u64)]); 19] = [
        (
            r#"{"input_tokens":20,"output_tokens":30,"total_tokens":50}"#,
            &[(InputToken, 20_000), (OutputToken, 30_000)],
        ),
        (
            r#"{"input_tokens":1277,"output_tokens":81,"image_tokens":1247,"total_tokens":1358}"#,
            &[(InputToken, 30_000), (InputImageToken, 1_247_000), (OutputToken, 81_000)],
        ),
        (
            r#"{"input_tokens":1277,"output_tokens":81,"total_tokens":1358,"image_tokens":1253,
            "input_tokens_details":{"text_tokens":24,"image_tokens":1253},"output_tokens_details":{"text_tokens":81},
            "prompt_tokens_details":{"cached_tokens":1024}}"#,
            &[(InputImageToken, 253_000), (CachedToken, 1_024_000), (OutputToken, 81_000)],
        ),
        (
            r#"{"input_tokens":16,"output_tokens":500,"total_tokens":516,"output_tokens_details":{"reasoning_tokens":420,"text_tokens":80}}"#,
            &[(InputToken, 16_000), (OutputToken, 80_000), (ThinkingToken, 420_000)],
        ),
        (
            r#"{"input_tokens":33,"output_tokens":22,"audio_tokens":85}"#,
            &[(InputToken, 33_000), (OutputToken, 22_000), (InputAudioToken, 85_000)],
        ),
        (
            r#"{"models":[{"model_id":"qwen-plus","input_tokens":10,"output_tokens":8},{"model_id":"qwen-max","input_tokens":5,"output_tokens":1}]}"#,
            &[(InputToken, 15_000), (OutputToken, 9_000)],
        ),
        (r#"{"total_tokens":26}"#, &[(InputToken, 26_000)]),
        (r#"{"total_tokens":79,"image_tokens":50}"#, &[(InputToken, 29_000), (InputImageToken, 50_000)]),
        (r#"{"characters":15}"#, &[(Character, 15_000)]),
        (
            r#"{"input_tokens_details":{"text_tokens":0},"output_tokens_details":{"text_tokens":6},"seconds":1}"#,
            &[(AudioSecond, 1_000)],
        ),
        // OpenAI's shape.
        (r#"{"prompt_tokens":8,"total_tokens":8}"#, &[(InputToken, 8_000)]),
        (
            r#"{"prompt_tokens":3019,"completion_tokens":104,"total_tokens":3123,"prompt_tokens_details":{"cached_tokens":2048},
            "completion_tokens_details":null}"#,
            &[(InputToken, 971_000), (CachedToken, 2_048_000), (OutputToken, 104_000)],
        ),
        (
            r#"{"prompt_tokens":1524,"completion_tokens":200,"total_tokens":1724,"prompt_tokens_details":{"cached_tokens":0,
            "cache_creation":{"ephemeral_5m_input_tokens":1494},"cache_creation_input_tokens":1494,"cache_type":"ephemeral"},
            "completion_tokens_details":{"reasoning_tokens":150}}"#,
            &[
                (InputToken, 30_000),
                (CacheWriteToken, 1_494_000),
                (OutputToken, 50_000),
                (ThinkingToken, 150_000),
            ],
        ),
        (
            r#"{"prompt_tokens":160,"completion_tokens":90,"total_tokens":250,"prompt_tokens_details":{"text_tokens":10,"audio_tokens":50,"image_tokens":60,"video_tokens":40},
            "completion_tokens_details":{"audio_tokens":70,"text_tokens":20}}"#,
            &[
                (InputToken, 10_000),
                (OutputToken, 20_000),
                (InputAudioToken, 50_000),
                (InputImageToken, 60_000),
                (InputVideoToken, 40_000),
                (OutputAudioToken, 70_000),
            ],
        ),
        // Anthropic's: cached tokens are no part of the input.
        (
            r#"{"input_tokens":50,"cache_creation_input_tokens":248,"cache_read_input_tokens":1800,
            "cache_creation":{"ephemeral_5m_input_tokens":248},"output_tokens":503}"#,
            &[
                (InputToken, 50_000),
                (CachedToken, 1_800_000),
                (CacheWriteToken, 248_000),
                (OutputToken, 503_000),
            ],
        ),
        // `/responses`.
        (
            r#"{"input_tokens":100,"input_tokens_details":{"cached_tokens":64},"output_tokens":40,"output_tokens_details":{"reasoning_tokens":30},"total_tokens":140,"x_details":[]}"#,
            &[(InputToken, 36_000), (CachedToken, 64_000), (OutputToken, 10_000), (ThinkingToken, 30_000)],
        ),
        (
            r#"{"input_tokens":100,"output_tokens":1,"input_tokens_details":{"audio_tokens":60,"cached_tokens":70,"cached_tokens_details":{"audio_tokens":50,"text_tokens":20}}}"#,
            &[(InputToken, 20_000), (CachedToken, 70_000), (OutputToken, 1_000), (InputAudioToken, 10_000)],
        ),
        (r#"{"image_count":1,"size":"1024*1024"}"#, &[(Image, 1_000)]),
        (r#"{"input_tokens":0,"output_tokens":0}"#, &[]),
    ];

    #[test]
    fn each_shape_is_read_into_disjoint_units() {
        for (usage, units) in ANSWERS {
            let body = format!(
                r#"{{"output":{{"text":"\"usage\":{{}}"}},"code":"","error":null,"usage":{usage},"request_id":"r"}}"#
            );
            let Reading::Read(read) = of_answer(body.as_bytes()) else { panic!("not read: {usage}") };
            assert_eq!(read.units, units.iter().copied().collect(), "{usage}");
            assert_eq!(&*read.raw, usage);
        }
    }

    #[test]
    fn an_error_has_used_nothing_and_a_success_without_usage_is_unread() {
        for body in [
            r#"{"code":"InvalidParameter","message":"\"usage\":{\"total_tokens\":5}","request_id":"r"}"#,
            r#"{"error":{"message":"m","usage":{"total_tokens":5}},"request_id":"r"}"#,
            r#"{"type":"error","error":{"type":"api_error"}}"#,
        ] {
            assert_eq!(of_answer(body.as_bytes()), Reading::Unused, "{body}");
        }
        for body in
            ["", "{", "[]", r#"[{"total_tokens":5}]"#, r#"{"choices":[]}"#, r#"{"usage":null,"choices":[]}"#]
        {
            assert_eq!(of_answer(body.as_bytes()), Reading::Unread { raw: None }, "{body}");
        }
    }

    #[test]
    fn a_planted_usage_changes_nothing() {
        let planted = r#"{"usage":{"total_tokens":1}}"#;
        let body = format!(
            r#"{{"metadata":{planted},"choices":[{{"message":{{"content":"{}","tool":{planted}}}}}],
            "usage":{{"total_tokens":7,"x":{planted}}},"content":[{{"type":"tool_use","input":{planted}}}]}}"#,
            planted.replace('"', "\\\"")
        );
        let Reading::Read(read) = of_answer(body.as_bytes()) else { panic!("not read: {body}") };
        assert_eq!(read.units.get(InputToken), 7_000);
    }
}

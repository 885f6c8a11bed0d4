//! The use of a task, from the answer to the query that told its end.

use super::family;
use super::object;
use super::reading::Reading;
use crate::dashscope::lenient_json::without_mark;
use crate::dashscope::task::Status;

/// Reads the native answer that tells a task's end.
pub fn of_task(answer: &[u8]) -> Reading {
    let Some([usage, output]) = object::fields(without_mark(answer), ["usage", "output"]) else {
        return Reading::Unread { raw: None };
    };
    let output = output.and_then(|output| object::fields(output, ["task_status", "video_url"]));
    let [status, video] = output.unwrap_or_default();
    let is_billed = is_billed(status.and_then(object::unquoted));
    match usage {
        None | Some(b"{}") if !is_billed => Reading::Unused,
        Some(usage) => family::read(usage, video.is_some()),
        None => Reading::Unread { raw: None },
    }
}

/// True unless the status says that nothing was made. An answer that names none is not taken for a failure.
fn is_billed(status: Option<&str>) -> bool {
    match status.map(Status::written) {
        None | Some(Status::Succeeded | Status::Other) => true,
        Some(
            Status::Pending
            | Status::Running
            | Status::Suspended
            | Status::Failed
            | Status::Canceled
            | Status::Unknown,
        ) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::reading::Usage;
    use super::super::unit::Unit::{self, *};
    use super::*;

    fn succeeded(usage: &str) -> Reading {
        of_task(
            format!(
                r#"{{"request_id":"r","output":{{"task_id":"t","task_status":"SUCCEEDED"}},"usage":{usage}}}"#
            )
            .as_bytes(),
        )
    }

    fn unread(raw: &str) -> Reading {
        Reading::Unread { raw: Some(raw.into()) }
    }

    /// A `usage` object, its units in thousandths, and its class.
    type Row = (&'static str, &'static [(Unit, u64)], &'static str);

    const VIDEOS: [Row; 17] = [
        (
            r#"{"video_count":1,"video_duration":5,"video_ratio":"1920*1080"}"#,
            &[(VideoSecond, 5_000)],
            "1080P",
        ),
        (r#"{"video_count":1,"video_duration":5,"SR":480}"#, &[(VideoSecond, 5_000)], "480P"),
        (r#"{"video_count":4,"video_duration":5,"video_ratio":"960*960"}"#, &[(VideoSecond, 20_000)], "720P"),
        (
            r#"{"video_duration":5,"video_count":1,"video_ratio":"standard"}"#,
            &[(VideoSecond, 5_000)],
            "standard",
        ),
        (r#"{"video_duration":5.2,"video_ratio":"standard"}"#, &[(VideoSecond, 5_200)], "standard"),
        (r#"{"video_duration":5.2,"video_ratio":"pro"}"#, &[(VideoSecond, 5_200)], "pro"),
        (r#"{"video_duration":7.437,"SR":"720P"}"#, &[(VideoSecond, 7_437)], "720P"),
        (r#"{"video_duration":10.23,"video_ratio":"3:4"}"#, &[(VideoSecond, 10_230)], "3:4"),
        (r#"{"duration":10,"video_count":1,"SR":1080}"#, &[(VideoSecond, 10_000)], "1080P"),
        (r#"{"video_duration":5,"duration":5,"video_count":1,"SR":480}"#, &[(VideoSecond, 5_000)], "480P"),
        (
            r#"{"duration":5,"input_video_duration":0,"output_video_duration":5,"SR":720,"size":"1280*720","video_count":1}"#,
            &[(VideoSecond, 5_000), (OutputVideoSecond, 5_000)],
            "720P",
        ),
        (
            r#"{"duration":5,"output_video_duration":5,"size":"832*480"}"#,
            &[(VideoSecond, 5_000), (OutputVideoSecond, 5_000)],
            "480P",
        ),
        (
            r#"{"duration":10,"output_video_duration":10,"video_count":1,"ratio":"16:9","SR":720}"#,
            &[(VideoSecond, 10_000), (OutputVideoSecond, 10_000)],
            "720P",
        ),
        (
            r#"{"duration":15,"input_video_duration":5,"output_video_duration":10,"video_count":1,"SR":720,"ratio":"16:9"}"#,
            &[(VideoSecond, 15_000), (InputVideoSecond, 5_000), (OutputVideoSecond, 10_000)],
            "720P",
        ),
        (
            r#"{"duration":10.04,"input_video_duration":5.02,"output_video_duration":5.02,"video_count":1,"SR":720}"#,
            &[(VideoSecond, 10_040), (InputVideoSecond, 5_020), (OutputVideoSecond, 5_020)],
            "720P",
        ),
        (
            r#"{"duration":5,"input_video_duration":0,"output_video_duration":5,"video_count":1,"SR":1080,"ratio":"1:1","fps":30}"#,
            &[(VideoSecond, 5_000), (OutputVideoSecond, 5_000)],
            "1080P",
        ),
        (r#"{"duration":10.040000000000001,"SR":720}"#, &[(VideoSecond, 10_040)], "720P"),
    ];

    const OTHERS: [Row; 14] = [
        (r#"{"image_count":3}"#, &[(Image, 3_000)], ""),
        (r#"{"image_count":0}"#, &[], ""),
        (r#"{"image_count":1,"size":"1328*1328"}"#, &[(Image, 1_000)], "1K"),
        (r#"{"image_count":1,"size":"2985*1405"}"#, &[(Image, 1_000)], "2K"),
        (r#"{"height":1328,"image_count":1,"width":1328}"#, &[(Image, 1_000)], "1K"),
        (
            r#"{"image_count":2,"input_tokens":10867,"output_tokens":2,"size":"1488*704","total_tokens":10869}"#,
            &[(Image, 2_000)],
            "1K",
        ),
        (r#"{"duration":6}"#, &[(AudioSecond, 6_000)], ""),
        (r#"{"duration":6.5}"#, &[(AudioSecond, 6_500)], ""),
        (r#"{"seconds":3}"#, &[(AudioSecond, 3_000)], ""),
        (r#"{"characters":120}"#, &[(Character, 120_000)], ""),
        (r#"{"total_tokens":384}"#, &[(InputToken, 384_000)], ""),
        (r#"{"input_tokens":18,"output_tokens":7}"#, &[(InputToken, 18_000), (OutputToken, 7_000)], ""),
        (
            r#"{"input_tokens":10,"image_count":1,"image_tokens":4,"total_tokens":10,"duration":0}"#,
            &[(InputToken, 6_000), (InputImageToken, 4_000)],
            "",
        ),
        (
            r#"{ "seconds" : 3 , "new" : [ {"seconds":4} ], "video_duration" : null }"#,
            &[(AudioSecond, 3_000)],
            "",
        ),
    ];

    #[test]
    fn each_familys_usage_is_read() {
        for (usage, units, class) in VIDEOS.into_iter().chain(OTHERS) {
            let expected =
                Usage { units: units.iter().copied().collect(), class: class.into(), raw: usage.into() };
            assert_eq!(succeeded(usage), Reading::Read(expected), "{usage}");
        }
    }

    #[test]
    fn a_bare_duration_beside_a_video_is_the_videos() {
        let answer = br#"{"output":{"task_status":"SUCCEEDED","video_url":"u"},"usage":{"duration":4.8,"size":"standard"}}"#;
        let Reading::Read(usage) = of_task(answer) else { panic!("a usage") };
        assert_eq!((usage.units.get(VideoSecond), &*usage.class), (4_800, "standard"));
    }

    #[test]
    fn a_usage_that_is_not_understood_is_not_zero() {
        for usage in [
            "{}",
            "7",
            "[5]",
            r#""none""#,
            r#"{"count":1}"#,
            r#"{"duration":-5,"SR":720}"#,
            r#"{"duration":1e1,"SR":720}"#,
            r#"{"duration":"5","SR":720}"#,
            r#"{"duration":99999999999999,"SR":720}"#,
            r#"{"duration":5,"duration":6,"SR":720}"#,
            r#"{"duration":5,"SR":"full"}"#,
            r#"{"video_duration":5,"video_count":1.5}"#,
            r#"{"video_duration":999999999999,"video_count":999999999999}"#,
            r#"{"image_count":0.5}"#,
            r#"{"input_tokens":5,"input_tokens_details":{"image_tokens":6}}"#,
            r#"{"input_tokens":5,"output_tokens":5,"output_tokens_details":{"reasoning_tokens":6}}"#,
            r#"{"input_tokens":5,"input_tokens_details":7}"#,
        ] {
            assert_eq!(succeeded(usage), unread(usage), "{usage}");
        }
        assert_eq!(succeeded("null"), Reading::Unread { raw: None });
        let long = format!(r#"{{"duration":-6,"more":"{}"}}"#, "x".repeat(2048));
        assert_eq!(succeeded(&long), Reading::Unread { raw: None });
        let Reading::Read(usage) = succeeded(&long.replace('-', "")) else { panic!("a usage") };
        assert_eq!((usage.units.get(AudioSecond), &*usage.raw), (6_000, ""));
    }

    #[test]
    fn a_task_that_made_nothing_has_used_nothing() {
        for answer in [
            r#"{"output":{"task_status":"FAILED","code":"x","message":"\"usage\":{\"duration\":5}"}}"#,
            r#"{"output":{"task_status":"CANCELED","usage":{"duration":5}}}"#,
            r#"{"output":{"task_status":"FAILED"},"usage":null}"#,
            r#"{"output":{"task_status":"FAILED"},"usage":{}}"#,
        ] {
            assert_eq!(of_task(answer.as_bytes()), Reading::Unused, "{answer}");
        }
        for answer in [
            "",
            "<html>",
            "{}",
            r#"[{"duration":5}]"#,
            r#"{"output":{"task_status":"SUCCEEDED"},"usage":{"duration":5}"#,
        ] {
            assert_eq!(of_task(answer.as_bytes()), Reading::Unread { raw: None }, "{answer}");
        }
    }

    /// Whatever a caller wrote is repeated in a prompt, in a URL or in results, never as the answer's own `usage`.
    #[test]
    fn a_planted_usage_changes_nothing() {
        let planted = r#"\",\"usage\":{\"duration\":1},\"usage\":{\"duration\":1}"#;
        let object = r#"{"usage":{"duration":1},"output":{"usage":{"duration":1}}}"#;
        let answer = format!(
            r#"{{"output":{{"usage":{object},"orig_prompt":"{planted}","actual_prompt":"{planted}","task_status":"SUCCEEDED",
            "results":[{object},{object}],"video_url":"https://h/{planted}"}},"echo":{object},"usage":{{"duration":5,"SR":720,"usage":{object}}},
            "more":[{object}],"message":"{planted}"}}"#
        );
        let Reading::Read(usage) = of_task(answer.as_bytes()) else { panic!("a usage: {answer}") };
        assert_eq!(usage.units.get(VideoSecond), 5_000);
        let without = answer.replace(r#""usage":{"duration":5,"SR":720"#, r#""used":{"duration":5,"SR":720"#);
        assert_eq!(of_task(without.as_bytes()), Reading::Unread { raw: None });
    }
}

//! What a task shows when it is queried: times, results and usage, each model in its own shape.

use std::time::{Duration, SystemTime};

use serde_json::{Map, Value, json};

use super::media::Medium;
use super::models::Family;
use super::tasks::{Status, Task};
use super::usage::usage;

/// Signs the URL of a result by its name.
pub(super) type Sign<'a> = dyn Fn(&str) -> String + 'a;

/// The answer to a query but for its request id.
pub(super) fn answer(task: &Task, sign: &Sign<'_>) -> Map<String, Value> {
    let status = task.shown();
    let mut output = Map::new();
    output.insert("task_id".into(), task.id.clone().into());
    output.insert("task_status".into(), status.name().into());
    let mut answer = Map::new();
    if status != Status::Unknown {
        put_times(task, status, &mut output);
    }
    match status {
        Status::Succeeded => {
            put_results(task, sign, &mut output);
            answer.insert("usage".into(), usage(task));
        }
        Status::Failed => put_failure(task, &mut output),
        Status::Running if counts_items(task.family) => {
            output.insert("task_metrics".into(), metrics(items(task), 0, 0));
        }
        Status::Pending | Status::Running | Status::Suspended | Status::Canceled | Status::Unknown => {}
    }
    answer.insert("output".into(), output.into());
    answer
}

pub(super) fn unknown(id: &str) -> Value {
    json!({"task_id": id, "task_status": Status::Unknown.name()})
}

/// `YYYY-MM-DD HH:mm:ss.SSS` in UTC+8, without saying so.
pub(super) fn local_time(at: SystemTime) -> String {
    let shifted = at + Duration::from_secs(8 * 3600);
    let text = humantime::format_rfc3339_millis(shifted).to_string();
    text.replace('T', " ").trim_end_matches('Z').to_owned()
}

fn put_times(task: &Task, status: Status, output: &mut Map<String, Value>) {
    output.insert("submit_time".into(), local_time(task.submitted).into());
    let started = task.started.filter(|_| status != Status::Pending);
    if let Some(started) = started {
        output.insert("scheduled_time".into(), local_time(started).into());
    }
    if status.has_ended() {
        let ended = task.ended.or(started).unwrap_or(task.submitted);
        output.insert("end_time".into(), local_time(ended).into());
    }
}

fn put_failure(task: &Task, output: &mut Map<String, Value>) {
    let (code, message) = match &task.failure {
        Some(failure) => (failure.code.as_str(), failure.message.as_str()),
        None => (FAILURE_CODE, FAILURE_MESSAGE),
    };
    output.insert("code".into(), code.into());
    output.insert("message".into(), message.into());
    if task.family == Family::Transcription {
        let urls = file_urls(task);
        let failed = |url: &&str| json!({"file_url": url, "code": code, "message": message, "subtask_status": "FAILED"});
        output.insert("results".into(), urls.iter().map(failed).collect());
        output.insert("task_metrics".into(), metrics(urls.len(), 0, urls.len()));
    }
}

fn put_results(task: &Task, sign: &Sign<'_>, output: &mut Map<String, Value>) {
    let url = |number: usize, medium: Medium| -> Value {
        sign(&format!("{}-{number}.{}", task.id, medium.extension())).into()
    };
    match task.family {
        Family::TextToVideo
        | Family::ImageToVideo
        | Family::ReferenceToVideo
        | Family::VideoEdit
        | Family::Wan30
        | Family::Wan26
        | Family::Wan25
        | Family::Wan2
        | Family::KeyFrames
        | Family::OtherVideo => {
            output.insert("orig_prompt".into(), prompt(task));
            if extends_prompt(task) {
                output.insert("actual_prompt".into(), format!("{}, in detail", text(&prompt(task))).into());
            }
            output.insert("video_url".into(), url(0, Medium::Video));
        }
        Family::Animate => {
            output.insert("results".into(), json!({"video_url": url(0, Medium::Video)}));
        }
        Family::ThreeD => {
            output.insert("results".into(), json!([{"url": url(0, Medium::Image)}]));
        }
        Family::Image => put_images(task, &url, output),
        Family::ImageChoices => {
            let image = |number| {
                let content = json!([{"type": "image", "image": url(number, Medium::Image)}]);
                json!({"finish_reason": "stop", "message": {"role": "assistant", "content": content}})
            };
            output.insert("choices".into(), (0..items(task)).map(image).collect());
            output.insert("finished".into(), true.into());
        }
        Family::Transcription => put_transcripts(task, &url, output),
        Family::TranscriptionOfOne => {
            output.insert("result".into(), json!({"transcription_url": url(0, Medium::Transcript)}));
        }
        Family::EmbeddingFile => {
            output.insert("url".into(), url(0, Medium::Transcript));
        }
        Family::Detect
        | Family::Text
        | Family::TextAndImage
        | Family::Speech
        | Family::Embedding
        | Family::MultimodalEmbedding
        | Family::Rerank
        | Family::Realtime
        | Family::Legacy => {
            output.insert("results".into(), json!([{"url": url(0, Medium::Image)}]));
        }
    }
}

/// An image whose place in the batch the prompt names as `fail:N` fails alone.
fn put_images(task: &Task, url: &dyn Fn(usize, Medium) -> Value, output: &mut Map<String, Value>) {
    let prompt = prompt(task);
    let count = items(task);
    let failed = |number: usize| text(&prompt).contains(&format!("fail:{number}"));
    let image = |number: usize| {
        if failed(number) {
            json!({"code": "InternalError.Timeout", "message": "An internal timeout error has occured."})
        } else {
            json!({"orig_prompt": prompt, "actual_prompt": prompt, "url": url(number, Medium::Image)})
        }
    };
    let failures = (0..count).filter(|number| failed(*number)).count();
    output.insert("results".into(), (0..count).map(image).collect());
    output.insert("task_metrics".into(), metrics(count, count - failures, failures));
}

/// A file whose name holds `missing` cannot be downloaded.
fn put_transcripts(task: &Task, url: &dyn Fn(usize, Medium) -> Value, output: &mut Map<String, Value>) {
    let urls = file_urls(task);
    let missing = urls.iter().filter(|url| url.contains("missing")).count();
    let result = |(number, file): (usize, &&str)| {
        if file.contains("missing") {
            json!({
                "file_url": file,
                "code": "InvalidFile.DownloadFailed",
                "message": "The audio file cannot be downloaded.",
                "subtask_status": "FAILED",
            })
        } else {
            let transcript = url(number, Medium::Transcript);
            json!({"file_url": file, "transcription_url": transcript, "subtask_status": "SUCCEEDED"})
        }
    };
    output.insert("results".into(), urls.iter().enumerate().map(result).collect());
    output.insert("task_metrics".into(), metrics(urls.len(), urls.len() - missing, missing));
}

fn counts_items(family: Family) -> bool {
    matches!(family, Family::Image | Family::Transcription)
}

/// Images or files of the task.
pub(super) fn items(task: &Task) -> usize {
    if task.family == Family::Transcription {
        return file_urls(task).len();
    }
    task.parameter("n").as_u64().unwrap_or(1).clamp(1, 10) as usize
}

pub(super) fn file_urls(task: &Task) -> Vec<&str> {
    let urls = task.input("file_urls").as_array().map(Vec::as_slice).unwrap_or_default();
    urls.iter().filter_map(Value::as_str).collect()
}

fn extends_prompt(task: &Task) -> bool {
    matches!(task.family, Family::Wan25 | Family::Wan2 | Family::KeyFrames)
        && task.parameter("prompt_extend").as_bool().unwrap_or(true)
        && !text(&prompt(task)).is_empty()
}

pub(super) fn prompt(task: &Task) -> Value {
    let prompt = task.input("prompt");
    if prompt.is_string() { prompt.clone() } else { "".into() }
}

pub(super) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn metrics(total: usize, succeeded: usize, failed: usize) -> Value {
    json!({"TOTAL": total, "SUCCEEDED": succeeded, "FAILED": failed})
}

pub(super) const FAILURE_CODE: &str = "InternalError.Algo";
pub(super) const FAILURE_MESSAGE: &str = "The simulator was told to let this task fail.";

#[cfg(test)]
mod tests {
    use super::super::tasks::tests::{at, task};
    use super::*;

    fn finished(model: &str, body: Value) -> Map<String, Value> {
        let mut task = task("t", model, body);
        task.status = Status::Succeeded;
        task.started = Some(at(1.0));
        task.ended = Some(at(11.0));
        answer(&task, &|name| format!("http://oss/{name}"))
    }

    #[test]
    fn a_batch_may_fail_in_part() {
        let images =
            finished("wan2.2-t2i-flash", json!({"input": {"prompt": "fail:1"}, "parameters": {"n": 2}}));
        assert_eq!(images["output"]["results"][0]["url"], "http://oss/t-0.png");
        assert_eq!(images["output"]["results"][1]["code"], "InternalError.Timeout");
        assert_eq!(images["output"]["task_metrics"], json!({"TOTAL": 2, "SUCCEEDED": 1, "FAILED": 1}));
        assert_eq!(images["usage"]["image_count"], 1);
    }

    #[test]
    fn a_failure_is_told_inside_the_output_without_usage() {
        let mut task = task("t", "wan2.7-t2v", json!({}));
        task.status = Status::Failed;
        let answer = answer(&task, &|name| name.into());
        assert_eq!(answer["output"]["code"], FAILURE_CODE);
        assert!(!answer.contains_key("usage"));
    }

    #[test]
    fn times_are_in_utc_8() {
        assert_eq!(local_time(SystemTime::UNIX_EPOCH + Duration::from_millis(1)), "1970-01-01 08:00:00.001");
    }
}

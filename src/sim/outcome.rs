//! Answer to the query of a task: times, results and usage. Their fields depend on the model.

use std::time::{Duration, SystemTime};

use serde_json::{Map, Value, json};

use super::media::ResultMedium;
use super::models::SimulatedFamily;
use super::task_request::is_missing;
use super::tasks::{SimulatedStatus, SimulatedTask};

/// Signs the URL of a result by its name.
pub(super) type SignUrl<'a> = dyn Fn(&str) -> String + 'a;

/// The answer to a query, without the request id.
pub(super) fn answer(task: &SimulatedTask, sign: &SignUrl<'_>) -> Map<String, Value> {
    let status = task.shown();
    let mut output = Map::new();
    output.insert("task_id".into(), task.id.clone().into());
    output.insert("task_status".into(), status.name().into());
    let mut answer = Map::new();
    if status != SimulatedStatus::Unknown {
        put_times(task, status, &mut output);
    }
    match status {
        SimulatedStatus::Succeeded => {
            put_results(task, sign, &mut output);
            answer.insert("usage".into(), task.consumption.usage());
        }
        SimulatedStatus::Failed => put_failure(task, &mut output),
        SimulatedStatus::Running if counts_items(task.family) => {
            output.insert("task_metrics".into(), metrics(task.request().items(), 0, 0));
        }
        SimulatedStatus::Pending
        | SimulatedStatus::Running
        | SimulatedStatus::Suspended
        | SimulatedStatus::Canceled
        | SimulatedStatus::Unknown => {}
    }
    answer.insert("output".into(), output.into());
    answer
}

pub(super) fn unknown(id: &str) -> Value {
    json!({"task_id": id, "task_status": SimulatedStatus::Unknown.name()})
}

/// `YYYY-MM-DD HH:mm:ss.SSS` in UTC+8, without an offset in the text.
pub(super) fn local_time(at: SystemTime) -> String {
    let shifted = at + Duration::from_secs(8 * 3600);
    let text = humantime::format_rfc3339_millis(shifted).to_string();
    text.replace('T', " ").trim_end_matches('Z').to_owned()
}

fn put_times(task: &SimulatedTask, status: SimulatedStatus, output: &mut Map<String, Value>) {
    output.insert("submit_time".into(), local_time(task.submitted).into());
    let started = task.started.filter(|_| status != SimulatedStatus::Pending);
    if let Some(started) = started {
        output.insert("scheduled_time".into(), local_time(started).into());
    }
    if status.has_ended() {
        let ended = task.ended.or(started).unwrap_or(task.submitted);
        output.insert("end_time".into(), local_time(ended).into());
    }
}

fn put_failure(task: &SimulatedTask, output: &mut Map<String, Value>) {
    let (code, message) = match &task.failure {
        Some(failure) => (failure.code.as_str(), failure.message.as_str()),
        None => (FAILURE_CODE, FAILURE_MESSAGE),
    };
    output.insert("code".into(), code.into());
    output.insert("message".into(), message.into());
    if task.family == SimulatedFamily::Transcription {
        let urls = task.request().file_urls();
        let failed = |url: &&str| json!({"file_url": url, "code": code, "message": message, "subtask_status": "FAILED"});
        output.insert("results".into(), urls.iter().map(failed).collect());
        output.insert("task_metrics".into(), metrics(urls.len(), 0, urls.len()));
    }
}

fn put_results(task: &SimulatedTask, sign: &SignUrl<'_>, output: &mut Map<String, Value>) {
    let url = |number: usize, medium: ResultMedium| -> Value {
        sign(&format!("{}-{number}.{}", task.id, medium.extension())).into()
    };
    match task.family {
        SimulatedFamily::TextToVideo
        | SimulatedFamily::ImageToVideo
        | SimulatedFamily::ReferenceToVideo
        | SimulatedFamily::VideoEdit
        | SimulatedFamily::Wan30
        | SimulatedFamily::Wan26
        | SimulatedFamily::Wan25
        | SimulatedFamily::Wan2
        | SimulatedFamily::KeyFrames
        | SimulatedFamily::OtherVideo => {
            output.insert("orig_prompt".into(), task.request().prompt().into());
            if extends_prompt(task) {
                output
                    .insert("actual_prompt".into(), format!("{}, in detail", task.request().prompt()).into());
            }
            output.insert("video_url".into(), url(0, ResultMedium::Video));
        }
        SimulatedFamily::Animate => {
            output.insert("results".into(), json!({"video_url": url(0, ResultMedium::Video)}));
        }
        SimulatedFamily::ThreeD => {
            output.insert("results".into(), json!([{"url": url(0, ResultMedium::Image)}]));
        }
        SimulatedFamily::Image => put_images(task, &url, output),
        SimulatedFamily::ImageChoices => {
            let image = |number| {
                let content = json!([{"type": "image", "image": url(number, ResultMedium::Image)}]);
                json!({"finish_reason": "stop", "message": {"role": "assistant", "content": content}})
            };
            output.insert("choices".into(), (0..task.request().items()).map(image).collect());
            output.insert("finished".into(), true.into());
        }
        SimulatedFamily::Transcription => put_transcripts(task, &url, output),
        SimulatedFamily::TranscriptionOfOne => {
            output.insert("result".into(), json!({"transcription_url": url(0, ResultMedium::Transcript)}));
        }
        SimulatedFamily::EmbeddingFile => {
            output.insert("url".into(), url(0, ResultMedium::Transcript));
        }
        SimulatedFamily::Detect
        | SimulatedFamily::Text
        | SimulatedFamily::TextAndImage
        | SimulatedFamily::Speech
        | SimulatedFamily::Embedding
        | SimulatedFamily::MultimodalEmbedding
        | SimulatedFamily::Rerank
        | SimulatedFamily::Realtime
        | SimulatedFamily::Legacy => {
            output.insert("results".into(), json!([{"url": url(0, ResultMedium::Image)}]));
        }
    }
}

/// Results of images, of which some may have failed alone.
fn put_images(
    task: &SimulatedTask,
    url: &dyn Fn(usize, ResultMedium) -> Value,
    output: &mut Map<String, Value>,
) {
    let request = task.request();
    let (prompt, count) = (request.prompt(), request.items());
    let image = |number: usize| {
        if request.fails(number) {
            json!({"code": "InternalError.Timeout", "message": "An internal timeout error has occured."})
        } else {
            json!({"orig_prompt": prompt, "actual_prompt": prompt, "url": url(number, ResultMedium::Image)})
        }
    };
    let failures = (0..count).filter(|number| request.fails(*number)).count();
    output.insert("results".into(), (0..count).map(image).collect());
    output.insert("task_metrics".into(), metrics(count, count - failures, failures));
}

/// Results of transcriptions. A file with `missing` in its name cannot be downloaded.
fn put_transcripts(
    task: &SimulatedTask,
    url: &dyn Fn(usize, ResultMedium) -> Value,
    output: &mut Map<String, Value>,
) {
    let urls = task.request().file_urls();
    let missing = urls.iter().filter(|url| is_missing(url)).count();
    let result = |(number, file): (usize, &&str)| {
        if is_missing(file) {
            json!({
                "file_url": file,
                "code": "InvalidFile.DownloadFailed",
                "message": "The audio file cannot be downloaded.",
                "subtask_status": "FAILED",
            })
        } else {
            let transcript = url(number, ResultMedium::Transcript);
            json!({"file_url": file, "transcription_url": transcript, "subtask_status": "SUCCEEDED"})
        }
    };
    output.insert("results".into(), urls.iter().enumerate().map(result).collect());
    output.insert("task_metrics".into(), metrics(urls.len(), urls.len() - missing, missing));
}

fn counts_items(family: SimulatedFamily) -> bool {
    matches!(family, SimulatedFamily::Image | SimulatedFamily::Transcription)
}

fn extends_prompt(task: &SimulatedTask) -> bool {
    matches!(task.family, SimulatedFamily::Wan25 | SimulatedFamily::Wan2 | SimulatedFamily::KeyFrames)
        && task.request().parameter("prompt_extend").as_bool().unwrap_or(true)
        && !task.request().prompt().is_empty()
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
        task.status = SimulatedStatus::Succeeded;
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
        task.status = SimulatedStatus::Failed;
        let answer = answer(&task, &|name| name.into());
        assert_eq!(answer["output"]["code"], FAILURE_CODE);
        assert!(!answer.contains_key("usage"));
    }

    #[test]
    fn times_are_in_utc_8() {
        assert_eq!(local_time(SystemTime::UNIX_EPOCH + Duration::from_millis(1)), "1970-01-01 08:00:00.001");
    }
}

//! The answer to a task query: status, end, usage, result URL or error, as each kind of task writes them.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::task::Status;
use super::{lenient_json, size, time};

/// A task as DashScope reports it. A field that the answer lacks is `None`.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskReport {
    pub status: Status,
    /// DashScope's id of the answer.
    pub request_id: Option<String>,
    pub ended: Option<SystemTime>,
    pub prompt: Option<String>,
    pub code: Option<String>,
    pub message: Option<String>,
    /// The URL of the video; for a task that makes something else, the URL of its first result.
    pub url: Option<String>,
    /// True if `url` is that of a video.
    pub is_video: bool,
    pub seconds: Option<String>,
    /// `1280x720`, or `720P` if only the lines are known.
    pub size: Option<String>,
}

impl TaskReport {
    /// The report of a task of which only the status is known.
    pub fn of_status(status: Status) -> Self {
        Self {
            status,
            request_id: None,
            ended: None,
            prompt: None,
            code: None,
            message: None,
            url: None,
            is_video: false,
            seconds: None,
            size: None,
        }
    }

    /// Reads the body of an answer; `None` if it reports no task.
    pub fn read(body: &[u8]) -> Option<Self> {
        let ReportAnswer { output, usage, request_id } = lenient_json::from_slice(body)?;
        let output = Value::Object(output.0);
        let (output, usage) = (&output, &usage);
        let status = Status::from_name(output["task_status"].as_str()?);
        let text = |name: &str| output[name].as_str().map(str::to_owned);
        let video = output["video_url"].as_str().or_else(|| output["results"]["video_url"].as_str());
        let url = video.or_else(|| first_url(output));
        Some(Self {
            status,
            request_id: request_id.as_str().map(str::to_owned),
            ended: output["end_time"].as_str().and_then(time::read),
            prompt: text("orig_prompt"),
            code: text("code"),
            message: text("message"),
            url: url.map(str::to_owned),
            is_video: video.is_some(),
            seconds: seconds(usage),
            size: made_size(usage),
        })
    }

    /// The end of the URL's validity, which its parameter `Expires` tells.
    pub fn url_expires(&self) -> Option<SystemTime> {
        let query = self.url.as_deref()?.split_once('?')?.1;
        let seconds = query.split('&').find_map(|pair| pair.strip_prefix("Expires=")?.parse().ok())?;
        UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
    }
}

/// An answer, as far as it is read. That of a task with a thousand results has some MiB, of which one result is shown.
#[derive(Deserialize)]
struct ReportAnswer {
    output: ReportOutput,
    #[serde(default)]
    usage: Value,
    #[serde(default)]
    request_id: Value,
}

/// The fields of `output` that a report is made of.
struct ReportOutput(Map<String, Value>);

/// A list without the items that have no URL, and those after the first that has one; or any other value.
struct FirstResult(Value);

impl<'de> Deserialize<'de> for ReportOutput {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(OutputVisitor)
    }
}

impl<'de> Deserialize<'de> for FirstResult {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ResultsVisitor)
    }
}

struct OutputVisitor;

impl<'de> Visitor<'de> for OutputVisitor {
    type Value = ReportOutput;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an output")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ReportOutput, A::Error> {
        let mut fields = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            if name == "results" {
                fields.insert(name, map.next_value::<FirstResult>()?.0);
            } else if FIELDS.contains(&&*name) {
                fields.insert(name, map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(ReportOutput(fields))
    }
}

struct ResultsVisitor;

impl<'de> Visitor<'de> for ResultsVisitor {
    type Value = FirstResult;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("results")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<FirstResult, A::Error> {
        let mut first = Vec::new();
        while first.is_empty()
            && let Some(item) = list.next_element::<Value>()?
        {
            first.extend(item_url(&item).is_some().then_some(item));
        }
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(FirstResult(Value::Array(first)))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<FirstResult, A::Error> {
        Value::deserialize(MapAccessDeserializer::new(map)).map(FirstResult)
    }

    fn visit_bool<E>(self, _: bool) -> Result<FirstResult, E> {
        Ok(FirstResult(Value::Null))
    }

    fn visit_i64<E>(self, _: i64) -> Result<FirstResult, E> {
        Ok(FirstResult(Value::Null))
    }

    fn visit_u64<E>(self, _: u64) -> Result<FirstResult, E> {
        Ok(FirstResult(Value::Null))
    }

    fn visit_f64<E>(self, _: f64) -> Result<FirstResult, E> {
        Ok(FirstResult(Value::Null))
    }

    fn visit_str<E>(self, _: &str) -> Result<FirstResult, E> {
        Ok(FirstResult(Value::Null))
    }

    fn visit_unit<E>(self) -> Result<FirstResult, E> {
        Ok(FirstResult(Value::Null))
    }
}

/// The first URL of a result that is no video: an image, a transcript, or another file.
fn first_url(output: &Value) -> Option<&str> {
    let listed = output["results"].as_array().into_iter().flatten();
    let chosen = || output["choices"][0]["message"]["content"][0]["image"].as_str();
    listed
        .filter_map(item_url)
        .next()
        .or_else(|| output["result"]["transcription_url"].as_str())
        .or_else(chosen)
        .or_else(|| output["url"].as_str())
}

fn item_url(item: &Value) -> Option<&str> {
    item["url"].as_str().or_else(|| item["transcription_url"].as_str())
}

fn seconds(usage: &Value) -> Option<String> {
    let names = ["output_video_duration", "video_duration", "duration"];
    names.iter().map(|name| &usage[*name]).find(|value| value.is_number()).map(Value::to_string)
}

/// The size that `usage` tells, else the lines.
fn made_size(usage: &Value) -> Option<String> {
    let sizes = ["size", "video_ratio"].into_iter().filter_map(|name| usage[name].as_str());
    let named = sizes.filter_map(size::parse).map(|(width, height)| format!("{width}x{height}")).next();
    let lines = usage["SR"].as_u64().and_then(|lines| u32::try_from(lines).ok());
    let composed = || size::compose(lines?, usage["ratio"].as_str()?);
    named.or_else(composed).or_else(|| lines.map(|lines| format!("{lines}P")))
}

const FIELDS: [&str; 9] =
    ["task_status", "end_time", "orig_prompt", "code", "message", "video_url", "result", "choices", "url"];

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> TaskReport {
        TaskReport::read(body.as_bytes()).expect("an report")
    }

    #[test]
    fn a_finished_video_tells_all() {
        let report = read(
            r#"{"output":{"task_id":"t","task_status":"SUCCEEDED","end_time":"1970-01-01 08:00:01.000",
                "orig_prompt":"p","video_url":"https://h/a.mp4?Expires=86400&x=1"},
                "usage":{"duration":15,"output_video_duration":10,"ratio":"9:16","SR":720}}"#,
        );
        assert_eq!(report.ended, Some(UNIX_EPOCH + Duration::from_secs(1)));
        assert_eq!((report.seconds.as_deref(), report.size.as_deref()), (Some("10"), Some("720x1280")));
        assert_eq!(report.url_expires(), Some(UNIX_EPOCH + Duration::from_secs(86400)));
        assert!(report.is_video && report.prompt.as_deref() == Some("p"));
    }

    #[test]
    fn each_models_usage_is_read() {
        for (usage, seconds, size) in [
            (r#"{"video_duration":5,"video_ratio":"1920*1080"}"#, Some("5"), Some("1920x1080")),
            (r#"{"video_duration":5,"video_ratio":"standard"}"#, Some("5"), None),
            (r#"{"video_duration":5,"SR":480}"#, Some("5"), Some("480P")),
            (r#"{"duration":10.04,"output_video_duration":5.02,"SR":720}"#, Some("5.02"), Some("720P")),
            (r#"{"duration":5,"size":"1280*720","SR":720}"#, Some("5"), Some("1280x720")),
            (r#"{"image_count":1}"#, None, None),
        ] {
            let report = read(&format!(r#"{{"output":{{"task_status":"SUCCEEDED"}},"usage":{usage}}}"#));
            assert_eq!((report.seconds.as_deref(), report.size.as_deref()), (seconds, size), "{usage}");
        }
    }

    #[test]
    fn other_results_have_a_url_too() {
        for (output, is_video) in [
            (r#""results":{"video_url":"u"}"#, true),
            (r#""results":[{"code":"x"},{"url":"u"}]"#, false),
            (r#""results":[{"transcription_url":"u"},{"url":"v"}]"#, false),
            (r#""results":null,"url":"u""#, false),
            (r#""results":"none","url":"u""#, false),
            (r#""result":{"transcription_url":"u"}"#, false),
            (r#""choices":[{"message":{"content":[{"image":"u"}]}}]"#, false),
        ] {
            let report = read(&format!(r#"{{"output":{{"task_status":"SUCCEEDED",{output}}}}}"#));
            assert_eq!((report.url.as_deref(), report.is_video), (Some("u"), is_video), "{output}");
        }
        assert_eq!(TaskReport::read(b"{}"), None);
        assert_eq!(TaskReport::read(b"<html>"), None);
    }
}

//! The body of a submit, read by the rules of its family of models.

use serde_json::Value;

use super::models::SimulatedFamily;

#[derive(Clone, Copy, Debug)]
pub(super) struct TaskRequest<'a> {
    pub(super) family: SimulatedFamily,
    pub(super) model: &'a str,
    pub(super) body: &'a Value,
}

impl<'a> TaskRequest<'a> {
    pub(super) fn input(&self, name: &str) -> &'a Value {
        &self.body["input"][name]
    }

    pub(super) fn parameter(&self, name: &str) -> &'a Value {
        &self.body["parameters"][name]
    }

    /// The prompt, or an empty text.
    pub(super) fn prompt(&self) -> &'a str {
        self.input("prompt").as_str().unwrap_or_default()
    }

    /// Number of images or files of the task.
    pub(super) fn items(&self) -> usize {
        if self.family == SimulatedFamily::Transcription {
            return self.file_urls().len();
        }
        self.parameter("n").as_u64().unwrap_or(1).clamp(1, 12) as usize
    }

    /// True for an image that fails alone, because the prompt names its number as `fail:N`.
    pub(super) fn fails(&self, number: usize) -> bool {
        self.prompt().contains(&format!("fail:{number}"))
    }

    pub(super) fn file_urls(&self) -> Vec<&'a str> {
        let urls = self.input("file_urls").as_array().map(Vec::as_slice).unwrap_or_default();
        urls.iter().filter_map(Value::as_str).collect()
    }

    pub(super) fn has_media(&self, kind: &str) -> bool {
        let media = self.input("media").as_array();
        media.is_some_and(|media| media.iter().any(|item| item["type"] == kind))
    }
}

/// True for the URL of a file that cannot be downloaded.
pub(super) fn is_missing(url: &str) -> bool {
    url.contains("missing")
}

//! The record of a task, and who owns it. A gateway holds the records of all tasks of two days in memory.

use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::record::{MOST_MODEL_BYTES, shorten};
use super::shared_field::SharedField;
use super::timestamp;
use crate::dashscope::task::Status;
use crate::dashscope::task_id::{TaskId, TaskKey};
use crate::unified::RequestedVideo;
use crate::usage::Terms;

/// One task and its owner. A record takes 64 bytes of memory, 16 of them for the counts of its `Arc`: with all fields side
/// by side it took 272.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "TaskFields", into = "TaskFields")]
pub struct TaskRecord {
    /// The id, unless [`TaskExtras`] have it.
    uuid: Uuid,
    pub facts: Arc<TaskFacts>,
    extras: Option<Arc<TaskExtras>>,
    /// Milliseconds since 1970.
    claimed_at: i64,
    /// Last known status.
    pub status: SharedField<Status>,
    /// True once the tenant has deleted the task in the unified dialect, which then hides it.
    pub hidden: SharedField<bool>,
    /// True while the task is counted for its key and its tenant. The task index alone sets it.
    pub is_counted: SharedField<bool>,
}

/// Fields that many tasks have in common. The task index holds each combination once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskFacts {
    pub tenant: Arc<str>,
    pub key_id: Arc<str>,
    /// The account that runs the task: every later call on the task goes there.
    pub account: Arc<str>,
    /// The model that the submit named, up to 128 bytes; empty where it could not be read.
    pub model: Box<str>,
    /// The prefix of the mount that the submit came by.
    pub mount: Arc<str>,
    /// Prices of the task, as they stood when the task was submitted; `None` if its tenant has no prices.
    pub terms: Option<Arc<Terms>>,
}

/// Fields that most tasks have not.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct TaskExtras {
    /// An id that is no canonical UUID.
    id: Option<Arc<str>>,
    asked: Option<Arc<RequestedVideo>>,
    webhook: Option<Arc<str>>,
}

/// The fields of a task's record, as they are written and sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskFields {
    pub id: Arc<str>,
    pub tenant: Arc<str>,
    pub key_id: Arc<str>,
    /// See [`TaskFacts`].
    pub account: Arc<str>,
    pub model: Box<str>,
    pub mount: Arc<str>,
    /// Kept to the millisecond.
    pub claimed_at: SystemTime,
    pub status: Status,
    /// The request's fields, of a video that was submitted in the unified dialect.
    pub asked: Option<Arc<RequestedVideo>>,
    pub hidden: bool,
    #[serde(default)]
    pub terms: Option<Arc<Terms>>,
    /// The address that the submit named for a webhook.
    #[serde(default)]
    pub webhook: Option<Arc<str>>,
}

impl TaskRecord {
    /// A record whose other fields many tasks share.
    pub(super) fn new(
        id: &str,
        facts: Arc<TaskFacts>,
        claimed_at: SystemTime,
        status: Status,
        hidden: bool,
    ) -> Self {
        let claimed_at = timestamp::milliseconds(claimed_at);
        let (status, hidden, is_counted) = (status.into(), hidden.into(), false.into());
        let (uuid, id) = match TaskKey::of(id) {
            TaskKey::Uuid(uuid) => (uuid, None),
            TaskKey::Other(id) => (Uuid::nil(), Some(Arc::from(id))),
        };
        let extras = id.is_some().then(|| Arc::new(TaskExtras { id, ..TaskExtras::default() }));
        Self { uuid, facts, extras, claimed_at, status, hidden, is_counted }
    }

    /// The record with the request's fields, and the address for a webhook.
    pub(super) fn with_extras(self, asked: Option<Arc<RequestedVideo>>, webhook: Option<Arc<str>>) -> Self {
        if asked.is_none() && webhook.is_none() {
            return self;
        }
        let id = self.extras.as_ref().and_then(|extras| extras.id.clone());
        Self { extras: Some(Arc::new(TaskExtras { id, asked, webhook })), ..self }
    }

    pub fn id(&self) -> TaskId {
        match self.other_id() {
            Some(id) => TaskId::Other(Arc::clone(id)),
            None => self.uuid.into(),
        }
    }

    pub fn key(&self) -> TaskKey<'_> {
        self.other_id().map_or(TaskKey::Uuid(self.uuid), |id| TaskKey::Other(id))
    }

    fn other_id(&self) -> Option<&Arc<str>> {
        self.extras.as_ref()?.id.as_ref()
    }

    /// A task of tenant `one` and account `main` that waits to run, for tests.
    #[cfg(test)]
    pub(crate) fn sample(id: &str, claimed_at: SystemTime) -> Self {
        TaskFields::sample(id, claimed_at).into()
    }

    pub fn claimed_at(&self) -> SystemTime {
        timestamp::time(self.claimed_at)
    }

    /// The request's fields, of a video that was submitted in the unified dialect.
    pub fn asked(&self) -> Option<&Arc<RequestedVideo>> {
        self.extras.as_ref()?.asked.as_ref()
    }

    /// The address that the submit named for a webhook.
    pub fn webhook(&self) -> Option<&Arc<str>> {
        self.extras.as_ref()?.webhook.as_ref()
    }

    /// Memory held by the recorded request fields of a unified task, in bytes, beside a fixed part.
    pub fn asked_bytes(&self) -> usize {
        self.asked().map_or(0, |asked| asked.bytes())
    }

    /// Forgets the request's fields, but not that there were some.
    pub fn forget_asked(&mut self) {
        if let Some(extras) = &mut self.extras {
            Arc::make_mut(extras).asked = Some(Arc::default());
        }
    }

    /// True if a field that a client chooses is longer than the store records it.
    pub(super) fn is_long(&self) -> bool {
        self.facts.model.len() > MOST_MODEL_BYTES || self.asked().is_some_and(|asked| asked.is_long())
    }

    /// Cuts the fields that a client chooses to their longest length.
    pub(super) fn shorten(&mut self) {
        if self.facts.model.len() > MOST_MODEL_BYTES {
            shorten(&mut Arc::make_mut(&mut self.facts).model, MOST_MODEL_BYTES);
        }
        if let Some(extras) = &mut self.extras
            && let Some(asked) = extras.asked.as_deref().filter(|asked| asked.is_long())
        {
            let asked = Some(Arc::new(asked.clone().shortened()));
            Arc::make_mut(extras).asked = asked;
        }
    }
}

impl From<TaskFields> for TaskRecord {
    fn from(fields: TaskFields) -> Self {
        let facts = Arc::new(TaskFacts {
            tenant: fields.tenant,
            key_id: fields.key_id,
            account: fields.account,
            model: fields.model,
            mount: fields.mount,
            terms: fields.terms,
        });
        Self::new(&fields.id, facts, fields.claimed_at, fields.status, fields.hidden)
            .with_extras(fields.asked, fields.webhook)
    }
}

impl From<TaskFields> for Arc<TaskRecord> {
    fn from(fields: TaskFields) -> Self {
        Self::new(fields.into())
    }
}

impl From<TaskRecord> for TaskFields {
    fn from(record: TaskRecord) -> Self {
        let TaskFacts { tenant, key_id, account, model, mount, terms } = (*record.facts).clone();
        Self {
            tenant,
            key_id,
            account,
            model,
            mount,
            claimed_at: record.claimed_at(),
            status: record.status.get(),
            asked: record.asked().cloned(),
            hidden: record.hidden.get(),
            terms,
            webhook: record.webhook().cloned(),
            id: record.id().into(),
        }
    }
}

impl TaskFields {
    /// A task of tenant `one` and account `main` that waits to run, for tests.
    #[cfg(test)]
    pub(crate) fn sample(id: &str, claimed_at: SystemTime) -> Self {
        Self {
            id: id.into(),
            tenant: "one".into(),
            key_id: "key".into(),
            account: "main".into(),
            model: "wan2.7-i2v".into(),
            mount: "/".into(),
            claimed_at,
            status: Status::Pending,
            asked: None,
            hidden: false,
            terms: None,
            webhook: None,
        }
    }
}

impl Hash for TaskFacts {
    /// Few facts differ in their prices alone, so that these need not be hashed.
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Self { tenant, key_id, account, model, mount, terms: _ } = self;
        (tenant, key_id, account, model, mount).hash(state);
    }
}

impl RequestedVideo {
    fn bytes(&self) -> usize {
        [&self.prompt, &self.seconds, &self.size].into_iter().flatten().map(|text| text.len()).sum()
    }

    fn is_long(&self) -> bool {
        let is_over = |text: &Option<Box<str>>, most| text.as_ref().is_some_and(|text| text.len() > most);
        is_over(&self.prompt, MOST_PROMPT_BYTES)
            || is_over(&self.seconds, MOST_MODEL_BYTES)
            || is_over(&self.size, MOST_MODEL_BYTES)
    }

    fn shortened(mut self) -> Self {
        let cut = |text: &mut Option<Box<str>>, most| text.iter_mut().for_each(|text| shorten(text, most));
        cut(&mut self.prompt, MOST_PROMPT_BYTES);
        cut(&mut self.seconds, MOST_MODEL_BYTES);
        cut(&mut self.size, MOST_MODEL_BYTES);
        self
    }
}

const MOST_PROMPT_BYTES: usize = 20_000;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Text of a version whose records had all fields side by side: logs, spools and processes of a hand-over have it.
    const WRITTEN: &str = r#"{"id":"0385dc79-5ff8-4d82-bcb6-000000000000","tenant":"one","key_id":"key",
        "account":"main","model":"wan2.7-i2v","mount":"/v1",
        "claimed_at":{"secs_since_epoch":1764490000,"nanos_since_epoch":123000000},"status":"RUNNING",
        "asked":{"prompt":"A cat","seconds":"5","size":null},"hidden":true,"terms":null,"webhook":"https://a.example/"}"#;

    #[test]
    fn a_record_is_read_and_written_as_before() {
        let read: TaskRecord = serde_json::from_str(WRITTEN).expect("a record");
        assert_eq!(read.claimed_at(), SystemTime::UNIX_EPOCH + Duration::from_millis(1_764_490_000_123));
        assert_eq!((&*read.facts.tenant, &*read.facts.mount, read.hidden.get()), ("one", "/v1", true));
        assert_eq!(read.asked().and_then(|asked| asked.prompt.as_deref()), Some("A cat"));
        let written = serde_json::to_value(&read).expect("text");
        assert_eq!(written, serde_json::from_str::<serde_json::Value>(WRITTEN).expect("text"));
    }

    #[test]
    fn a_record_without_prices_and_webhook_is_read() {
        let older = WRITTEN.replace(r#","terms":null,"webhook":"https://a.example/""#, "");
        let read: TaskRecord = serde_json::from_str(&older).expect("a record");
        assert_eq!((read.webhook(), &read.facts.terms), (None, &None));
    }

    #[test]
    fn an_id_that_is_no_uuid_is_read_and_written_as_it_is() {
        let odd = WRITTEN.replace("0385dc79-5ff8-4d82-bcb6-000000000000", "Task 7");
        let read: TaskRecord = serde_json::from_str(&odd).expect("a record");
        assert_eq!((&*read.id(), read.key()), ("Task 7", TaskKey::Other("Task 7")));
        let written = serde_json::to_value(&read).expect("text");
        assert_eq!(written, serde_json::from_str::<serde_json::Value>(&odd).expect("text"));
    }

    #[test]
    fn a_record_is_small() {
        assert_eq!(size_of::<TaskRecord>(), 48);
    }
}

//! What is known of one task, for all who ask.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use tokio::sync::Notify;
use uuid::Uuid;

use super::account_poller::AccountPoller;
use crate::dashscope::headers::REQUEST_ID;
use crate::dashscope::task::{self, Status};
use crate::store::TaskRecord;

/// An answer that may be given to many.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskAnswer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// A task's state as last known.
#[derive(Debug)]
pub(super) struct KnownState {
    pub(super) status: Status,
    /// The upstream's own, or one that says no more than the status: that is made when it is asked for.
    answer: OnceLock<Arc<TaskAnswer>>,
}

impl KnownState {
    pub(super) fn told(status: Status, answer: TaskAnswer) -> Self {
        Self { status, answer: OnceLock::from(Arc::new(answer)) }
    }

    pub(super) fn status_alone(status: Status) -> Self {
        Self { status, answer: OnceLock::new() }
    }

    /// Whether the task has ended and its whole answer is here.
    pub(super) fn is_final(&self) -> bool {
        self.status.is_final() && self.answer.get().is_some()
    }
}

/// A task that is followed. All workers share it; none waits for another.
#[derive(Debug)]
pub struct TrackedTask {
    pub(super) number: u64,
    pub(super) id: Arc<str>,
    pub(super) tenant: Arc<str>,
    pub(super) poller: Arc<AccountPoller>,
    pub(super) claimed_at: SystemTime,
    knowledge: ArcSwap<KnownState>,
    /// As of when, in milliseconds since the hub's origin; 0: nothing but the submit's answer.
    seen: AtomicU64,
    /// Since when it is followed, in milliseconds since the hub's origin.
    pub(super) since: u64,
    /// How often anything was heard or failed to be.
    heard: AtomicU32,
    /// Somebody asks for it now.
    pub(super) in_hand: AtomicBool,
    /// Clients that wait for its end.
    pub(super) held: AtomicU32,
    /// When a client asked last.
    pub(super) polled: AtomicU64,
    /// It is counted among those that clients follow.
    pub(super) followed: AtomicBool,
    pub(super) changed: Notify,
}

impl TrackedTask {
    pub(super) fn new(number: u64, task: &TaskRecord, poller: Arc<AccountPoller>, since: u64) -> Self {
        Self {
            number,
            id: Arc::clone(&task.id),
            tenant: Arc::clone(&task.tenant),
            poller,
            claimed_at: task.claimed_at,
            knowledge: ArcSwap::from_pointee(KnownState::status_alone(task.status)),
            seen: AtomicU64::new(0),
            since,
            heard: AtomicU32::new(0),
            in_hand: AtomicBool::new(false),
            held: AtomicU32::new(0),
            polled: AtomicU64::new(0),
            followed: AtomicBool::new(false),
            changed: Notify::new(),
        }
    }

    pub fn id(&self) -> &Arc<str> {
        &self.id
    }

    /// The account that has it.
    pub fn account(&self) -> &Arc<str> {
        self.poller.account()
    }

    /// Whether it has ended and its whole answer is known.
    pub fn is_final(&self) -> bool {
        self.knowledge.load().is_final()
    }

    pub(super) fn status(&self) -> Status {
        self.knowledge.load().status
    }

    pub(super) fn seen(&self) -> u64 {
        self.seen.load(Ordering::Acquire)
    }

    pub(super) fn heard(&self) -> u32 {
        self.heard.load(Ordering::Acquire)
    }

    /// Whether there is something to tell of it without asking.
    pub(super) fn has_answer(&self) -> bool {
        let knowledge = self.knowledge.load();
        !knowledge.status.is_final() || knowledge.answer.get().is_some()
    }

    /// The upstream's last answer; else one that says what is known. `None` where that would be an end without
    /// its result.
    pub(super) fn answer(&self) -> Option<Arc<TaskAnswer>> {
        let knowledge = self.knowledge.load();
        if knowledge.status.is_final() {
            return knowledge.answer.get().cloned();
        }
        Some(Arc::clone(knowledge.answer.get_or_init(|| Arc::new(self.known(knowledge.status)))))
    }

    fn known(&self, status: Status) -> TaskAnswer {
        let request_id = Uuid::new_v4().to_string();
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.extend(HeaderValue::try_from(&*request_id).map(|value| (REQUEST_ID, value)));
        let body = task::status_answer(&self.id, status, self.claimed_at, &request_id);
        TaskAnswer { status: StatusCode::OK, headers, body }
    }

    /// Takes in what was true at `seen`. What is older than what is known changes nothing.
    pub(super) fn learn(&self, knowledge: KnownState, seen: u64) {
        if seen >= self.seen() && !self.is_final() {
            self.knowledge.store(Arc::new(knowledge));
            self.seen.store(seen, Ordering::Release);
        }
        self.tell();
    }

    /// Takes in an answer that says nothing of the task's state. The next one who asks has the upstream asked again.
    pub(super) fn pass_on(&self, answer: TaskAnswer) {
        if !self.is_final() {
            self.knowledge.store(Arc::new(KnownState::told(self.status(), answer)));
            self.invalidate();
        }
        self.tell();
    }

    /// It was still so at `seen`.
    pub(super) fn confirm(&self, seen: u64) {
        self.seen.fetch_max(seen, Ordering::AcqRel);
        self.tell();
    }

    /// What is known is true no more.
    pub(super) fn invalidate(&self) {
        self.seen.store(0, Ordering::Release);
    }

    /// Wakes all who wait: there is news, or there will be none for now.
    pub(super) fn tell(&self) {
        self.heard.fetch_add(1, Ordering::AcqRel);
        self.changed.notify_waiters();
    }
}

//! The `Idempotency-Key` of a submit that runs.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::SystemTime;

use crate::store::{Change, FirstAnswer, KeyedSubmit, LostSubmit, SentRequest, Store};
use crate::unified::RequestedVideo;

/// The `Idempotency-Key` of a submit, from the moment at which it is noted until the outcome is.
#[derive(Debug)]
pub(super) struct HeldKey {
    store: Store,
    submit: Arc<KeyedSubmit>,
    /// What the client asks for, where it is known before the body goes up.
    fingerprint: Cell<Option<[u8; 32]>>,
    /// The submit is on its way, or has arrived.
    is_sent: Cell<bool>,
    /// The request of the last attempt.
    sent: RefCell<Option<SentRequest>>,
    /// The request's fields in the unified dialect.
    asked: RefCell<Option<Arc<RequestedVideo>>>,
    /// The address that the client named for a webhook.
    webhook: RefCell<Option<Arc<str>>>,
    is_concluded: Cell<bool>,
}

impl HeldKey {
    pub(super) fn new(store: Store, submit: Arc<KeyedSubmit>) -> Self {
        Self {
            store,
            submit,
            fingerprint: Cell::default(),
            is_sent: Cell::default(),
            sent: RefCell::default(),
            asked: RefCell::default(),
            webhook: RefCell::default(),
            is_concluded: Cell::default(),
        }
    }

    pub(super) fn note_fingerprint(&self, fingerprint: [u8; 32]) {
        self.fingerprint.set(Some(fingerprint));
    }

    /// Notes whether the submit is on its way, or has arrived.
    pub(super) fn note_sent(&self, is_sent: bool) {
        self.is_sent.set(is_sent);
    }

    /// Notes the request's fields in the unified dialect, if it is of that dialect, and the address for a webhook.
    pub(super) fn note_asked(&self, asked: Option<&Arc<RequestedVideo>>, webhook: Option<&Arc<str>>) {
        self.asked.replace(asked.cloned());
        self.webhook.replace(webhook.cloned());
    }

    /// Notes the request of an attempt, for the case that its answer is lost.
    pub(super) fn note_request(&self, sent: SentRequest) {
        let (asked, webhook) = (self.asked.borrow().clone(), self.webhook.borrow().clone());
        self.sent.replace(Some(SentRequest { asked, webhook, ..sent }));
    }

    /// Notes what has been read of the request meanwhile.
    pub(super) fn note_read(&self, model: Option<Box<str>>, uploaded: Option<[u8; 32]>) {
        if let Some(sent) = self.sent.borrow_mut().as_mut() {
            sent.model = model.unwrap_or_default();
            sent.fingerprint = self.fingerprint.get().or(uploaded);
        }
    }

    /// Name of the try.
    pub(super) fn attempt(&self) -> &str {
        &self.submit.attempt
    }

    pub(super) fn is_sent(&self) -> bool {
        self.is_sent.get()
    }

    /// Leaves the key to the earlier submit that has it.
    pub(super) fn leave(&self) {
        self.is_concluded.set(true);
    }

    /// Notes the outcome of the submit, unless it is noted.
    pub(super) fn conclude(&self, has_made_nothing: bool) {
        if !self.is_concluded.replace(true) {
            let submit = Arc::clone(&self.submit);
            let lost = || LostSubmit {
                submit: Arc::clone(&submit),
                sent: self.sent.take(),
                lost_at: SystemTime::now(),
            };
            let change = if has_made_nothing { Change::Release(submit) } else { Change::Lose(lost().into()) };
            self.store.defer(change);
        }
    }

    /// The answer to be kept with the claim of its task; `None` for an answer that can't be given again.
    pub(super) fn answer(&self, uploaded: Option<[u8; 32]>, body: &[u8]) -> Option<Arc<FirstAnswer>> {
        let fingerprint = self.fingerprint.get().or(uploaded)?;
        let body = str::from_utf8(body).ok().filter(|body| body.len() <= MOST_ANSWER_BYTES)?;
        self.is_concluded.set(true);
        Some(Arc::new(FirstAnswer { submit: Arc::clone(&self.submit), fingerprint, body: body.into() }))
    }
}

/// Also where the client has left, or a stage has panicked.
impl Drop for HeldKey {
    fn drop(&mut self) {
        self.conclude(!self.is_sent.get());
    }
}

/// Longer answers are not kept: DashScope's answer to a submit has some 200 bytes.
const MOST_ANSWER_BYTES: usize = 64 * 1024;

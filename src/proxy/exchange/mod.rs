//! One request and its answer, from the first stage to the last byte.

pub(in crate::proxy) mod record;
pub(in crate::proxy) mod revoke;
pub(in crate::proxy) mod trace;

use std::cell::{Cell, OnceCell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use hyper::header::{HeaderMap, HeaderValue};
use hyper::{Method, StatusCode};

use self::record::Recorder;
use self::revoke::LiveEntry;
use self::trace::Trace;
use crate::account::pace::SubmitSlot;
use crate::config::LogTarget;
use crate::dashscope::model_field;
use crate::dashscope::operation::{Operation, Surface};
use crate::limits::{Admitted, RateStatus};
use crate::proxy::peer::{ConnectionState, Peer};
use crate::telemetry::metrics::Outcome;
use crate::telemetry::stopwatch::Stopwatch;
use crate::tenant::caller::Caller;
use crate::tenant::directory::Directory;
use crate::upstream::Progress;

/// Filled stage by stage; rides in the answer's body, and is recorded once, when that is dropped.
#[derive(Debug)]
pub(in crate::proxy) struct Exchange {
    /// Whose time it takes.
    pub stopwatch: Rc<Stopwatch>,
    recorder: Rc<Recorder>,
    connection: Arc<ConnectionState>,
    pub address: SocketAddr,
    pub method: Method,
    /// The snapshot that it goes by.
    directory: Arc<Directory>,
    /// The mount that takes its path, an index into the directory's.
    pub mount: Cell<Option<usize>>,
    /// Once it is known what it does; until then it is not in flight.
    operation: Cell<Option<Operation>>,
    pub surface: Cell<Surface>,
    /// A task may come of it, and be paid for.
    pub submits: Cell<bool>,
    pub caller: OnceCell<Caller>,
    /// What it holds of its caller's limits; freed with it.
    pub admitted: RefCell<Admitted>,
    /// How its caller stands with a rate, for the answer.
    pub standing: Cell<Option<RateStatus>>,
    /// The account that it was sent to last, or that told of its task, an index into the directory's.
    pub account: Cell<Option<usize>>,
    /// How often it was sent.
    pub attempts: Cell<u32>,
    /// As far as they are known; see `note_model` and `note_task`.
    pub model: OnceCell<Box<str>>,
    pub task_id: OnceCell<Arc<str>>,
    /// The request id that the answer bears.
    pub answer_id: RefCell<Option<HeaderValue>>,
    /// Of a paced submit, until its task is claimed.
    pub start: RefCell<Option<SubmitSlot>>,
    /// Of its body.
    pub upload: OnceCell<Rc<Progress>>,
    /// Of a WebSocket, from the client.
    carried_in: Cell<u64>,
    /// Of the answer's body, or of a WebSocket, to the client.
    carried_out: Cell<u64>,
    pub status: Cell<Option<StatusCode>>,
    pub outcome: Cell<Outcome>,
    /// Where traces are on.
    pub trace: OnceCell<Trace>,
    /// Once its caller is known.
    pub live_entry: OnceCell<LiveEntry>,
}

impl Exchange {
    pub(in crate::proxy) fn begin(
        recorder: &Rc<Recorder>,
        directory: Arc<Directory>,
        peer: &Peer,
        method: Method,
        now: Instant,
    ) -> Self {
        peer.connection.enter();
        Self {
            stopwatch: Rc::new(Stopwatch::begin(now)),
            recorder: Rc::clone(recorder),
            connection: Arc::clone(&peer.connection),
            address: peer.address,
            method,
            directory,
            mount: Cell::new(None),
            operation: Cell::new(None),
            surface: Cell::new(Surface::Native),
            submits: Cell::new(false),
            caller: OnceCell::new(),
            admitted: RefCell::default(),
            standing: Cell::new(None),
            account: Cell::new(None),
            attempts: Cell::new(0),
            model: OnceCell::new(),
            task_id: OnceCell::new(),
            answer_id: RefCell::default(),
            start: RefCell::default(),
            upload: OnceCell::new(),
            carried_in: Cell::new(0),
            carried_out: Cell::new(0),
            status: Cell::new(None),
            outcome: Cell::new(Outcome::Abandoned),
            trace: OnceCell::new(),
            live_entry: OnceCell::new(),
        }
    }

    /// Goes on with its caller's trace, or begins one, where traces are on.
    pub(in crate::proxy) fn trace(&self, headers: &HeaderMap) {
        if let Some(begun) = self.recorder.tracer.as_ref().and_then(|tracer| tracer.begin(headers)) {
            self.trace.get_or_init(|| Trace::new(begun));
        }
    }

    /// Whether anybody is to be told what it was about.
    fn is_told(&self) -> bool {
        self.has_log() || self.trace.get().is_some_and(Trace::is_sampled)
    }

    /// It is known what it does: from now on it is in flight.
    pub(in crate::proxy) fn enter(&self, operation: Operation) {
        if self.operation.replace(Some(operation)).is_none() {
            self.recorder.metrics.count_exchange_start(operation);
        }
    }

    pub(in crate::proxy) fn directory(&self) -> &Arc<Directory> {
        &self.directory
    }

    /// What it does, once that is known.
    pub(in crate::proxy) fn operation(&self) -> Option<Operation> {
        self.operation.get()
    }

    /// The bytes that came in its body, or over its WebSocket.
    pub(in crate::proxy) fn bytes_in(&self) -> u64 {
        self.carried_in.get() + self.upload.get().map_or(0, |progress| progress.bytes())
    }

    /// Whether there is an access log at all.
    pub(in crate::proxy) fn has_log(&self) -> bool {
        self.directory.settings.log.access != LogTarget::Off
    }

    /// Notes the model for whoever is told, and of a submit for its task: one that is known, or what stands near the
    /// beginning of the body.
    pub(in crate::proxy) fn note_model(&self, known: Option<&str>) {
        let submits = self.submits.get();
        if (submits || self.is_told()) && self.model.get().is_none() {
            let read = || match self.upload.get()? {
                upload if submits => model_field::last(&upload.beginning(usize::MAX)),
                upload => model_field::first(&upload.beginning(MODEL_WITHIN_BYTES)),
            };
            let model = known.filter(|model| !model.is_empty()).map(Box::from).or_else(read);
            self.model.get_or_init(|| model.unwrap_or_default());
        }
    }

    /// The same for one that stands elsewhere, or was read already.
    pub(in crate::proxy) fn note_known_model(&self, model: Option<&str>) {
        if model.is_some() {
            self.note_model(model);
        }
    }

    /// It is sent to this account now.
    pub(in crate::proxy) fn go_to(&self, account: usize, start: Option<SubmitSlot>) {
        self.account.set(Some(account));
        self.attempts.set(self.attempts.get() + 1);
        self.start.replace(start);
    }

    /// Notes the task for whoever is told.
    pub(in crate::proxy) fn note_task(&self, id: &Arc<str>) {
        if self.is_told() {
            self.task_id.get_or_init(|| Arc::clone(id));
        }
    }

    /// So many bytes came over its WebSocket.
    pub(in crate::proxy) fn carry_in(&self, bytes: u64) {
        self.carried_in.set(self.carried_in.get() + bytes);
    }

    /// So many bytes are on their way to the client.
    pub(in crate::proxy) fn carry_out(&self, bytes: u64) {
        self.carried_out.set(self.carried_out.get() + bytes);
    }

    pub(in crate::proxy) fn bytes_out(&self) -> u64 {
        self.carried_out.get()
    }

    /// The upstream has begun its answer.
    pub(in crate::proxy) fn answered(&self, now: Instant) {
        if let Some(start) = self.start.borrow_mut().as_mut() {
            start.answered(now);
        }
    }

    /// The connection that it runs on.
    pub(in crate::proxy) fn connection(&self) -> &ConnectionState {
        &self.connection
    }
}

/// Of a body, for the access log alone; in most it is the first field.
const MODEL_WITHIN_BYTES: usize = 4 * 1024;

impl Drop for Exchange {
    fn drop(&mut self) {
        self.connection.leave();
        self.recorder.record(self, Instant::now());
    }
}

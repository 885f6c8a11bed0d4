//! One request and its answer, from the first stage to the last byte.
//!
//! [`recorder`] and [`trace`] hold data that does not refer to an exchange. [`record`] and [`spans`] read an exchange
//! that has ended; [`revoke`] ends exchanges whose key is not valid any more.

mod doubt;
mod record;
pub(super) mod recorder;
pub(super) mod revoke;
pub(super) mod spans;
mod trace;

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use hyper::header::{HeaderMap, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, StatusCode};

use uuid::Uuid;

use self::recorder::Recorder;
use self::revoke::LiveEntry;
use self::trace::Trace;
use crate::account::Account;
use crate::account::pace::SubmitSlot;
use crate::config::{LogTarget, Mount};
use crate::dashscope::model_field;
use crate::dashscope::operation::{Operation, Surface};
use crate::dashscope::secret_look::looks_like_secret;
use crate::dashscope::task_id::TaskId;
use crate::limits::{Admitted, CallHold, RateStatus};
use crate::net::client_address::ClientAddress;
use crate::polling::SentSubmit;
use crate::polling::hub::PollHub;
use crate::proxy::admit::permit::Permit;
use crate::proxy::held_key::HeldKey;
use crate::proxy::held_money::HeldMoney;
use crate::proxy::peer::{ConnectionState, Peer};
use crate::proxy::reading_on::{ReadOnSlot, ReadingOn};
use crate::proxy::route::{Route, Unrouted};
use crate::store::{SentRequest, Store};
use crate::telemetry::metrics::{Outcome, PollServed};
use crate::telemetry::stopwatch::Stopwatch;
use crate::tenant::caller::{Caller, KeyHolder};
use crate::tenant::directory::Directory;
use crate::upstream::Progress;

/// One request and its answer. Each stage adds its result; the exchange rides in the answer's body and is recorded
/// once, when it is dropped.
#[derive(Debug)]
pub(super) struct Exchange {
    /// Time that the exchange spends waiting for each peer.
    pub stopwatch: Rc<Stopwatch>,
    recorder: Rc<Recorder>,
    connection: Arc<ConnectionState>,
    pub client: ClientAddress,
    pub method: Method,
    /// The snapshot of the configuration that holds for the exchange to its end.
    directory: Arc<Directory>,
    /// Mount and surface of a request that was refused before it had a route.
    unrouted: Cell<Option<Unrouted>>,
    /// Result of `route`. The exchange counts as in flight from then on.
    route: OnceCell<Route>,
    /// The permit of `admit`; or the caller whom `authenticate` or `admit` refused.
    admission: OnceCell<Result<Permit, KeyHolder>>,
    /// Slots that the exchange holds of its caller's limits; freed with it.
    pub admitted: RefCell<Admitted>,
    /// The caller's standing against its rate limit, for the answer's `ratelimit` fields.
    pub standing: Cell<Option<RateStatus>>,
    /// The account that the request was sent to last, or that has its task; an index into the directory's accounts.
    pub account: Cell<Option<usize>>,
    /// Number of times that the request was sent.
    pub attempts: Cell<u32>,
    /// Model and task, as far as they are known; see `note_model` and `note_task`.
    pub model: OnceCell<Box<str>>,
    pub task_id: OnceCell<TaskId>,
    /// Source of the answer to a task query.
    pub served: Cell<Option<PollServed>>,
    /// Code of the upstream's last answer, if that was an error.
    upstream_code: RefCell<Option<Box<str>>>,
    /// Our id of the request, once somebody needs it.
    own_id: OnceCell<Uuid>,
    /// Request id in the answer's head.
    pub answer_id: RefCell<Option<HeaderValue>>,
    /// Slot of a paced submit, until its task is claimed.
    pub start: RefCell<Option<SubmitSlot>>,
    submit_progress: RefCell<SubmitProgress>,
    /// `Idempotency-Key` of a submit.
    pub held_key: OnceCell<HeldKey>,
    /// A submit on its way. Dropped with the exchange, it has lost its answer.
    sent: RefCell<Option<SentSubmit>>,
    /// Money that the store holds for a submit.
    pub held_money: RefCell<Option<HeldMoney>>,
    /// Money that is held for a call that is no submit.
    pub call_hold: RefCell<Option<CallHold>>,
    /// Progress of the request's body.
    pub upload: OnceCell<Rc<Progress>>,
    /// Bytes of the request's body that surely are no tokens, as far as they were counted.
    pub frame_bytes: Cell<u64>,
    /// The client did not ask for the event of a stream that tells the use.
    pub hides_usage: Cell<bool>,
    /// Held while the answer is read on without its client.
    read_on_slot: OnceCell<ReadOnSlot>,
    /// Bytes that the client sent over a WebSocket.
    carried_in: Cell<u64>,
    /// Bytes of the answer's body, or of a WebSocket, to the client.
    carried_out: Cell<u64>,
    pub status: Cell<Option<StatusCode>>,
    pub outcome: Cell<Outcome>,
    /// Spans, if traces are on.
    trace: OnceCell<Trace>,
    /// Entry in the worker's list of live exchanges, once the caller is known.
    live_entry: OnceCell<LiveEntry>,
}

/// Progress of a submit on its way to the upstream.
#[derive(Debug, Default)]
enum SubmitProgress {
    /// Nothing was sent, or the last attempt was refused.
    #[default]
    Unsent,
    /// The body is going up, or has gone up.
    GoesUp(Rc<Progress>),
    /// The upstream has begun its answer, which may name a task.
    Answered,
}

impl Exchange {
    pub(super) fn begin(
        recorder: &Rc<Recorder>,
        directory: Arc<Directory>,
        peer: &Peer,
        head: &Parts,
        now: Instant,
    ) -> Self {
        peer.connection.enter();
        let trusted = &directory.settings.server.trusted_proxies;
        Self {
            stopwatch: Rc::new(Stopwatch::begin(now)),
            recorder: Rc::clone(recorder),
            connection: Arc::clone(&peer.connection),
            client: ClientAddress::of(peer.address, &head.headers, trusted),
            method: head.method.clone(),
            directory,
            unrouted: Cell::new(None),
            route: OnceCell::new(),
            admission: OnceCell::new(),
            admitted: RefCell::default(),
            standing: Cell::new(None),
            account: Cell::new(None),
            attempts: Cell::new(0),
            model: OnceCell::new(),
            task_id: OnceCell::new(),
            served: Cell::new(None),
            upstream_code: RefCell::default(),
            own_id: OnceCell::new(),
            answer_id: RefCell::default(),
            start: RefCell::default(),
            submit_progress: RefCell::default(),
            held_key: OnceCell::new(),
            sent: RefCell::default(),
            held_money: RefCell::default(),
            call_hold: RefCell::default(),
            upload: OnceCell::new(),
            frame_bytes: Cell::new(0),
            hides_usage: Cell::new(false),
            read_on_slot: OnceCell::new(),
            carried_in: Cell::new(0),
            carried_out: Cell::new(0),
            status: Cell::new(None),
            outcome: Cell::new(Outcome::Abandoned),
            trace: OnceCell::new(),
            live_entry: OnceCell::new(),
        }
    }

    /// Continues the caller's trace, or begins one, if traces are on.
    pub(super) fn trace(&self, headers: &HeaderMap) {
        if let Some(begun) = self.recorder.tracer.as_ref().and_then(|tracer| tracer.begin(headers)) {
            self.trace.get_or_init(|| Trace::new(begun));
        }
    }

    /// True if the access log or a trace will show the exchange.
    fn is_told(&self) -> bool {
        self.has_log() || self.trace.get().is_some_and(Trace::is_sampled)
    }

    /// Keeps the route. The exchange counts as in flight from here on.
    pub(super) fn enter(&self, route: Route) -> &Route {
        self.route.get_or_init(|| {
            self.recorder.metrics.count_exchange_start(route.operation);
            route
        })
    }

    /// Keeps what is known of a request that gets no route.
    pub(super) fn enter_unrouted(&self, unrouted: Unrouted) {
        self.unrouted.set(Some(unrouted));
    }

    /// Keeps the permit. The exchange counts as one of its tenant's running requests from here on.
    pub(super) fn enter_permit(&self, permit: Permit) -> &Permit {
        permit.tenant().running.begin();
        let _ = self.admission.set(Ok(permit));
        self.permit()
    }

    /// Keeps the caller of a request that was not admitted.
    pub(super) fn enter_refused(&self, caller: Caller) {
        self.enter_holder(KeyHolder::Caller(caller));
    }

    /// Keeps the holder of a key that does not let its bearer in.
    pub(super) fn enter_holder(&self, holder: KeyHolder) {
        let _ = self.admission.set(Err(holder));
    }

    /// Our id of the request, by which the access log names it.
    pub(super) fn own_id(&self) -> Uuid {
        *self.own_id.get_or_init(|| self.new_id())
    }

    /// An id that no other request has.
    pub(super) fn new_id(&self) -> Uuid {
        self.recorder.request_id()
    }

    /// The store that keeps the entries of calls.
    pub(super) fn ledger(&self) -> &Store {
        &self.recorder.store
    }

    /// The worker's answers that are read on.
    pub(super) fn reading_on(&self) -> &ReadingOn {
        &self.recorder.reading_on
    }

    /// Takes leave to read the answer on, once; false if too many answers are read on.
    pub(super) fn takes_read_on_slot(&self) -> bool {
        if self.read_on_slot.get().is_none()
            && let Some(slot) = self.reading_on().slot()
        {
            let _ = self.read_on_slot.set(slot);
        }
        self.read_on_slot.get().is_some()
    }

    /// True if the upstream may have the whole request.
    pub(super) fn is_sent_whole(&self) -> bool {
        // A body that the gateway changed has a progress of its own.
        let has_gone = |upload: &Rc<Progress>| {
            upload.is_finished() || self.hides_usage.get() && upload.remainder.is_read()
        };
        self.attempts.get() > 0 && self.upload.get().is_none_or(has_gone)
    }

    pub(super) fn directory(&self) -> &Arc<Directory> {
        &self.directory
    }

    /// # Panics
    /// Never in a stage after `route`.
    pub(super) fn route(&self) -> &Route {
        self.route.get().expect("the stages behind `route` alone ask for it")
    }

    /// # Panics
    /// Never in a stage after `admit`.
    pub(super) fn permit(&self) -> &Permit {
        let permit = self.admission.get().and_then(|admission| admission.as_ref().ok());
        permit.expect("the stages behind `admit` alone ask for it")
    }

    /// The caller, admitted or refused, if its tenant is configured.
    pub(super) fn caller(&self) -> Option<&Caller> {
        match self.admission.get()? {
            Ok(permit) => Some(permit.caller()),
            Err(KeyHolder::Caller(caller)) => Some(caller),
            Err(KeyHolder::Unlisted(_)) => None,
        }
    }

    /// Names of the tenant and of the key, for logs: those of a key that lets nobody in, too.
    fn caller_names(&self) -> Option<(&Arc<str>, &str)> {
        Some(match self.admission.get()? {
            Ok(permit) => (&permit.tenant().name, permit.caller().key_id()),
            Err(holder) => (holder.tenant_name(), holder.key_id()),
        })
    }

    /// Index of the mount in the directory.
    fn mount_index(&self) -> Option<usize> {
        let unrouted = || self.unrouted.get().and_then(|unrouted| unrouted.mount);
        self.route.get().map(|route| route.mount).or_else(unrouted)
    }

    /// The mount that takes the request's path.
    pub(super) fn mount(&self) -> Option<&Mount> {
        self.directory.mounts.get(self.mount_index()?)
    }

    /// The operation, once it is known.
    pub(super) fn operation(&self) -> Option<Operation> {
        self.route.get().map(|route| route.operation)
    }

    /// The surface whose shape of errors the client reads.
    pub(super) fn surface(&self) -> Surface {
        let unrouted = || self.unrouted.get().map(|unrouted| unrouted.surface);
        self.route.get().map(|route| route.surface).or_else(unrouted).unwrap_or(Surface::Native)
    }

    /// True if the request may make a task, which is then paid for.
    pub(super) fn submits(&self) -> bool {
        self.admission.get().is_some_and(|admission| admission.as_ref().is_ok_and(Permit::submits))
    }

    /// Number of bytes that came in the request's body, or over its WebSocket.
    fn bytes_in(&self) -> u64 {
        self.carried_in.get() + self.upload.get().map_or(0, |progress| progress.bytes())
    }

    /// True if there is an access log at all.
    pub(super) fn has_log(&self) -> bool {
        self.directory.settings.log.access != LogTarget::Off
    }

    /// Records the model for the access log and the trace, and for the task of a submit: the known one, or the one in
    /// the body. A known one that looks like a secret is not recorded.
    pub(super) fn note_model(&self, known: Option<&str>) {
        let submits = self.submits();
        let is_metered = self.operation().is_some_and(|call| call.is_inference() || call.is_socket());
        if (submits || is_metered || self.is_told()) && self.model.get().is_none() {
            let read = || match self.upload.get()? {
                // Where a body names two, the upstream takes the last, and it is paid for.
                upload if submits || self.permit().tenant().billing.prices.is_some() => upload.model(),
                upload => {
                    model_field::first(&upload.beginning(MODEL_WITHIN_BYTES)).or_else(|| upload.model())
                }
            };
            let is_name = |model: &&str| !model.is_empty() && !looks_like_secret(model);
            let model = known.filter(is_name).map(Box::from).or_else(read);
            self.model.get_or_init(|| model.unwrap_or_default());
        }
    }

    /// Records a model that stands outside the body, or was read already.
    pub(super) fn note_known_model(&self, model: Option<&str>) {
        if model.is_some() {
            self.note_model(model);
        }
    }

    /// Forgets the attempt that was refused: its slot must not count any more, and nothing was bought.
    pub(super) fn leave_attempt(&self) {
        self.start.take();
        self.submit_progress.take();
        self.note_sent(false);
        if let Some(money) = self.held_money.take() {
            money.conclude(true);
        }
        self.settle_submit();
    }

    /// Records the account that the request is sent to next. `submit`: progress of the body, if it may make a task.
    pub(super) fn go_to(
        &self,
        hub: &PollHub,
        account: usize,
        start: Option<SubmitSlot>,
        submit: Option<Rc<Progress>>,
    ) {
        self.account.set(Some(account));
        self.attempts.set(self.attempts.get() + 1);
        self.note_sent(submit.is_some());
        if submit.is_some() {
            self.begin_submit(hub, account);
        }
        self.start.replace(start);
        self.submit_progress.replace(submit.map_or(SubmitProgress::Unsent, SubmitProgress::GoesUp));
    }

    /// Name of the try of a submit that has an `Idempotency-Key`.
    pub(super) fn attempt(&self) -> Option<&str> {
        self.held_key.get().map(HeldKey::attempt)
    }

    /// Notes that the request may make a task at the account from now on.
    fn begin_submit(&self, hub: &PollHub, account: usize) {
        let hold = self.held_money.borrow().as_ref().map(|money| Arc::clone(money.id()));
        // A submit that stands durably is known by the name of its try, else of its hold.
        let attempt = self.attempt().or(hold.as_deref()).map(Box::from);
        let account = &self.directory.accounts[account].name;
        let now = SystemTime::now();
        self.sent.replace(Some(hub.submit_sent(account, attempt, now)));
        if let Some(key) = self.held_key.get() {
            key.note_request(SentRequest {
                account: Arc::clone(account),
                model: Box::default(),
                key_id: self.permit().caller().key_id().into(),
                mount: Arc::clone(&self.route().mount(&self.directory).prefix),
                asked: None,
                webhook: None,
                fingerprint: None,
                sent_at: now,
                hold,
            });
        }
    }

    /// Digest of a native body that has gone up whole.
    pub(super) fn uploaded(&self) -> Option<[u8; 32]> {
        self.upload.get().filter(|up| up.is_finished()).and_then(|up| up.digest.so_far())
    }

    fn note_sent(&self, is_sent: bool) {
        if let Some(key) = self.held_key.get() {
            key.note_sent(is_sent);
        }
        if let Some(money) = self.held_money.borrow().as_ref().filter(|_| is_sent) {
            money.note_sent();
        }
    }

    /// Records the task for the access log and the trace.
    pub(super) fn note_task(&self, id: TaskId) {
        if self.is_told() {
            self.task_id.get_or_init(|| id);
        }
    }

    /// Records the code of the upstream's answer; `None` if the answer is no error.
    pub(super) fn note_upstream_code(&self, account: &Account, operation: Operation, code: Option<Box<str>>) {
        if let Some(code) = &code {
            account.series.count_error(operation, code);
        }
        self.upstream_code.replace(code);
    }

    /// Counts bytes that the client sent over its WebSocket.
    pub(super) fn carry_in(&self, bytes: u64) {
        self.carried_in.set(self.carried_in.get() + bytes);
    }

    /// Counts bytes on their way to the client.
    pub(super) fn carry_out(&self, bytes: u64) {
        self.carried_out.set(self.carried_out.get() + bytes);
    }

    /// Records that the upstream has begun its answer.
    pub(super) fn answered(&self, now: Instant) {
        let mut submit = self.submit_progress.borrow_mut();
        if matches!(*submit, SubmitProgress::GoesUp(_)) {
            *submit = SubmitProgress::Answered;
        }
        if let Some(start) = self.start.borrow_mut().as_mut() {
            start.answered(now);
        }
    }
}

/// Part of a body that is searched first for the model if only the access log or a trace needs it; in most bodies the
/// model is the first field.
const MODEL_WITHIN_BYTES: usize = 4 * 1024;

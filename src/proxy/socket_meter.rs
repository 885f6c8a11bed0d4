//! Metering of a WebSocket: what each task or answer in it used, for the ledger.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use arc_swap::ArcSwap;
use memchr::memmem;
use uuid::Uuid;

use super::current_tenant::CurrentTenant;
use super::exchange::Exchange;
use super::meter::{Begun, enter, entry_on_terms};
use crate::dashscope::inference_message::InferenceMessage;
use crate::dashscope::usage::{Reading, SentInput, SentMessage, Usage, of_frame};
use crate::dashscope::websocket_texts::PassingTexts;
use crate::limits::CallHold;
use crate::store::{EntryFlags, EntrySource};
use crate::tenant::directory::Directory;

/// Reader of the messages of both sides, which pass untouched. When it is dropped, however the socket ended, the use of
/// the tasks that still run is entered: a drain whose deadline has come cuts the socket's future.
#[derive(Debug)]
pub(super) struct SocketMeter {
    exchange: Rc<Exchange>,
    /// Prices are those of the settings at the begin of each task, and not of the handshake.
    directory: Arc<ArcSwap<Directory>>,
    client: RefCell<PassingTexts>,
    upstream: RefCell<PassingTexts>,
    tasks: RefCell<SocketTasks>,
    /// Money that is held for tasks that run, in the order in which they began.
    holds: RefCell<VecDeque<CallHold>>,
    /// Names the socket in the ledger.
    id: Uuid,
}

#[derive(Debug, Default)]
struct SocketTasks {
    /// The model that the client named last; empty if it is in the query alone.
    model: Box<str>,
    running: Vec<RunningTask>,
    entered: u64,
}

/// A task, or a response of the realtime protocol.
#[derive(Debug)]
struct RunningTask {
    id: Box<str>,
    /// The model that its client named; empty if it is in the query alone.
    model: Box<str>,
    begun: Begun,
    /// The last use that was told.
    told: Option<Reading>,
    /// Input that the client sent to the task; `None` of a response.
    sent: Option<SentInput>,
}

impl SocketMeter {
    pub(super) fn new(exchange: &Rc<Exchange>, directory: &Arc<ArcSwap<Directory>>) -> Self {
        Self {
            exchange: Rc::clone(exchange),
            directory: Arc::clone(directory),
            client: RefCell::default(),
            upstream: RefCell::default(),
            tasks: RefCell::default(),
            holds: RefCell::default(),
            id: exchange.new_id(),
        }
    }

    /// Takes in bytes of a client whose messages are not judged.
    pub(super) fn client_sent(&self, bytes: &[u8]) {
        self.read_client(bytes, |text| {
            if memmem::find(text, b"-task\"").is_some()
                && let Ok(spoken) = InferenceMessage::from_slice(text)
            {
                self.client_said(&spoken, text);
            }
        });
    }

    /// Takes in bytes of a client whose text messages come by [`Self::client_said`]: their sound.
    pub(super) fn client_sounded(&self, bytes: &[u8]) {
        self.read_client(bytes, |_| {});
    }

    fn read_client(&self, bytes: &[u8], each: impl FnMut(&[u8])) {
        let mut client = self.client.borrow_mut();
        client.read(bytes, each);
        let sound = client.take_binary_bytes();
        if sound > 0 {
            self.tasks.borrow_mut().inputs().for_each(|sent| sent.add_audio(sound));
        }
    }

    /// Takes in a text message of the client, and what the judge has read in it.
    pub(super) fn client_said(&self, spoken: &InferenceMessage, text: &[u8]) {
        let message = SentMessage::from_slice(text);
        let mut tasks = self.tasks.borrow_mut();
        let id = message.as_ref().map_or("", |message| &message.task_id);
        if spoken.runs && !tasks.runs(id) {
            let model = spoken.model.clone().unwrap_or_default();
            tasks.model.clone_from(&model);
            let sent = message.as_ref().and_then(|message| message.starts).map(SentInput::new);
            // Nothing is estimated of what the upstream can't read either.
            if sent.is_some() {
                let begun = self.begin(&model);
                tasks.run(RunningTask { id: id.into(), model, begun, told: None, sent });
            }
        }
        if let Some(message) = message {
            tasks.take_in(&message);
        }
    }

    /// The begin of a task of the model, now.
    fn begin(&self, model: &str) -> Begun {
        let exchange = &*self.exchange;
        let model = Some(model).filter(|model| !model.is_empty());
        let model = model.or_else(|| exchange.model.get().map(|model| &**model)).unwrap_or_default();
        let at = exchange.ledger().now();
        let tenant = CurrentTenant::new(exchange.permit().tenant(), Some(&self.directory));
        Begun { at, terms: tenant.with(|tenant| tenant.billing.terms(model, at)) }
    }

    /// Takes in bytes of the upstream.
    pub(super) fn upstream_sent(&self, bytes: &[u8]) {
        let mut upstream = self.upstream.borrow_mut();
        upstream.read(bytes, |text| {
            let Some(told) = of_frame(text) else { return };
            let mut tasks = self.tasks.borrow_mut();
            let before = tasks.running.iter().position(|task| task.id == told.id);
            let before = before.map(|at| tasks.running.swap_remove(at));
            let uses_nothing = told.is_failure || told.is_cancelled && before.is_none();
            let last = if uses_nothing { Reading::Unused } else { Reading::Unread { raw: None } };
            let (model, begun, known, sent) = match before {
                Some(task) => (task.model, task.begun, task.told, task.sent),
                None => (tasks.model.clone(), self.begin(&tasks.model), None, None),
            };
            let reading = told.reading.or(known);
            if told.is_final {
                self.enter(&mut tasks, model, begun, reading.unwrap_or(last), EntryFlags::default());
            } else {
                tasks.run(RunningTask { id: told.id, model, begun, told: reading, sent });
            }
        });
        if upstream.take_binary_bytes() > 0 {
            self.tasks.borrow_mut().inputs().for_each(SentInput::note_sound);
        }
    }

    /// Keeps money for a task until its use is entered.
    pub(super) fn keep_hold(&self, hold: CallHold) {
        self.holds.borrow_mut().push_back(hold);
    }

    /// True if money is held for a task or a response.
    pub(super) fn has_hold(&self) -> bool {
        !self.holds.borrow().is_empty()
    }

    fn enter(
        &self,
        tasks: &mut SocketTasks,
        model: Box<str>,
        begun: Begun,
        reading: Reading,
        mut flags: EntryFlags,
    ) {
        let exchange = &*self.exchange;
        let hold = self.holds.borrow_mut().pop_front();
        let Some((usage, is_unread)) = reading.into_use() else { return };
        exchange.call_hold.replace(hold);
        flags.is_unread = is_unread;
        tasks.entered += 1;
        let source = EntrySource::Socket(format!("{}/{}", self.id, tasks.entered).into());
        let model = Some(model).filter(|model| !model.is_empty()).or_else(|| exchange.model.get().cloned());
        let (model, now) = (model.unwrap_or_default(), exchange.ledger().now());
        let entry = entry_on_terms(source, model, usage, flags, exchange, begun, now);
        enter(entry, exchange);
    }
}

impl SocketTasks {
    fn run(&mut self, task: RunningTask) {
        if self.running.len() < MOST_RUNNING {
            self.running.push(task);
        }
    }

    /// True if a task with the id runs: a second one can't begin under it, nor change the model of the first.
    fn runs(&self, id: &str) -> bool {
        self.running.iter().any(|task| &*task.id == id)
    }

    /// Counts the input that a message brings.
    fn take_in(&mut self, message: &SentMessage) {
        let task = self.running.iter_mut().find(|task| task.id == message.task_id);
        if let Some(sent) = task.and_then(|task| task.sent.as_mut()) {
            sent.add_characters(message.characters);
        }
    }

    /// Inputs of the tasks that run. Sound does not name its task, and one task runs after the other.
    fn inputs(&mut self) -> impl Iterator<Item = &mut SentInput> {
        self.running.iter_mut().filter_map(|task| task.sent.as_mut())
    }
}

impl RunningTask {
    /// The use until now, and true if it is estimated; `None` if nothing was used.
    fn cut(self) -> Option<(Reading, bool)> {
        match (self.told, self.sent) {
            (Some(told), _) => Some((told, false)),
            (None, Some(sent)) => {
                let units = sent.estimate()?;
                Some((Reading::Read(Usage { units, ..Usage::default() }), true))
            }
            // A response that had begun.
            (None, None) => Some((Reading::Unread { raw: None }, false)),
        }
    }
}

/// Enters what was used by the tasks that did not come to their end.
impl Drop for SocketMeter {
    fn drop(&mut self) {
        let mut tasks = std::mem::take(&mut *self.tasks.borrow_mut());
        for task in std::mem::take(&mut tasks.running) {
            let (model, begun) = (task.model.clone(), task.begun.clone());
            let Some((reading, is_estimated)) = task.cut() else { continue };
            let flags = EntryFlags { is_cut: true, is_estimated, ..EntryFlags::default() };
            self.enter(&mut tasks, model, begun, reading, flags);
        }
    }
}

/// Tasks of one socket that run at once; the protocol has one after the other.
const MOST_RUNNING: usize = 64;

//! Metering of a WebSocket: what each task or answer in it used, for the ledger.

use std::cell::RefCell;
use std::rc::Rc;

use memchr::memmem;
use uuid::Uuid;

use super::exchange::Exchange;
use super::meter::{enter, entry};
use crate::dashscope::inference_message::InferenceMessage;
use crate::dashscope::usage::{Reading, of_frame};
use crate::dashscope::websocket_texts::PassingTexts;
use crate::store::{EntryFlags, EntrySource};

/// Reader of the messages of both sides, which pass untouched. When it is dropped, however the socket ended, the use of
/// the tasks that still run is entered: a drain whose deadline has come cuts the socket's future.
#[derive(Debug)]
pub(super) struct SocketMeter {
    exchange: Rc<Exchange>,
    client: RefCell<PassingTexts>,
    upstream: RefCell<PassingTexts>,
    tasks: RefCell<SocketTasks>,
    /// Names the socket in the ledger.
    id: Uuid,
}

#[derive(Debug, Default)]
struct SocketTasks {
    /// The model that the client named last; empty if it is in the query alone.
    model: Box<str>,
    /// Tasks that run, with the last use that was told of each.
    running: Vec<(Box<str>, Reading)>,
    entered: u64,
}

impl SocketMeter {
    pub(super) fn new(exchange: &Rc<Exchange>) -> Self {
        Self {
            exchange: Rc::clone(exchange),
            client: RefCell::default(),
            upstream: RefCell::default(),
            tasks: RefCell::default(),
            id: exchange.new_id(),
        }
    }

    /// Takes in bytes of the client.
    pub(super) fn client_sent(&self, bytes: &[u8]) {
        self.client.borrow_mut().read(bytes, |text| {
            if memmem::find(text, b"model").is_some()
                && let Ok(InferenceMessage { runs: true, model: Some(model) }) =
                    InferenceMessage::from_slice(text)
            {
                self.tasks.borrow_mut().model = model;
            }
        });
    }

    /// Takes in bytes of the upstream.
    pub(super) fn upstream_sent(&self, bytes: &[u8]) {
        self.upstream.borrow_mut().read(bytes, |text| {
            let Some(told) = of_frame(text) else { return };
            let mut tasks = self.tasks.borrow_mut();
            let before = tasks.running.iter().position(|(id, _)| *id == told.id);
            let before = before.map(|at| tasks.running.swap_remove(at).1);
            let last = if told.is_failure { Reading::Unused } else { Reading::Unread { raw: None } };
            let reading = told.reading.or(before);
            if told.is_final {
                self.enter(&mut tasks, reading.unwrap_or(last), true);
            } else if let Some(reading) = reading
                && tasks.running.len() < MOST_RUNNING
            {
                tasks.running.push((told.id, reading));
            }
        });
    }

    fn enter(&self, tasks: &mut SocketTasks, reading: Reading, is_whole: bool) {
        let exchange = &*self.exchange;
        let mut flags = EntryFlags { is_cut: !is_whole, ..EntryFlags::default() };
        let Some((usage, is_unread)) = reading.into_use() else { return };
        flags.is_unread = is_unread;
        tasks.entered += 1;
        let source = EntrySource::Socket(format!("{}/{}", self.id, tasks.entered).into());
        let named = Some(&tasks.model).filter(|model| !model.is_empty()).or_else(|| exchange.model.get());
        enter(entry(source, named.cloned().unwrap_or_default(), usage, flags, exchange), exchange);
    }
}

/// Enters what was told of the tasks that did not come to their end.
impl Drop for SocketMeter {
    fn drop(&mut self) {
        let mut tasks = std::mem::take(&mut *self.tasks.borrow_mut());
        for (_, reading) in std::mem::take(&mut tasks.running) {
            self.enter(&mut tasks, reading, false);
        }
    }
}

/// Tasks of one socket that run at once; the protocol has one after the other.
const MOST_RUNNING: usize = 64;

//! Metering: what a call used, read from a copy of its answer while that passes, for the ledger. Bytes pass untouched, and
//! a copy shares their memory.

use std::future::Future;
use std::iter;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use hyper::Response;
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue};

use super::exchange::Exchange;
use crate::dashscope::coding;
use crate::dashscope::operation::Operation;
use crate::dashscope::usage::{self, AnswerPart, Reading, StreamReader, Usage};
use crate::store::{Change, Entry, EntryFlags, EntrySource, Remark, StoreFault, StoreHealth};
use crate::usage::Terms;

/// Reader of one answer.
#[derive(Debug)]
pub(super) struct CallMeter {
    codings: Vec<HeaderValue>,
    answer: MeteredAnswer,
}

#[derive(Debug)]
enum MeteredAnswer {
    /// An answer that is read when it is whole.
    Whole {
        /// Most answers come in one piece.
        first: Bytes,
        others: Vec<Bytes>,
        bytes: usize,
    },
    Stream(Box<StreamReader>),
    /// A stream with a content coding, or an answer that is too large to be held.
    Unreadable {
        bytes: usize,
    },
}

impl MeteredAnswer {
    const EMPTY: Self = Self::Whole { first: Bytes::new(), others: Vec::new(), bytes: 0 };
}

impl CallMeter {
    /// The meter of a good answer to a call that is billed at once; `None` for any other.
    pub(super) fn of<B>(response: &Response<B>, exchange: &Exchange) -> Option<Box<Self>> {
        let is_metered = response.status().is_success()
            && exchange.operation().is_some_and(Operation::is_inference)
            && !exchange.submits();
        if !is_metered {
            return None;
        }
        let headers = response.headers();
        let codings: Vec<HeaderValue> = headers.get_all(CONTENT_ENCODING).iter().cloned().collect();
        let is_stream = is_stream(headers);
        let answer = match is_stream {
            false => MeteredAnswer::EMPTY,
            true if codings.is_empty() => MeteredAnswer::Stream(Box::default()),
            true => MeteredAnswer::Unreadable { bytes: 0 },
        };
        Some(Box::new(Self { codings, answer }))
    }

    /// Takes in a piece of the answer.
    pub(super) fn push(&mut self, piece: &Bytes) {
        match &mut self.answer {
            MeteredAnswer::Whole { first, others, bytes } if *bytes + piece.len() <= MOST_BYTES => {
                *bytes += piece.len();
                if first.is_empty() {
                    *first = piece.clone();
                } else {
                    others.push(piece.clone());
                }
            }
            MeteredAnswer::Whole { bytes, .. } => {
                self.answer = MeteredAnswer::Unreadable { bytes: *bytes + piece.len() };
            }
            MeteredAnswer::Stream(reader) => reader.push(piece),
            MeteredAnswer::Unreadable { bytes } => *bytes += piece.len(),
        }
    }

    /// Enters the use. `is_whole`: the answer came to its end.
    pub(super) fn finish(self, is_whole: bool, exchange: &Exchange) {
        if let Some(entry) = self.read(is_whole, exchange) {
            enter(entry, exchange);
        }
    }

    /// Enters the use of a whole answer; the future ends once the entry is durable, or can't be in time. `None` if nothing
    /// was used.
    pub(super) fn finish_durably(self, exchange: &Exchange) -> Option<impl Future<Output = ()> + use<>> {
        let entry = Arc::new(self.read(true, exchange)?);
        let (store, directory) = (exchange.ledger().clone(), Arc::clone(exchange.directory()));
        let hold = exchange.call_hold.take();
        Some(async move {
            let change = Change::Enter(Arc::clone(&entry));
            let fault = match store.health() {
                StoreHealth::Writable => {
                    // The client may leave before the commit.
                    directory.count_use(&entry);
                    store.commit_with(change, hold).await.err().map(|fault| fault.fault().clone())
                }
                StoreHealth::Unwritable(fault) => {
                    if store.ride_with(change, hold) {
                        directory.count_use(&entry);
                    }
                    Some(StoreFault::clone(&fault))
                }
            };
            if let Some(fault) = fault {
                tracing::error!(%fault, "an answer ended before the entry of its use was durable");
            }
        })
    }

    /// The entry of the use; `None` if nothing was used.
    fn read(self, is_whole: bool, exchange: &Exchange) -> Option<Entry> {
        let Self { codings, answer } = self;
        let mut flags = EntryFlags { is_cut: !is_whole, ..EntryFlags::default() };
        let (reading, part) = match answer {
            MeteredAnswer::Whole { first, others, bytes } => {
                let values = codings.iter().map(HeaderValue::as_bytes);
                let body = coding::decode(iter::once(&first).chain(&others), values, MOST_BYTES);
                // A text is cut at that length, so a text of that length may lack its end.
                let is_text_cut = |text: &Bytes| !codings.is_empty() && text.len() >= MOST_BYTES;
                let is_readable = body.as_ref().is_some_and(|text| !is_text_cut(text));
                flags.is_unread |= is_whole && !is_readable;
                // A whole answer that was read and tells no use is one that was not understood.
                let known_bytes = body.as_ref().map_or(bytes, |text| text.len().max(bytes));
                let part = (!is_whole || !is_readable).then_some(AnswerPart::Bytes(known_bytes as u64));
                (body.filter(|_| is_readable).map_or(UNREAD, |text| usage::of_answer(&text)), part)
            }
            MeteredAnswer::Stream(reader) => {
                let mut told = reader.finish();
                flags.is_cut |= told.is_cut;
                if (told.is_beginning || told.is_floor)
                    && let Reading::Read(used) = &mut told.reading
                {
                    match told.is_beginning {
                        true => usage::estimate_message(&mut used.units, told.events),
                        false => usage::estimate_behind(&mut used.units, told.events),
                    }
                    flags.is_estimated = true;
                }
                (told.reading, Some(AnswerPart::Events(told.events)))
            }
            MeteredAnswer::Unreadable { bytes } => {
                flags.is_unread = true;
                (UNREAD, Some(AnswerPart::Bytes(bytes as u64)))
            }
        };
        let reading = match part {
            Some(part) if reading == UNREAD => {
                flags.is_estimated = true;
                Reading::Read(estimated(exchange, part))
            }
            Some(_) | None => reading,
        };
        let (usage, is_unread) = reading.into_use()?;
        flags.is_unread |= is_unread;
        let model = exchange.model.get().cloned().unwrap_or_default();
        Some(entry(EntrySource::Call(request_id(exchange)), model, usage, flags, exchange))
    }
}

/// Enters an estimate for a call whose client left before its answer began.
pub(super) fn enter_unanswered(exchange: &Exchange) {
    exchange.note_model(None);
    CallMeter { codings: Vec::new(), answer: MeteredAnswer::EMPTY }.finish(false, exchange);
}

/// The upstream's id of the request, or one of ours where it told none.
fn request_id(exchange: &Exchange) -> Arc<str> {
    let answered = exchange.answer_id.borrow();
    let told = answered.as_ref().and_then(|id| id.to_str().ok());
    told.map_or_else(|| exchange.new_id().to_string().into(), Arc::from)
}

/// Enters a use, and counts it.
pub(super) fn enter(entry: Entry, exchange: &Exchange) {
    let entry = Arc::new(entry);
    // Money that is held for the call is free once the entry counts.
    let hold = exchange.call_hold.take();
    if exchange.ledger().ride_with(Change::Enter(Arc::clone(&entry)), hold) {
        exchange.directory().count_use(&entry);
    }
}

/// The entry of a use of the exchange.
pub(super) fn entry(
    source: EntrySource,
    model: Box<str>,
    usage: Usage,
    flags: EntryFlags,
    exchange: &Exchange,
) -> Entry {
    let now = exchange.ledger().now();
    let submitted_at = now - exchange.stopwatch.began().elapsed();
    let terms = exchange.permit().tenant().billing.terms(&model, submitted_at);
    entry_on_terms(source, model, usage, flags, exchange, Begun { at: submitted_at, terms }, now)
}

/// Begin of what is paid for, and the terms that held then; `None` where nothing is paid.
#[derive(Debug, Clone)]
pub(super) struct Begun {
    pub(super) at: SystemTime,
    pub(super) terms: Option<Arc<Terms>>,
}

/// The entry of a use that began at another time than its exchange.
pub(super) fn entry_on_terms(
    source: EntrySource,
    model: Box<str>,
    usage: Usage,
    flags: EntryFlags,
    exchange: &Exchange,
    begun: Begun,
    now: SystemTime,
) -> Entry {
    let (permit, directory) = (exchange.permit(), exchange.directory());
    let account = &directory.accounts[exchange.account.get().unwrap_or_default()];
    let route = exchange.route();
    let charge = begun.terms.map(|terms| terms.charge(&usage.units, &usage.class).0);
    // A use that was not understood is not free.
    let charge = charge.filter(|_| !flags.is_unread || !usage.units.is_empty());
    Entry {
        source,
        at: now,
        tenant: Arc::clone(&permit.tenant().name),
        key_id: permit.caller().shared_key_id(),
        account: Arc::clone(&account.name),
        model,
        mount: Arc::clone(&route.mount(directory).prefix),
        operation: route.operation.name().into(),
        submitted_at: begun.at,
        status: Box::default(),
        units: usage.units,
        class: usage.class,
        usage: usage.raw,
        flags,
        charge: charge.unwrap_or_default(),
        remark: Remark::default(),
    }
}

/// True for the head of an answer by server-sent events.
pub(super) fn is_stream(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"))
}

/// The use of an answer that told none.
fn estimated(exchange: &Exchange, part: AnswerPart) -> Usage {
    let asked_bytes = exchange.upload.get().map_or(0, |upload| upload.bytes());
    let asked_bytes = asked_bytes.saturating_sub(exchange.frame_bytes.get());
    let model = exchange.model.get().map_or("", |model| model);
    let units = usage::estimate(&exchange.route().path, model, asked_bytes, part);
    Usage { units, ..Usage::default() }
}

/// Nothing told of the use.
const UNREAD: Reading = Reading::Unread { raw: None };
/// Longest answer that is held to be read: embeddings of a batch have some MiB.
const MOST_BYTES: usize = 8 * 1024 * 1024;

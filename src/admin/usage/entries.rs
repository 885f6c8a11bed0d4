//! Pages of entries, oldest first. A page's token names a place that later entries do not move.

use std::io::Write as _;
use std::ops::ControlFlow;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::de::IgnoredAny;
use serde_json::{Map, Value, json};

use crate::admin::problem::Problem;
use crate::reports::query::{EntryFilter, FilterQuery, parameters};
use crate::reports::report::decimal;
use crate::store::{Entry, Store, StoreFault, WantedSource};
use crate::usage::Zone;

#[derive(Debug)]
pub(super) struct EntriesQuery {
    filter: EntryFilter,
    source: Option<WantedSource>,
    limit: usize,
    after: Option<EntryPlace>,
}

/// A place in the ledger: behind this many entries of this millisecond. Entries are added behind all others only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct EntryPlace {
    milliseconds: u64,
    entries: u64,
}

impl EntriesQuery {
    pub(super) fn parse(query: &str, zone: Zone, now: SystemTime) -> Result<Self, Problem> {
        let (mut filter, mut source, mut limit) = (FilterQuery::default(), None, USUAL);
        let mut after = None;
        for (name, value) in parameters(query) {
            match name {
                "request_id" => source = Some(WantedSource::Request(value.into())),
                "task_id" => source = Some(WantedSource::Task(value.into())),
                "limit" => {
                    let wrong = || Problem::BadField("limit", format!("must be from 1 to {MOST}").into());
                    limit =
                        value.parse().ok().filter(|limit| (1..=MOST).contains(limit)).ok_or_else(wrong)?;
                }
                "after" if value.is_empty() => after = None,
                "after" => {
                    let problem = "must be the `after` of the page before";
                    after = Some(EntryPlace::read(&value).ok_or(Problem::BadField("after", problem.into()))?);
                }
                _ if filter.take(name, &value, zone)? => {}
                _ => {
                    let names = "takes from, to, tenant, key, model, request_id, task_id, after, limit";
                    return Err(Problem::BadField("query", names.into()));
                }
            }
        }
        // A caller who asks for one request or task need not know its month.
        let month = zone.month(now);
        let usual = if source.is_some() { [UNIX_EPOCH, month[1]] } else { month };
        Ok(Self { filter: filter.finish(usual)?, source, limit, after })
    }

    fn lets_through(&self, entry: &Entry) -> bool {
        self.filter.lets_through(entry)
    }
}

impl EntryPlace {
    fn read(text: &str) -> Option<Self> {
        let (milliseconds, entries) = text.split_once('-')?;
        let milliseconds = milliseconds.parse().ok().filter(|time| *time <= LAST_MILLISECOND)?;
        Some(Self { milliseconds, entries: entries.parse().ok()? })
    }

    fn time(self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.milliseconds)
    }
}

/// JSON text of a page.
pub(super) fn page(store: &Store, query: &EntriesQuery, currency: &str) -> Result<Vec<u8>, StoreFault> {
    let [from, to] = query.filter.settled;
    let first = query.after.map_or(from, |after| after.time().max(from));
    let mut text = b"{\"entries\":[".to_vec();
    let (mut taken, mut next) = (0, None);
    let mut place = EntryPlace { milliseconds: 0, entries: 0 };
    let mut each = |entry: Entry| {
        let milliseconds = since_1970(entry.at);
        let before = place;
        let entries = if milliseconds == place.milliseconds { place.entries + 1 } else { 1 };
        place = EntryPlace { milliseconds, entries };
        let was_given =
            query.after.is_some_and(|after| after.milliseconds == milliseconds && entries <= after.entries);
        if was_given || !query.lets_through(&entry) {
            return ControlFlow::Continue(());
        }
        if taken == query.limit || text.len() > MOST_BYTES {
            next = Some(before);
            return ControlFlow::Break(());
        }
        if taken > 0 {
            text.push(b',');
        }
        taken += 1;
        write(&mut text, &entry, currency);
        ControlFlow::Continue(())
    };
    if first < to {
        match &query.source {
            Some(source) => store.entries_about(source, [first, to], &mut each)?,
            None => store.entries([first, to], &mut each)?,
        }
    }
    let after = next.map(|place| format!("{}-{}", place.milliseconds, place.entries));
    let _ = writeln!(text, "],\"after\":{}}}", Value::from(after));
    Ok(text)
}

/// Writes an entry as JSON. The upstream's `usage` stands there as it came, to the last digit.
fn write(text: &mut Vec<u8>, entry: &Entry, currency: &str) {
    let units: Map<String, Value> =
        entry.units.iter().map(|(unit, sum)| (unit.label().to_owned(), decimal(sum.into()).into())).collect();
    let shown = json!({
        "source": entry.source.label(&entry.account),
        "at": moment(entry.at), "submitted_at": moment(entry.submitted_at),
        "tenant": &*entry.tenant, "key_id": &*entry.key_id, "account": &*entry.account, "model": &*entry.model,
        "mount": &*entry.mount, "operation": &*entry.operation, "status": &*entry.status,
        "units": units, "class": &*entry.class,
        "amount": entry.charge.amount.map(|amount| amount.to_string()), "currency": currency,
        "price": text_or_null(&entry.charge.price), "factor": text_or_null(&entry.charge.factor),
        "corrects": text_or_null(&entry.remark.corrects), "note": text_or_null(&entry.remark.note),
        "flags": entry.flags.names().collect::<Vec<_>>(),
    });
    let shown = shown.to_string();
    text.extend_from_slice(shown.strip_suffix('}').unwrap_or(&shown).as_bytes());
    let is_json = serde_json::from_str::<IgnoredAny>(&entry.usage).is_ok();
    let usage = if is_json { &*entry.usage } else { "null" };
    // Line ends in JSON are blanks, so an entry is a line.
    let _ = write!(text, ",\"usage\":{}}}", usage.replace(['\r', '\n'], " "));
}

/// The text; `null` if it is empty.
fn text_or_null(text: &str) -> Value {
    if text.is_empty() { Value::Null } else { text.into() }
}

fn moment(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}

fn since_1970(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

const USUAL: usize = 100;
const MOST: usize = 1000;
/// Where a page ends early, so that a client's bound for an answer holds.
const MOST_BYTES: usize = 4 * 1024 * 1024;
/// The last millisecond of the year 9999.
const LAST_MILLISECOND: u64 = 253_402_300_799_999;

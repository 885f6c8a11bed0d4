//! Batches: the entries of the uses that one commit settled, as bytes.
//!
//! A batch is a byte with the form's version, the time of its first entry, and the entries. An entry is a head byte (kind,
//! flags, and how its id stands), the time since the entry before it, the id, the numbers of its names, the time since its
//! submit, its units, its amount, and the upstream's `usage`. Numbers are in LEB128, those that may be negative in zigzag.

use std::ops::ControlFlow;
use std::sync::Arc;

use super::fault::{BatchFault, Result};
use uuid::Uuid;

use crate::dashscope::usage::{Unit, Units};
use crate::store::entry::{Entry, EntryFlags, EntrySource, Remark};
use crate::store::timestamp::{milliseconds, time};
use crate::usage::{Amount, Charge};

/// The batch that a commit is making. Its memory is kept from commit to commit.
#[derive(Debug, Default)]
pub(in crate::store) struct EntryBatch {
    data: Vec<u8>,
    first_at: i64,
    last_at: i64,
    entries: usize,
}

/// Numbers of an entry's names, in the order of [`names`]; 0 stands for an empty name.
pub(in crate::store) type NameIds = [i64; NAMES];

impl EntryBatch {
    /// Adds the entry of a use, which was settled at `at` and not before the one added last.
    pub(in crate::store) fn push(&mut self, entry: &Entry, at: i64, names: &NameIds) {
        if self.entries == 0 {
            self.data.clear();
            self.data.push(VERSION);
            push_signed(&mut self.data, at);
            (self.first_at, self.last_at) = (at, at);
        }
        let data = &mut self.data;
        let (kind, id) = entry.source.columns();
        let packed = packed(id);
        let amount = entry.charge.amount;
        data.push(
            kind & KIND
                | if packed.is_some() { PACKED } else { 0 }
                | if amount.is_some() { PRICED } else { 0 }
                | entry.flags.bits() << FLAGS_SHIFT,
        );
        push_signed(data, at.saturating_sub(self.last_at));
        match packed {
            Some((uuid, rest)) => {
                data.extend_from_slice(uuid.as_bytes());
                push_text(data, rest);
            }
            None => push_text(data, id),
        }
        for name in names {
            push_number(data, name.unsigned_abs());
        }
        push_signed(data, at.saturating_sub(milliseconds(entry.submitted_at)));
        data.push(entry.units.iter().count() as u8);
        for (unit, thousandths) in entry.units.iter() {
            let is_whole = thousandths.is_multiple_of(1_000);
            data.push(code(unit) | if is_whole { WHOLE } else { 0 });
            push_number(data, if is_whole { thousandths / 1_000 } else { thousandths });
        }
        if let Some(amount) = amount {
            push_signed(data, amount.nanos());
        }
        push_text(data, &entry.usage);
        self.last_at = at;
        self.entries += 1;
    }

    /// The times of the first and the last entry, in milliseconds, and the bytes; `None` for an empty batch.
    pub(in crate::store) fn contents(&self) -> Option<(i64, i64, &[u8])> {
        (self.entries > 0).then_some((self.first_at, self.last_at, &*self.data))
    }

    pub(in crate::store) fn entries(&self) -> usize {
        self.entries
    }

    pub(in crate::store) fn clear(&mut self) {
        self.entries = 0;
        if self.data.capacity() > KEPT_BYTES {
            self.data = Vec::new();
        }
    }
}

/// The names of a use that many entries share.
pub(in crate::store) fn names(entry: &Entry) -> [&str; NAMES] {
    [
        &entry.tenant,
        &entry.key_id,
        &entry.account,
        &entry.model,
        &entry.mount,
        &entry.operation,
        &entry.status,
        &entry.class,
        &entry.charge.price,
        &entry.charge.factor,
    ]
}

/// Reads the entries of a batch, or those of the tenant whose names have these numbers, until `each` breaks. Each comes with its
/// number in the batch, from 0. `name` gives the name of a number.
///
/// # Errors
/// The fault of the batch or of the names.
pub(in crate::store) fn decode(
    data: &[u8],
    tenant: Option<&[i64]>,
    mut name: impl FnMut(i64) -> Result<Arc<str>>,
    mut each: impl FnMut(i64, Entry) -> ControlFlow<()>,
) -> Result<ControlFlow<()>> {
    let mut bytes = reader(data)?;
    let (mut at, mut index) = (bytes.signed()?, 0);
    while !bytes.0.is_empty() {
        let entry = bytes.entry(&mut at)?;
        let is_wanted = tenant.is_none_or(|ids| ids.contains(&entry.name_ids[0]));
        if is_wanted && each(index, entry.named(at, &mut name)?).is_break() {
            return Ok(ControlFlow::Break(()));
        }
        index += 1;
    }
    Ok(ControlFlow::Continue(()))
}

/// Tells `each` the numbers of the names in a batch; one number may come many times.
///
/// # Errors
/// The fault of the batch.
pub(in crate::store) fn name_ids(data: &[u8], mut each: impl FnMut(i64)) -> Result<()> {
    let mut bytes = reader(data)?;
    let mut at = bytes.signed()?;
    while !bytes.0.is_empty() {
        bytes.entry(&mut at)?.name_ids.into_iter().filter(|id| *id != 0).for_each(&mut each);
    }
    Ok(())
}

/// The number of entries in a batch.
///
/// # Errors
/// The fault of the batch.
pub(in crate::store) fn count(data: &[u8]) -> Result<u64> {
    let mut bytes = reader(data)?;
    let (mut at, mut entries) = (bytes.signed()?, 0);
    while !bytes.0.is_empty() {
        bytes.entry(&mut at)?;
        entries += 1;
    }
    Ok(entries)
}

/// An entry as it stands in a batch.
struct EncodedEntry<'b> {
    head: u8,
    uuid: Option<Uuid>,
    /// The id, or what is behind its UUID.
    id: &'b str,
    name_ids: NameIds,
    since_submit: i64,
    units: Units,
    amount: Option<i64>,
    usage: &'b str,
}

impl EncodedEntry<'_> {
    fn named(self, at: i64, name: &mut impl FnMut(i64) -> Result<Arc<str>>) -> Result<Entry> {
        let mut name = |id| if id == 0 { Ok(Arc::default()) } else { name(id) };
        let [tenant, key_id, account, model, mount, operation, status, class, price, factor] = self.name_ids;
        Ok(Entry {
            source: self.source(),
            at: time(at),
            tenant: name(tenant)?,
            key_id: name(key_id)?,
            account: name(account)?,
            model: boxed(&name(model)?),
            mount: name(mount)?,
            operation: String::from(&*name(operation)?).into(),
            submitted_at: time(at.saturating_sub(self.since_submit)),
            status: boxed(&name(status)?),
            class: boxed(&name(class)?),
            usage: self.usage.into(),
            flags: EntryFlags::from_bits(self.head >> FLAGS_SHIFT),
            charge: Charge {
                amount: self.amount.map(Amount::from_nanos),
                price: boxed(&name(price)?),
                factor: boxed(&name(factor)?),
            },
            remark: Remark::default(),
            units: self.units,
        })
    }

    fn source(&self) -> EntrySource {
        let Some(uuid) = self.uuid else { return EntrySource::of_columns(self.head & KIND, self.id.into()) };
        let mut letters = [0; UUID_LETTERS];
        let uuid: &str = uuid.hyphenated().encode_lower(&mut letters);
        let id = if self.id.is_empty() { uuid.into() } else { format!("{uuid}{}", self.id).into() };
        EntrySource::of_columns(self.head & KIND, id)
    }
}

/// Bytes that stand in each batch with an id that begins so.
pub(in crate::store) fn needle(id: &str) -> Vec<u8> {
    packed(id).map_or_else(|| id.into(), |(uuid, _)| uuid.as_bytes().to_vec())
}

/// The UUID with which an id begins, in the one form that can be written again from its bytes, and the rest.
fn packed(id: &str) -> Option<(Uuid, &str)> {
    let (first, rest) = id.split_at_checked(UUID_LETTERS)?;
    if first.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return None;
    }
    Some((Uuid::try_parse(first).ok()?, rest))
}

fn boxed(name: &str) -> Box<str> {
    name.into()
}

fn push_number(data: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        data.push(number as u8 | 0x80);
        number >>= 7;
    }
    data.push(number as u8);
}

fn push_signed(data: &mut Vec<u8>, number: i64) {
    push_number(data, (number << 1 ^ number >> 63).cast_unsigned());
}

fn push_text(data: &mut Vec<u8>, text: &str) {
    push_number(data, text.len() as u64);
    data.extend_from_slice(text.as_bytes());
}

/// The bytes of a batch that are not yet read.
struct BatchBytes<'b>(&'b [u8]);

fn reader(data: &[u8]) -> Result<BatchBytes<'_>> {
    match data.split_first() {
        Some((&VERSION, rest)) => Ok(BatchBytes(rest)),
        Some((&found, _)) if found > VERSION => Err(BatchFault::Newer { found, known: VERSION }.into()),
        Some(_) | None => Err(BatchFault::Damaged.into()),
    }
}

impl<'b> BatchBytes<'b> {
    fn take(&mut self, length: usize) -> Result<&'b [u8]> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(BatchFault::Damaged)?;
        self.0 = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8> {
        let (byte, rest) = self.0.split_first().ok_or(BatchFault::Damaged)?;
        self.0 = rest;
        Ok(*byte)
    }

    fn number(&mut self) -> Result<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(BatchFault::Damaged.into())
    }

    fn signed(&mut self) -> Result<i64> {
        let number = self.number()?;
        Ok((number >> 1).cast_signed() ^ -(number & 1).cast_signed())
    }

    fn text(&mut self) -> Result<&'b str> {
        let length = usize::try_from(self.number()?).map_err(|_| BatchFault::Damaged)?;
        Ok(std::str::from_utf8(self.take(length)?).map_err(|_| BatchFault::Damaged)?)
    }

    /// The next entry; `at` is the time of the one before it, and then of this one.
    fn entry(&mut self, at: &mut i64) -> Result<EncodedEntry<'b>> {
        let head = self.byte()?;
        *at = at.saturating_add(self.signed()?);
        let uuid = if head & PACKED == 0 { None } else { Uuid::from_slice(self.take(UUID_BYTES)?).ok() };
        Ok(EncodedEntry {
            head,
            uuid,
            id: self.text()?,
            name_ids: self.name_ids()?,
            since_submit: self.signed()?,
            units: self.units()?,
            amount: if head & PRICED == 0 { None } else { Some(self.signed()?) },
            usage: self.text()?,
        })
    }

    fn name_ids(&mut self) -> Result<NameIds> {
        let mut ids = [0; NAMES];
        for id in &mut ids {
            *id = self.number()?.cast_signed();
        }
        Ok(ids)
    }

    fn units(&mut self) -> Result<Units> {
        let mut units = Units::default();
        for _ in 0..self.byte()? {
            let code = self.byte()?;
            let number = self.number()?;
            let thousandths = if code & WHOLE == 0 { number } else { number.saturating_mul(1_000) };
            let unit = *UNITS.get(usize::from(code & !WHOLE)).ok_or(BatchFault::Damaged)?;
            units.set(unit, thousandths);
        }
        Ok(units)
    }
}

/// The number of a unit in batches: its place in [`UNITS`].
const fn code(unit: Unit) -> u8 {
    match unit {
        Unit::VideoSecond => 0,
        Unit::InputVideoSecond => 1,
        Unit::OutputVideoSecond => 2,
        Unit::Image => 3,
        Unit::AudioSecond => 4,
        Unit::Character => 5,
        Unit::InputToken => 6,
        Unit::CachedToken => 7,
        Unit::CacheWriteToken => 8,
        Unit::OutputToken => 9,
        Unit::ThinkingToken => 10,
        Unit::InputAudioToken => 11,
        Unit::InputImageToken => 12,
        Unit::InputVideoToken => 13,
        Unit::OutputAudioToken => 14,
        Unit::OutputImageToken => 15,
    }
}

/// Units by their numbers in batches, which never change: a new unit is added at the end, with a new [`VERSION`].
const UNITS: [Unit; 16] = [
    Unit::VideoSecond,
    Unit::InputVideoSecond,
    Unit::OutputVideoSecond,
    Unit::Image,
    Unit::AudioSecond,
    Unit::Character,
    Unit::InputToken,
    Unit::CachedToken,
    Unit::CacheWriteToken,
    Unit::OutputToken,
    Unit::ThinkingToken,
    Unit::InputAudioToken,
    Unit::InputImageToken,
    Unit::InputVideoToken,
    Unit::OutputAudioToken,
    Unit::OutputImageToken,
];
const VERSION: u8 = 1;
/// Number of the first batch. Lesser numbers are those of rows of uses, from before there were batches.
pub(in crate::store) const FIRST_BATCH: i64 = 1 << 32;
pub(in crate::store) const NAMES: usize = 10;
const KIND: u8 = 0b11;
/// The id begins with 16 bytes of a UUID.
const PACKED: u8 = 1 << 2;
const PRICED: u8 = 1 << 3;
const FLAGS_SHIFT: u8 = 4;
/// The quantity is in units and not in thousandths.
const WHOLE: u8 = 0x80;
const UUID_BYTES: usize = 16;
const UUID_LETTERS: usize = 36;
/// Memory that is kept for the next batch.
const KEPT_BYTES: usize = 256 * 1024;

#[cfg(test)]
#[path = "entry_batch_tests.rs"]
mod tests;

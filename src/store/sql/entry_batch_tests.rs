//! Batches: what is written is read again, and nothing else is taken for a batch.

use std::collections::HashMap;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// Names by number, as the table of names has them.
#[derive(Default)]
struct NumberedNames(HashMap<String, i64>);

impl NumberedNames {
    fn ids(&mut self, entry: &Entry) -> NameIds {
        names(entry).map(|name| {
            let next = self.0.len() as i64 * 100 + 1;
            if name.is_empty() { 0 } else { *self.0.entry(name.to_owned()).or_insert(next) }
        })
    }

    fn name(&self, id: i64) -> Result<Arc<str>> {
        let name = self.0.iter().find(|(_, number)| **number == id);
        Ok(name.map_or_else(Arc::default, |(name, _)| name.as_str().into()))
    }
}

fn source() -> impl Strategy<Value = EntrySource> {
    let uuid = any::<u128>().prop_map(|bits| Uuid::from_u128(bits).to_string());
    let id = prop_oneof![
        uuid.clone(),
        uuid.clone().prop_map(|id| format!("{id}/17")),
        uuid.clone().prop_map(|id| id.to_uppercase()),
        uuid.prop_map(|id| id.replace('-', "")),
        ".{0,40}",
    ];
    (0_u8..3, id).prop_map(|(kind, id)| EntrySource::of_columns(kind, id.into()))
}

fn entry() -> impl Strategy<Value = Entry> {
    let name = || prop_oneof![Just(String::new()), "[a-c]", ".{0,12}"];
    let charge = (any::<Option<i64>>(), name(), name());
    let units = vec((0_usize..16, prop_oneof![any::<u64>(), (0_u64..9_000).prop_map(|n| n * 1_000)]), 0..5);
    let times = (0_i64..1 << 41, 0_i64..1 << 41);
    ((source(), vec(name(), 8), times, units), (".{0,60}", 0_u8..16, charge)).prop_map(
        |((source, names, (at, submitted), units), (usage, flags, (amount, price, factor)))| {
            let name = |number: usize| names[number].as_str();
            Entry {
                source,
                at: time(at),
                tenant: name(0).into(),
                key_id: name(1).into(),
                account: name(2).into(),
                model: name(3).into(),
                mount: name(4).into(),
                operation: name(5).to_owned().into(),
                submitted_at: time(submitted),
                status: name(6).into(),
                units: units.into_iter().map(|(unit, quantity)| (Unit::ALL[unit], quantity)).collect(),
                class: name(7).into(),
                usage: usage.into(),
                flags: EntryFlags::from_bits(flags),
                charge: Charge {
                    amount: amount.map(Amount::from_nanos),
                    price: price.into(),
                    factor: factor.into(),
                },
                remark: Remark::default(),
            }
        },
    )
}

fn written(table: &mut NumberedNames, entries: &[Entry]) -> Vec<u8> {
    let mut batch = EntryBatch::default();
    for entry in entries {
        batch.push(entry, milliseconds(entry.at), &table.ids(entry));
    }
    batch.contents().map_or_else(Vec::new, |(_, _, data)| data.to_vec())
}

fn read(table: &NumberedNames, data: &[u8]) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    let done = decode(
        data,
        None,
        |id| table.name(id),
        |index, entry| {
            assert_eq!(index, entries.len() as i64);
            entries.push(entry);
            ControlFlow::Continue(())
        },
    )?;
    assert!(done.is_continue());
    Ok(entries)
}

proptest! {
    #[test]
    fn a_batch_is_read_as_it_was_written(mut entries in vec(entry(), 1..6)) {
        entries.sort_by_key(|entry| entry.at);
        let mut table = NumberedNames::default();
        let data = written(&mut table, &entries);
        prop_assert_eq!(read(&table, &data).expect("a batch"), entries.clone());
        let mut told = Vec::new();
        name_ids(&data, |id| told.push(id)).expect("a batch");
        let expected: Vec<i64> = entries.iter().flat_map(|entry| table.ids(entry)).filter(|id| *id != 0).collect();
        prop_assert_eq!(told, expected);
        for entry in &entries {
            let (_, id) = entry.source.columns();
            let id = match &entry.source {
                EntrySource::Socket(id) => id.rsplit_once('/').map_or(&**id, |(request, _)| request),
                EntrySource::Task(_)
                | EntrySource::Call(_)
                | EntrySource::Credit(_)
                | EntrySource::Correction(_) => id,
            };
            prop_assert!(memchr::memmem::find(&data, &needle(id)).is_some());
        }
    }

    #[test]
    fn no_bytes_make_the_reader_fail_in_another_way(data in vec(any::<u8>(), 0..200)) {
        let data = [&[VERSION][..], &data].concat();
        let read = decode(&data, None, |_| Ok(Arc::default()), |_, _| ControlFlow::Continue(()));
        prop_assert_eq!(read.is_ok(), name_ids(&data, |_| ()).is_ok());
    }
}

#[test]
fn a_batch_of_a_newer_program_says_so() {
    let fault = read(&NumberedNames::default(), &[VERSION + 1, 0]).expect_err("a newer form").to_string();
    assert!(fault.contains("a newer dashgate wrote, and this program is older"), "{fault}");
    let fault = read(&NumberedNames::default(), &[]).expect_err("no batch").to_string();
    assert!(fault.contains("damaged"), "{fault}");
}

#[test]
fn each_unit_has_a_number_of_its_own() {
    for unit in Unit::ALL {
        assert_eq!(UNITS[usize::from(code(unit))], unit);
    }
}

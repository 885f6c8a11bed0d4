//! Sums of entries, in memory bounded by the number of groups.

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde_json::{Map, Value, json};

use super::csv;
use crate::dashscope::usage::Unit;
use crate::store::{Entry, EntryFlags, EntrySource};
use crate::usage::{Amount, Zone};

/// A property by which entries are grouped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dimension {
    Tenant,
    Key,
    Model,
    Account,
    Class,
    Day,
    Month,
}

impl Dimension {
    pub const ALL: [Self; 7] =
        [Self::Tenant, Self::Key, Self::Model, Self::Account, Self::Class, Self::Day, Self::Month];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Tenant => "tenant",
            Self::Key => "key",
            Self::Model => "model",
            Self::Account => "account",
            Self::Class => "class",
            Self::Day => "day",
            Self::Month => "month",
        }
    }
}

/// Sums of the entries that were added, in groups.
#[derive(Debug)]
pub struct Report {
    by: Vec<Dimension>,
    most_groups: usize,
    zone: Zone,
    /// By the names of a group, each followed by [`END`].
    groups: BTreeMap<Box<str>, Totals>,
    all: Totals,
    /// The group of the entry at hand, kept for its memory.
    group: String,
    /// The date of the last entry, by its day.
    date: (i64, String),
}

/// There are more groups than a report has.
#[derive(Debug)]
pub struct TooManyGroups;

/// Sums of one group, or of all entries. Each thing that is added up has its field here and nowhere else.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Totals {
    entries: u64,
    /// Thousandths of each unit of which something was used.
    units: BTreeMap<Unit, u128>,
    /// Charges and their corrections, in billionths.
    amount: i128,
    /// Money that was paid in, in billionths.
    credits: i128,
    /// Entries of uses without a price.
    unpriced: u64,
    estimated: u64,
    cut: u64,
    unread: u64,
}

impl Report {
    pub fn new(by: Vec<Dimension>, most_groups: usize, zone: Zone) -> Self {
        Self {
            by,
            most_groups,
            zone,
            groups: BTreeMap::new(),
            all: Totals::default(),
            group: String::new(),
            date: (0, String::new()),
        }
    }

    /// Adds an entry to its group.
    ///
    /// # Errors
    /// The entry would begin one group too many; it is part of the total only.
    pub fn add(&mut self, entry: &Entry) -> Result<(), TooManyGroups> {
        let day = self.zone.day(entry.at);
        if self.date.1.is_empty() || self.date.0 != day {
            self.date = (day, self.zone.date(entry.at));
        }
        self.group.clear();
        for dimension in &self.by {
            let name: &str = match dimension {
                Dimension::Tenant => &entry.tenant,
                Dimension::Key => &entry.key_id,
                Dimension::Model => &entry.model,
                Dimension::Account => &entry.account,
                Dimension::Class => &entry.class,
                Dimension::Day => &self.date.1,
                Dimension::Month => &self.date.1[..7],
            };
            // A caller chooses the model's name, and must not end it early.
            self.group.extend(name.chars().filter(|letter| *letter != END));
            self.group.push(END);
        }
        self.all.add(entry);
        if let Some(totals) = self.groups.get_mut(&*self.group) {
            totals.add(entry);
            return Ok(());
        }
        if self.groups.len() >= self.most_groups {
            return Err(TooManyGroups);
        }
        self.groups.entry(self.group.as_str().into()).or_default().add(entry);
        Ok(())
    }

    /// Charges of all entries, and their corrections, in billionths.
    pub fn spent(&self) -> i128 {
        self.all.amount
    }

    /// The report of a time, from its beginning until before its end, with amounts in `currency`.
    pub fn to_json(&self, [from, to]: [SystemTime; 2], currency: &str) -> Value {
        let rows = self.groups.iter().map(|(group, totals)| {
            let mut row = totals.to_json();
            row.extend(self.names(group).map(|(by, name)| (by.name().to_owned(), name.into())));
            Value::Object(row)
        });
        json!({
            "from": self.zone.moment(from),
            "to": self.zone.moment(to),
            "zone": self.zone.to_string(),
            "currency": currency,
            "by": self.by.iter().map(|by| by.name()).collect::<Vec<_>>(),
            "rows": rows.collect::<Vec<_>>(),
            "total": self.all.to_json(),
        })
    }

    /// A row for each group, and a column for each unit that occurs, so that a column can be added up.
    pub fn to_csv(&self) -> String {
        let mut text = String::new();
        let units: Vec<Unit> = self.all.units.keys().copied().collect();
        let names = self.by.iter().map(|by| by.name());
        for name in names.chain(MONEY).chain(COUNTS).chain(units.iter().map(|unit| unit.label())) {
            csv::push_text(&mut text, name);
        }
        csv::end(&mut text);
        for (group, totals) in &self.groups {
            let mut line = String::new();
            for (number, (_, name)) in self.names(group).enumerate() {
                if number == 0 && name.is_empty() {
                    line.push_str("\"\"");
                } else {
                    csv::push_text(&mut line, name);
                }
            }
            for sum in totals.money() {
                csv::push_number(&mut line, &sum);
            }
            for count in totals.counts() {
                csv::push_number(&mut line, &count.to_string());
            }
            for unit in &units {
                csv::push_number(&mut line, &decimal(totals.units.get(unit).copied().unwrap_or_default()));
            }
            csv::end(&mut line);
            text.push_str(&line);
        }
        text
    }

    fn names<'g>(&self, group: &'g str) -> impl Iterator<Item = (Dimension, &'g str)> {
        self.by.iter().copied().zip(group.split(END))
    }
}

impl Totals {
    fn add(&mut self, entry: &Entry) {
        let EntryFlags { is_estimated, is_cut, is_unread, is_adopted: _ } = entry.flags;
        let amount = entry.charge.amount.map(|amount| i128::from(amount.nanos()));
        if matches!(entry.source, EntrySource::Credit(_)) {
            self.credits += amount.unwrap_or_default();
            return;
        }
        self.entries += 1;
        self.amount += amount.unwrap_or_default();
        self.unpriced += u64::from(amount.is_none());
        self.estimated += u64::from(is_estimated);
        self.cut += u64::from(is_cut);
        self.unread += u64::from(is_unread);
        for (unit, thousandths) in entry.units.iter() {
            *self.units.entry(unit).or_default() += u128::from(thousandths);
        }
    }

    fn counts(&self) -> [u64; 5] {
        [self.entries, self.unpriced, self.estimated, self.cut, self.unread]
    }

    fn money(&self) -> [String; 2] {
        [self.amount, self.credits].map(amount_text)
    }

    fn to_json(&self) -> Map<String, Value> {
        let units: Map<String, Value> =
            self.units.iter().map(|(unit, sum)| (unit.label().to_owned(), decimal(*sum).into())).collect();
        let counts =
            COUNTS.into_iter().zip(self.counts()).map(|(name, count)| (name.to_owned(), count.into()));
        let money = MONEY.into_iter().zip(self.money()).map(|(name, sum)| (name.to_owned(), sum.into()));
        counts.chain(money).chain([("units".to_owned(), units.into())]).collect()
    }
}

/// Billionths as an exact decimal: `3.000000000`. A sum may be greater than any amount.
pub fn amount_text(nanos: i128) -> String {
    match i64::try_from(nanos) {
        Ok(nanos) => Amount::from_nanos(nanos).to_string(),
        Err(_) => {
            let (sign, nanos) = (if nanos < 0 { "-" } else { "" }, nanos.unsigned_abs());
            format!("{sign}{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000)
        }
    }
}

/// Thousandths as an exact decimal: `10.040`.
pub fn decimal(thousandths: u128) -> String {
    format!("{}.{:03}", thousandths / 1000, thousandths % 1000)
}

const MONEY: [&str; 2] = ["amount", "credits"];
const COUNTS: [&str; 5] = ["entries", "unpriced", "estimated", "cut", "unread"];
const END: char = '\0';

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dashscope::usage::Units;
    use crate::store::Remark;
    use crate::usage::Charge;

    fn entry(tenant: &str, model: &str, at: &str, thousandths: u64) -> Entry {
        let at = Zone::CHINA.read(at).expect("a time");
        Entry {
            source: EntrySource::Call("r".into()),
            at,
            tenant: tenant.into(),
            key_id: "k".into(),
            account: "main".into(),
            model: model.into(),
            mount: "/wan".into(),
            operation: "submit".into(),
            submitted_at: at,
            status: "".into(),
            units: Units::from_iter([(Unit::VideoSecond, thousandths)]),
            class: "720P".into(),
            usage: "".into(),
            flags: EntryFlags::default(),
            charge: Charge::default(),
            remark: Remark::default(),
        }
    }

    fn report(by: &[Dimension], entries: &[Entry]) -> Report {
        let mut report = Report::new(by.to_vec(), 100, Zone::CHINA);
        entries.iter().for_each(|entry| report.add(entry).expect("few groups"));
        report
    }

    #[test]
    fn thousandths_add_up_exactly() {
        let mut report = Report::new(vec![Dimension::Tenant], 100, Zone::CHINA);
        for _ in 0..10_000 {
            report.add(&entry("a", "m", "2026-12-01", 100)).expect("one group");
        }
        report.add(&entry("a", "m", "2026-12-01", u64::MAX)).expect("one group");
        report.add(&entry("a", "m", "2026-12-01", u64::MAX)).expect("one group");
        let shown = report.to_json([SystemTime::UNIX_EPOCH; 2], "CNY");
        assert_eq!(shown["rows"][0]["units"]["video_second"], "36893488147420103.230");
        assert_eq!(shown["total"]["entries"], 10_002);
    }

    #[test]
    fn days_and_months_are_the_zones() {
        let entries = [
            entry("a", "m", "2026-11-30T15:59:59Z", 1),
            entry("a", "m", "2026-11-30T16:00:00Z", 20),
            entry("a", "m", "2026-12-02", 300),
        ];
        assert_eq!(
            report(&[Dimension::Month], &entries).to_csv(),
            "month,amount,credits,entries,unpriced,estimated,cut,unread,video_second\r\n\
             2026-11,0.000000000,0.000000000,1,1,0,0,0,0.001\r\n\
             2026-12,0.000000000,0.000000000,2,2,0,0,0,0.320\r\n"
        );
        assert_eq!(report(&[Dimension::Day], &entries).groups.len(), 3);
    }

    #[test]
    fn names_that_callers_choose_stay_in_their_cells() {
        let entries =
            [entry("a", "=cmd|' /C calc'!A0,\"x\"", "2026-12-01", 1), entry("a", "b\0c", "2026-12-01", 0)];
        assert_eq!(
            report(&[Dimension::Model, Dimension::Class], &entries).to_csv(),
            "model,class,amount,credits,entries,unpriced,estimated,cut,unread,video_second\r\n\
             \"'=cmd|' /C calc'!A0,\"\"x\"\"\",720P,0.000000000,0.000000000,1,1,0,0,0,0.001\r\n\
             bc,720P,0.000000000,0.000000000,1,1,0,0,0,0.000\r\n"
        );
    }

    #[test]
    fn groups_are_bounded() {
        let mut report = Report::new(vec![Dimension::Model], 100, Zone::CHINA);
        for number in 0..100 {
            report.add(&entry("a", &number.to_string(), "2026-12-01", 1)).expect("not full");
        }
        assert!(report.add(&entry("a", "one more", "2026-12-01", 1)).is_err());
        assert!(report.add(&entry("a", "7", "2026-12-01", 1)).is_ok());
    }
}

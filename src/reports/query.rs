//! Query strings of the ledger: which entries, and how they are shown.

use std::borrow::Cow;
use std::time::SystemTime;

use percent_encoding::percent_decode_str;

use super::report::Dimension;
use crate::store::Entry;
use crate::usage::Zone;

/// A parameter that can't be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueryFault {
    /// The parameter's name, or `query` for one that there is not.
    pub name: &'static str,
    pub problem: Cow<'static, str>,
}

impl QueryFault {
    const fn new(name: &'static str, problem: Cow<'static, str>) -> Self {
        Self { name, problem }
    }
}

/// Which entries are meant.
#[derive(Debug, Default, Clone)]
struct NamesFilter {
    tenant: Option<String>,
    key: Option<String>,
    model: Option<String>,
}

/// Entries by their names and the time at which they were settled.
#[derive(Debug)]
pub struct EntryFilter {
    names: NamesFilter,
    /// From the first time until before the second.
    pub settled: [SystemTime; 2],
}

/// Form in which a report is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Json,
    Csv,
}

/// A report that is asked for.
#[derive(Debug)]
pub struct UsageQuery {
    pub filter: EntryFilter,
    pub by: Vec<Dimension>,
    pub format: Format,
}

impl UsageQuery {
    /// Reads a query string. The usual time is the month that holds `now`.
    ///
    /// # Errors
    /// The parameter that can't be read, or that there is not.
    pub fn parse(query: &str, zone: Zone, now: SystemTime) -> Result<Self, QueryFault> {
        let (mut filter, mut by) = (FilterQuery::default(), vec![Dimension::Tenant, Dimension::Model]);
        let mut format = Format::Json;
        for (name, value) in parameters(query) {
            match name {
                "by" => by = dimensions(&value)?,
                "format" => {
                    format = match &*value {
                        "json" => Format::Json,
                        "csv" => Format::Csv,
                        _ => return Err(QueryFault::new("format", "must be json or csv".into())),
                    }
                }
                _ if filter.take(name, &value, zone)? => {}
                _ => {
                    let names = "takes from, to, tenant, key, model, by, format";
                    return Err(QueryFault::new("query", names.into()));
                }
            }
        }
        Ok(Self { filter: filter.finish(zone.month(now))?, by, format })
    }
}

/// Filters as they are read, one parameter after another.
#[derive(Debug, Default)]
pub struct FilterQuery {
    names: NamesFilter,
    from: Option<SystemTime>,
    to: Option<SystemTime>,
}

impl FilterQuery {
    /// Takes a parameter; false if there is no filter of this name.
    ///
    /// # Errors
    /// A time that can't be read.
    pub fn take(&mut self, name: &str, value: &str, zone: Zone) -> Result<bool, QueryFault> {
        match name {
            "tenant" => self.names.tenant = Some(value.to_owned()),
            "key" => self.names.key = Some(value.to_owned()),
            "model" => self.names.model = Some(value.to_owned()),
            "from" => self.from = Some(moment("from", value, zone)?),
            "to" => self.to = Some(moment("to", value, zone)?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// The filter; where a bound is left out, that of `usual` holds.
    ///
    /// # Errors
    /// A time that ends before it begins.
    pub fn finish(self, usual: [SystemTime; 2]) -> Result<EntryFilter, QueryFault> {
        let from = self.from.unwrap_or_else(|| self.to.map_or(usual[0], |to| usual[0].min(to)));
        let to = self.to.unwrap_or(usual[1]);
        if from >= to {
            return Err(QueryFault::new("to", "must be later than `from`, and is not part of it".into()));
        }
        Ok(EntryFilter { names: self.names, settled: [from, to] })
    }
}

impl EntryFilter {
    /// True if the names fit; the time is the reader's to keep to.
    pub fn lets_through(&self, entry: &Entry) -> bool {
        let fits =
            |wanted: &Option<String>, name: &str| wanted.as_deref().is_none_or(|wanted| wanted == name);
        let NamesFilter { tenant, key, model } = &self.names;
        fits(tenant, &entry.tenant) && fits(key, &entry.key_id) && fits(model, &entry.model)
    }
}

/// Parameters of a query string, decoded.
pub fn parameters(query: &str) -> impl Iterator<Item = (&str, Cow<'_, str>)> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (name, percent_decode_str(value).decode_utf8_lossy())
    })
}

fn moment(name: &'static str, text: &str, zone: Zone) -> Result<SystemTime, QueryFault> {
    let problem = "must be a date like 2026-12-01, or a time like 2026-12-01T08:00:00Z";
    zone.read(text).ok_or(QueryFault::new(name, problem.into()))
}

fn dimensions(text: &str) -> Result<Vec<Dimension>, QueryFault> {
    let mut by = Vec::new();
    for name in text.split(',').filter(|name| !name.is_empty()) {
        let known = Dimension::ALL.into_iter().find(|known| known.name() == name);
        let fresh = known.filter(|known| !by.contains(known));
        let names = "takes any of tenant, key, model, account, class, day, month, each once";
        by.push(fresh.ok_or(QueryFault::new("by", names.into()))?);
    }
    Ok(by)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_read_strictly() {
        let now = Zone::CHINA.read("2026-12-10").expect("a date");
        let usual = UsageQuery::parse("", Zone::CHINA, now).expect("a query");
        assert_eq!(usual.filter.settled, Zone::CHINA.month(now));
        assert_eq!((&*usual.by, usual.format), (&[Dimension::Tenant, Dimension::Model][..], Format::Json));
        let query = "from=2026-11-01&to=2026-12-01T00:00:00%2B08:00&by=day,key&format=csv";
        let read = UsageQuery::parse(query, Zone::CHINA, now).expect("a query");
        assert_eq!(read.filter.settled, Zone::CHINA.month(now - std::time::Duration::from_secs(15 * 86400)));
        assert_eq!(&*read.by, [Dimension::Day, Dimension::Key]);
        for wrong in ["from=x", "to=", "by=unit", "by=day,day", "format=xml", "page=1", "from=2027-01-01"] {
            assert!(UsageQuery::parse(wrong, Zone::CHINA, now).is_err(), "{wrong}");
        }
    }
}

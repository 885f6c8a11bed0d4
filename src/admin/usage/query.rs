//! Query strings of the ledger: which entries, and how they are shown.

use std::borrow::Cow;
use std::time::SystemTime;

use percent_encoding::percent_decode_str;

use super::report::Dimension;
use crate::admin::problem::Problem;
use crate::store::Entry;
use crate::usage::Zone;

/// Which entries are meant.
#[derive(Debug, Default, Clone)]
pub(super) struct NamesFilter {
    tenant: Option<String>,
    key: Option<String>,
    model: Option<String>,
}

#[derive(Debug)]
pub(super) struct EntryFilter {
    names: NamesFilter,
    /// From the first time until before the second.
    pub settled: [SystemTime; 2],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Json,
    Csv,
}

#[derive(Debug)]
pub(super) struct UsageQuery {
    pub filter: EntryFilter,
    pub by: Vec<Dimension>,
    pub format: Format,
}

impl UsageQuery {
    pub(super) fn parse(query: &str, zone: Zone, now: SystemTime) -> Result<Self, Problem> {
        let (mut filter, mut by) = (FilterQuery::default(), vec![Dimension::Tenant, Dimension::Model]);
        let mut format = Format::Json;
        for (name, value) in parameters(query) {
            match name {
                "by" => by = dimensions(&value)?,
                "format" => {
                    format = match &*value {
                        "json" => Format::Json,
                        "csv" => Format::Csv,
                        _ => return Err(Problem::BadField("format", "must be json or csv".into())),
                    }
                }
                _ if filter.take(name, &value, zone)? => {}
                _ => {
                    let names = "takes from, to, tenant, key, model, by, format";
                    return Err(Problem::BadField("query", names.into()));
                }
            }
        }
        Ok(Self { filter: filter.finish(zone.month(now))?, by, format })
    }
}

/// Filters as they are read, one parameter after another.
#[derive(Debug, Default)]
pub(super) struct FilterQuery {
    names: NamesFilter,
    from: Option<SystemTime>,
    to: Option<SystemTime>,
}

impl FilterQuery {
    /// Takes a parameter; false if there is no filter of this name.
    pub(super) fn take(&mut self, name: &str, value: &str, zone: Zone) -> Result<bool, Problem> {
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
    pub(super) fn finish(self, usual: [SystemTime; 2]) -> Result<EntryFilter, Problem> {
        let from = self.from.unwrap_or_else(|| self.to.map_or(usual[0], |to| usual[0].min(to)));
        let to = self.to.unwrap_or(usual[1]);
        if from >= to {
            return Err(Problem::BadField("to", "must be later than `from`, and is not part of it".into()));
        }
        Ok(EntryFilter { names: self.names, settled: [from, to] })
    }
}

impl EntryFilter {
    pub(super) fn lets_through(&self, entry: &Entry) -> bool {
        let fits =
            |wanted: &Option<String>, name: &str| wanted.as_deref().is_none_or(|wanted| wanted == name);
        let NamesFilter { tenant, key, model } = &self.names;
        fits(tenant, &entry.tenant) && fits(key, &entry.key_id) && fits(model, &entry.model)
    }
}

/// Parameters of a query string, decoded.
pub(super) fn parameters(query: &str) -> impl Iterator<Item = (&str, Cow<'_, str>)> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (name, percent_decode_str(value).decode_utf8_lossy())
    })
}

fn moment(name: &'static str, text: &str, zone: Zone) -> Result<SystemTime, Problem> {
    let problem = "must be a date like 2026-12-01, or a time like 2026-12-01T08:00:00Z";
    zone.read(text).ok_or(Problem::BadField(name, problem.into()))
}

fn dimensions(text: &str) -> Result<Vec<Dimension>, Problem> {
    let mut by = Vec::new();
    for name in text.split(',').filter(|name| !name.is_empty()) {
        let known = Dimension::ALL.into_iter().find(|known| known.name() == name);
        let fresh = known.filter(|known| !by.contains(known));
        let names = "takes any of tenant, key, model, account, class, day, month, each once";
        by.push(fresh.ok_or(Problem::BadField("by", names.into()))?);
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
            assert!(
                matches!(UsageQuery::parse(wrong, Zone::CHINA, now), Err(Problem::BadField(..))),
                "{wrong}"
            );
        }
    }
}

//! Query strings of the ledger: which entries, and how they are shown.

use std::borrow::Cow;
use std::time::SystemTime;

use percent_encoding::percent_decode_str;

use super::report::Dimension;
use crate::store::Entry;
use crate::usage::Zone;

/// A parameter that can't be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParameterFault {
    /// The parameter's name, or `query` for one that there is not.
    pub name: &'static str,
    pub problem: Cow<'static, str>,
}

impl ParameterFault {
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

/// The one who asks for a report.
#[derive(Debug, Clone, Copy)]
pub enum Reader<'t> {
    /// Sees all tenants and accounts.
    Operator,
    /// The tenant of this name, which sees its own entries, and nothing of the accounts.
    Tenant(&'t str),
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
    pub fn parse(
        query: &str,
        reader: Reader<'_>,
        zone: Zone,
        now: SystemTime,
    ) -> Result<Self, ParameterFault> {
        let (mut filter, mut by) = (FilterQuery::default(), reader.usual_dimensions());
        let mut format = Format::Json;
        for (name, value) in parameters(query) {
            match name {
                "by" => by = reader.dimensions(&value)?,
                "format" => {
                    format = match &*value {
                        "json" => Format::Json,
                        "csv" => Format::Csv,
                        _ => return Err(ParameterFault::new("format", "must be json or csv".into())),
                    }
                }
                "tenant" if matches!(reader, Reader::Tenant(_)) => return Err(reader.unknown()),
                _ if filter.take(name, &value, zone)? => {}
                _ => return Err(reader.unknown()),
            }
        }
        if let Reader::Tenant(tenant) = reader {
            filter.names.tenant = Some(tenant.to_owned());
        }
        Ok(Self { filter: filter.finish(zone.month(now))?, by, format })
    }
}

impl Reader<'_> {
    fn usual_dimensions(self) -> Vec<Dimension> {
        match self {
            Reader::Operator => vec![Dimension::Tenant, Dimension::Model],
            Reader::Tenant(_) => vec![Dimension::Model],
        }
    }

    const fn sees(self, dimension: Dimension) -> bool {
        match self {
            Reader::Operator => true,
            Reader::Tenant(_) => !matches!(dimension, Dimension::Tenant | Dimension::Account),
        }
    }

    fn dimensions(self, text: &str) -> Result<Vec<Dimension>, ParameterFault> {
        let mut by = Vec::new();
        for name in text.split(',').filter(|name| !name.is_empty()) {
            let known = Dimension::ALL.into_iter().find(|known| known.name() == name && self.sees(*known));
            let fresh = known.filter(|known| !by.contains(known));
            let names = match self {
                Reader::Operator => "takes any of tenant, key, model, account, class, day, month, each once",
                Reader::Tenant(_) => "takes any of key, model, class, day, month, each once",
            };
            by.push(fresh.ok_or(ParameterFault::new("by", names.into()))?);
        }
        Ok(by)
    }

    fn unknown(self) -> ParameterFault {
        let names = match self {
            Reader::Operator => "takes from, to, tenant, key, model, by, format",
            Reader::Tenant(_) => "takes from, to, key, model, by, format",
        };
        ParameterFault::new("query", names.into())
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
    pub fn take(&mut self, name: &str, value: &str, zone: Zone) -> Result<bool, ParameterFault> {
        match name {
            "tenant" => self.names.tenant = Some(value.to_owned()),
            "key" => self.names.key = Some(value.to_owned()),
            "model" => self.names.model = Some(value.to_owned()),
            "from" => self.from = Some(read_moment("from", value, zone)?),
            "to" => self.to = Some(read_moment("to", value, zone)?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// The filter; where a bound is left out, that of `usual` holds.
    ///
    /// # Errors
    /// A time that ends before it begins.
    pub fn finish(self, usual: [SystemTime; 2]) -> Result<EntryFilter, ParameterFault> {
        let from = self.from.unwrap_or_else(|| self.to.map_or(usual[0], |to| usual[0].min(to)));
        let to = self.to.unwrap_or(usual[1]);
        if from >= to {
            return Err(ParameterFault::new("to", "must be later than `from`, and is not part of it".into()));
        }
        Ok(EntryFilter { names: self.names, settled: [from, to] })
    }
}

impl EntryFilter {
    /// Entries of a tenant from `start_date` until before `end_date` of a query string, whose other parameters are
    /// ignored. The usual time is the month that holds `now`.
    ///
    /// # Errors
    /// A date that can't be read, or a time that ends before it begins.
    pub fn of_dates(query: &str, tenant: &str, zone: Zone, now: SystemTime) -> Result<Self, ParameterFault> {
        let [mut from, mut to] = zone.month(now);
        for (name, value) in parameters(query) {
            match name {
                "start_date" => from = read_moment("start_date", &value, zone)?,
                "end_date" => to = read_moment("end_date", &value, zone)?,
                _ => {}
            }
        }
        if from >= to {
            let problem = "must be later than `start_date`, and is not part of it";
            return Err(ParameterFault::new("end_date", problem.into()));
        }
        let names = NamesFilter { tenant: Some(tenant.to_owned()), ..NamesFilter::default() };
        Ok(Self { names, settled: [from, to] })
    }

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

/// Reads the parameter `name`: a date in the zone, or a time.
///
/// # Errors
/// The [`ParameterFault`].
pub fn read_moment(name: &'static str, text: &str, zone: Zone) -> Result<SystemTime, ParameterFault> {
    let problem = "must be a date like 2026-12-01, or a time like 2026-12-01T08:00:00Z";
    zone.read(text).ok_or(ParameterFault::new(name, problem.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_read_strictly() {
        let now = Zone::CHINA.read("2026-12-10").expect("a date");
        let usual = UsageQuery::parse("", Reader::Operator, Zone::CHINA, now).expect("a query");
        assert_eq!(usual.filter.settled, Zone::CHINA.month(now));
        assert_eq!((&*usual.by, usual.format), (&[Dimension::Tenant, Dimension::Model][..], Format::Json));
        let query = "from=2026-11-01&to=2026-12-01T00:00:00%2B08:00&by=day,key&format=csv";
        let read = UsageQuery::parse(query, Reader::Operator, Zone::CHINA, now).expect("a query");
        assert_eq!(read.filter.settled, Zone::CHINA.month(now - std::time::Duration::from_secs(15 * 86400)));
        assert_eq!(&*read.by, [Dimension::Day, Dimension::Key]);
        for wrong in ["from=x", "to=", "by=unit", "by=day,day", "format=xml", "page=1", "from=2027-01-01"] {
            assert!(UsageQuery::parse(wrong, Reader::Operator, Zone::CHINA, now).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_tenant_can_ask_for_nothing_but_its_own() {
        let now = Zone::CHINA.read("2026-12-10").expect("a date");
        let parse = |query| UsageQuery::parse(query, Reader::Tenant("one"), Zone::CHINA, now);
        for query in ["", "by=day,key&key=other"] {
            let read = parse(query).expect("a query");
            assert_eq!(read.filter.names.tenant.as_deref(), Some("one"));
            assert!(!read.by.contains(&Dimension::Tenant));
        }
        for wrong in
            ["tenant=two", "tenant=one", "by=tenant", "by=account", "by=model,account", "account=main"]
        {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        let dates = |query| EntryFilter::of_dates(query, "one", Zone::CHINA, now);
        let read = dates("start_date=2026-11-01&end_date=2026-11-03&tenant=two").expect("dates");
        assert_eq!(read.names.tenant.as_deref(), Some("one"));
        assert_eq!(
            read.settled,
            ["2026-11-01", "2026-11-03"].map(|date| Zone::CHINA.read(date).expect("a date"))
        );
        for wrong in ["start_date=x", "start_date=2026-12-02&end_date=2026-12-02"] {
            assert!(dates(wrong).is_err(), "{wrong}");
        }
    }
}

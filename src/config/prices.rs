//! `[usage]`, `[[prices]]`, and the money of a tenant: `prices`, `price_factor`, `budgets`, `prepaid`, `unpriced`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::moment::{self, RawMoment};
use super::node::{Node, Table};
use super::reader::{ConfigReader, Located, Text, ValueFault, Whole, number};
use super::scalar::{self, one_of};
use crate::dashscope::usage::Unit;
use crate::usage::{Amount, Budget, Factor, Period, PriceList, PriceRow, Rate, Terms, Zone};

/// Settings of the ledger and of money.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageSettings {
    /// Name of the one currency, as reports show it.
    pub currency: Arc<str>,
    /// Where days and months begin. Read at a start only.
    pub zone: Zone,
    /// Time for which entries are kept. Read at a start only.
    pub keep: Duration,
    pub lost: LostTasks,
    /// The end of an answer waits until its entry is durable.
    pub strict: bool,
}

/// Cost of a task that DashScope forgot before it told an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LostTasks {
    Free,
    /// The greatest possible cost, which was held for the task.
    Hold,
}

/// The prices that a tenant pays, and the limits of its money.
#[derive(Debug, Clone, PartialEq)]
pub struct Billing {
    /// `None`: nothing.
    pub prices: Option<Arc<PriceList>>,
    pub factor: Factor,
    pub budgets: Vec<Budget>,
    /// Calls are refused once the tenant's credits are used up.
    pub prepaid: bool,
    pub unpriced: Unpriced,
}

/// Treatment of a call whose cost has no price, by a tenant that has a budget or is prepaid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unpriced {
    Refuse,
    Allow,
}

impl Billing {
    /// The terms of a model for requests at a moment; `None` for a tenant that pays nothing.
    pub fn terms(&self, model: &str, at: SystemTime) -> Option<Arc<Terms>> {
        let prices = self.prices.as_ref()?;
        Some(Arc::new(Terms { rates: prices.rates(model, at), factor: self.factor }))
    }

    /// True if money limits the tenant.
    pub fn has_limit(&self) -> bool {
        self.prepaid || !self.budgets.is_empty()
    }
}

impl Default for UsageSettings {
    fn default() -> Self {
        Self { currency: "CNY".into(), zone: Zone::CHINA, keep: KEEP, lost: LostTasks::Free, strict: false }
    }
}

impl Default for Billing {
    fn default() -> Self {
        Self {
            prices: None,
            factor: Factor::ONE,
            budgets: Vec::new(),
            prepaid: false,
            unpriced: Unpriced::Refuse,
        }
    }
}

/// `[usage]` as written.
#[derive(Default)]
pub(super) struct RawUsage {
    currency: Option<Text>,
    zone: Option<Text>,
    keep: Option<Text>,
    lost: Option<Text>,
    strict: Option<Located<bool>>,
}

/// A row of `[[prices]]` as written.
pub(super) struct RawPrice {
    list: Option<Text>,
    models: Option<Located<Vec<Text>>>,
    unit: Option<Text>,
    class: Option<Text>,
    over_tokens: Option<Whole>,
    price: Option<Text>,
    per: Option<Whole>,
    from: Option<RawMoment>,
}

/// Prices and limits of a tenant's money, as written.
pub(super) struct RawBilling {
    pub(super) prices: Option<Text>,
    price_factor: Option<Text>,
    budgets: Vec<RawBudget>,
    prepaid: Option<Located<bool>>,
    unpriced: Option<Text>,
}

struct RawBudget {
    amount: Option<Text>,
    period: Option<Text>,
}

/// Reads `[usage]`.
pub(super) fn read_usage(node: Node<'_>) -> Option<RawUsage> {
    let mut table = node.table("write [usage]")?;
    let mut text = |name, hint: &str| table.field(name).and_then(|node| node.string(hint));
    let mut usage = RawUsage {
        currency: text("currency", "write it like \"CNY\""),
        zone: text("zone", ZONE_HINT),
        keep: text("keep", "write it like \"400d\""),
        lost: text("lost", "\"free\" or \"hold\""),
        strict: None,
    };
    usage.strict = table.field("strict").and_then(|node| node.boolean());
    table.finish();
    Some(usage)
}

/// Reads a row of `[[prices]]`.
pub(super) fn read_price(mut table: Table<'_>) -> RawPrice {
    let list = table.required("list", "name the list, which tenants refer to as `prices`");
    let models = table.required("models", "name models, or patterns: models = [\"wan2.7-*\"]");
    let unit = table.required("unit", "name what is counted, like \"video_second\" or \"input_token\"");
    let price = table.required("price", PRICE_HINT);
    let price = RawPrice {
        list: list.and_then(|node| node.string("write it in quotes")),
        models: models.and_then(|node| {
            let value = node.strings("write names in quotes between [ and ]")?;
            Some(Located { value, location: node.location })
        }),
        unit: unit.and_then(|node| node.string("write it in quotes")),
        class: table.field("class").and_then(|node| node.string("write it like \"720P\"")),
        over_tokens: table.field("over_tokens").and_then(|node| node.whole(0..=1_000_000_000)),
        price: price.and_then(|node| node.string(PRICE_HINT)),
        per: table.field("per").and_then(|node| node.whole(1..=1_000_000_000)),
        from: table
            .field("from")
            .and_then(|node| moment::read(&node, "write it like \"2026-12-01T00:00:00+08:00\"")),
    };
    table.finish();
    price
}

/// Reads the prices and the limits of a tenant's money.
pub(super) fn read_billing(table: &mut Table<'_>) -> RawBilling {
    let hint = "write it like budgets = [{ amount = \"500.00\", period = \"month\" }]";
    let budgets = table.field("budgets").and_then(|node| node.items(hint)).unwrap_or_default();
    let budgets = budgets.iter().filter_map(|item| item.table(hint)).map(|mut table| {
        let amount = table.required("amount", PRICE_HINT);
        let period = table.required("period", "\"day\", \"week\", \"month\" or \"total\"");
        let budget = RawBudget {
            amount: amount.and_then(|node| node.string(PRICE_HINT)),
            period: period.and_then(|node| node.string("write it in quotes")),
        };
        table.finish();
        budget
    });
    RawBilling {
        budgets: budgets.collect(),
        prices: table.field("prices").and_then(|node| node.string("write the name of a list of prices")),
        price_factor: table.field("price_factor").and_then(|node| node.string("write it like \"0.85\"")),
        prepaid: table.field("prepaid").and_then(|node| node.boolean()),
        unpriced: table.field("unpriced").and_then(|node| node.string("\"refuse\" or \"allow\"")),
    }
}

pub(super) fn check_usage(reader: &ConfigReader<'_>, file: &RawUsage) -> UsageSettings {
    let usual = UsageSettings::default();
    UsageSettings {
        currency: reader.setting(&file.currency, currency, usual.currency),
        zone: reader.setting(&file.zone, zone, usual.zone),
        keep: reader.setting(&file.keep, keep, usual.keep),
        lost: reader.setting(
            &file.lost,
            |text| one_of(text, &[("free", LostTasks::Free), ("hold", LostTasks::Hold)]),
            usual.lost,
        ),
        strict: file.strict.as_ref().map_or(usual.strict, |written| written.value),
    }
}

/// The lists of prices by name; `None` if a row has a fault, and its list with it.
#[derive(Debug, Clone, Default)]
pub(super) struct PriceLists(BTreeMap<String, Option<Arc<PriceList>>>);

impl PriceLists {
    pub(super) fn check(reader: &ConfigReader<'_>, rows: &[RawPrice]) -> Self {
        let mut lists: BTreeMap<String, Option<Vec<PriceRow>>> = BTreeMap::new();
        for written in rows {
            let row = row(reader, written);
            let Some(list) = &written.list else { continue };
            reader.check(list, scalar::name);
            let rows = lists.entry(list.value.clone()).or_insert_with(|| Some(Vec::new()));
            match (rows.as_mut(), row) {
                (Some(rows), Some(row)) => rows.push(row),
                _ => *rows = None,
            }
        }
        let list = |(name, rows): (String, Option<Vec<PriceRow>>)| {
            let list = rows.map(|rows| Arc::new(PriceList::new(name.as_str().into(), rows)));
            (name, list)
        };
        Self(lists.into_iter().map(list).collect())
    }

    /// Prices and limits of a tenant's money; `None` if a value has a fault.
    pub(super) fn billing(&self, reader: &ConfigReader<'_>, file: &RawBilling) -> Option<Billing> {
        let prices = match &file.prices {
            Some(name) => Some(self.list(reader, name)?),
            None => None,
        };
        let budgets = file.budgets.iter().map(|written| {
            let amount = reader.check(written.amount.as_ref()?, budget_amount);
            let period = reader.check(written.period.as_ref()?, period);
            Some(Budget { amount: amount?, period: period? })
        });
        let budgets = budgets.collect::<Option<Vec<_>>>()?;
        let prepaid = file.prepaid.as_ref().is_some_and(|written| written.value);
        if prices.is_none() {
            let hint = "give the tenant `prices`, the name of a list of [[prices]]";
            if let Some(location) = file.budgets.first().and_then(|budget| budget.amount.as_ref()) {
                reader.fault(&location.location, "is a budget of a tenant that pays nothing", hint);
            } else if let Some(written) = file.prepaid.as_ref().filter(|_| prepaid) {
                reader.warn(
                    &written.location,
                    "is of a tenant without prices, so that all its calls are refused",
                    hint,
                );
            } else if let Some(written) = &file.price_factor {
                reader.fault(&written.location, "is the factor of no prices", hint);
            }
        }
        Some(Billing {
            prices,
            factor: reader.setting(&file.price_factor, factor, Factor::ONE),
            budgets,
            prepaid,
            unpriced: reader.setting(
                &file.unpriced,
                |text| one_of(text, &[("refuse", Unpriced::Refuse), ("allow", Unpriced::Allow)]),
                Unpriced::Refuse,
            ),
        })
    }

    fn list(&self, reader: &ConfigReader<'_>, name: &Text) -> Option<Arc<PriceList>> {
        if let Some(list) = self.0.get(&name.value) {
            return list.clone();
        }
        if !reader.torn {
            let hint = "write the `list` of one of [[prices]]";
            reader.fault(&name.location, "no list of prices has this name", hint);
        }
        None
    }
}

fn row(reader: &ConfigReader<'_>, file: &RawPrice) -> Option<PriceRow> {
    let models = file.models.as_ref().and_then(|written| {
        if written.value.is_empty() {
            reader.fault(&written.location, "is empty", "for all models write [\"*\"]");
            return None;
        }
        for model in written.value.iter().filter(|model| model.value.is_empty()) {
            reader.fault(&model.location, "is empty", "write a model's name, or a pattern like \"wan2.7-*\"");
        }
        Some(written.value.iter().map(|model| model.value.clone()).collect())
    });
    let unit = file.unit.as_ref().and_then(|written| reader.check(written, unit).map(|unit| (unit, written)));
    if let (Some((unit, _)), Some(over)) = (&unit, &file.over_tokens)
        && over.value > 0
        && !unit.is_token()
    {
        reader.fault(&over.location, "is for units of tokens", "remove it");
    }
    let class = match &file.class {
        Some(written) => reader.check(written, class)?,
        None => Box::default(),
    };
    let from = match &file.from {
        Some(written) => Some(written.check(reader)?),
        None => None,
    };
    let price = file.price.as_ref().and_then(|written| reader.check(written, price));
    file.list.as_ref()?;
    Some(PriceRow {
        models: models?,
        rate: Rate::new(unit?.0, class, number(&file.over_tokens, 0), price?, number(&file.per, 1)),
        from,
    })
}

fn unit(text: &str) -> Result<Unit, ValueFault> {
    let units: Vec<_> = Unit::ALL.iter().map(|unit| (unit.label(), *unit)).collect();
    one_of(text, &units)
}

fn period(text: &str) -> Result<Period, ValueFault> {
    let periods: Vec<_> = Period::ALL.iter().map(|period| (period.label(), *period)).collect();
    one_of(text, &periods)
}

fn class(text: &str) -> Result<Box<str>, ValueFault> {
    if Rate::is_class(text) {
        return Ok(text.into());
    }
    Err(ValueFault::new(
        "is not a class",
        "write it like \"720P\" or \"1K\", or leave it out for all classes",
    ))
}

fn price(text: &str) -> Result<Amount, ValueFault> {
    let amount = Amount::from_text(text).filter(|amount| (Amount::ZERO..=MOST_PRICE).contains(amount));
    amount.ok_or_else(|| ValueFault::new("must be an amount from 0 to 1000000", PRICE_HINT))
}

fn budget_amount(text: &str) -> Result<Amount, ValueFault> {
    let amount = Amount::from_text(text).filter(|amount| *amount >= Amount::ZERO);
    amount.ok_or_else(|| ValueFault::new("is not an amount", PRICE_HINT))
}

fn factor(text: &str) -> Result<Factor, ValueFault> {
    let hint = "write it in quotes, with up to six decimals, like \"0.85\"";
    Factor::from_text(text).ok_or_else(|| ValueFault::new("must be a number from 0 to 1000", hint))
}

fn currency(text: &str) -> Result<Arc<str>, ValueFault> {
    let is_code = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_uppercase());
    if is_code {
        Ok(text.into())
    } else {
        Err(ValueFault::new("is not a currency", "write its code of ISO 4217, like \"CNY\""))
    }
}

fn zone(text: &str) -> Result<Zone, ValueFault> {
    Zone::from_text(text).ok_or_else(|| ValueFault::new("is not an offset from UTC", ZONE_HINT))
}

fn keep(text: &str) -> Result<Duration, ValueFault> {
    let hint = "write a number of days, like \"400d\"";
    let keep = humantime::parse_duration(text).map_err(|_| ValueFault::new("is not a duration", hint))?;
    let days = keep.as_secs() / (24 * 3600);
    if (3..=36_500).contains(&days) {
        Ok(keep)
    } else {
        Err(ValueFault::new("must be from 3 to 36500 days", hint))
    }
}

const PRICE_HINT: &str = "write it in quotes, with up to nine decimals, like \"0.60\"";
const ZONE_HINT: &str = "write it like \"+08:00\"";
/// Nine whole digits less than an amount has, so that products fit.
const MOST_PRICE: Amount = Amount::from_nanos(1_000_000_000_000_000);
/// A year, and a month to answer questions about it.
const KEEP: Duration = Duration::from_secs(400 * 24 * 3600);

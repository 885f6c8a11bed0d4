//! Lists of prices, and the rates that one of their models has at a moment.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use dashmap::DashMap;

use super::Rate;
use crate::dashscope::pattern::{matches, overlap};

/// One row of a list.
#[derive(Debug, Clone, PartialEq)]
pub struct PriceRow {
    /// Names or patterns with `*`; at least one.
    pub models: Vec<String>,
    pub rate: Rate,
    /// Requests from this moment on have the price; all where it is `None`.
    pub from: Option<SystemTime>,
}

/// The rows of one name, in the order of the file.
#[derive(Debug)]
pub struct PriceList {
    pub name: Arc<str>,
    rows: Vec<PriceRow>,
    /// Rates of the models that rows name without a pattern.
    by_model: HashMap<Box<str>, Vec<Era>>,
    /// Rates of other models that calls named, [`MOST_KEPT`] at most: to find them in the rows takes longer than all else
    /// that a call pays for its price.
    by_pattern: DashMap<Box<str>, Vec<Era>>,
}

/// A time in which rates stay the same.
#[derive(Debug, PartialEq)]
struct Era {
    from: Option<SystemTime>,
    rates: Arc<[Rate]>,
}

impl PriceList {
    pub fn new(name: Arc<str>, rows: Vec<PriceRow>) -> Self {
        let names = rows.iter().flat_map(|row| &row.models).filter(|name| !name.contains('*'));
        let by_model = names.map(|name| (name.as_str().into(), eras(&rows, name))).collect();
        Self { name, rows, by_model, by_pattern: DashMap::new() }
    }

    pub fn rows(&self) -> &[PriceRow] {
        &self.rows
    }

    /// True if a row is for the model, or for models that fit the pattern.
    pub fn covers(&self, model: &str) -> bool {
        self.rows.iter().flat_map(|row| &row.models).any(|named| overlap(named, model))
    }

    /// The rates of a model for requests at a moment, in the order in which they are tried; empty where it has none.
    pub fn rates(&self, model: &str, at: SystemTime) -> Arc<[Rate]> {
        if let Some(eras) = self.by_model.get(model) {
            return rates_at(eras, at);
        }
        if let Some(eras) = self.by_pattern.get(model) {
            return rates_at(&eras, at);
        }
        let eras = eras(&self.rows, model);
        let rates = rates_at(&eras, at);
        if self.by_pattern.len() < MOST_KEPT {
            self.by_pattern.insert(model.into(), eras);
        }
        rates
    }
}

impl PartialEq for PriceList {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.rows == other.rows
    }
}

/// The eras of a model, oldest first.
fn eras(rows: &[PriceRow], model: &str) -> Vec<Era> {
    let mut moments: Vec<Option<SystemTime>> = rows.iter().map(|row| row.from).collect();
    moments.push(None);
    moments.sort();
    moments.dedup();
    moments.into_iter().map(|from| Era { from, rates: rates(rows, model, from) }).collect()
}

/// The rates of the era in which a moment lies.
fn rates_at(eras: &[Era], at: SystemTime) -> Arc<[Rate]> {
    let era = eras.iter().rev().find(|era| era.from.is_none_or(|from| from <= at));
    era.map_or_else(Arc::default, |era| Arc::clone(&era.rates))
}

/// The rates of the rows that fit a model at a moment; `None` stands for all the time before the first row with a moment.
fn rates(rows: &[PriceRow], model: &str, at: Option<SystemTime>) -> Arc<[Rate]> {
    let holds = |row: &&PriceRow| {
        row.from.is_none_or(|from| at.is_some_and(|at| from <= at))
            && row.models.iter().any(|pattern| matches(pattern, model))
    };
    rows.iter().filter(holds).map(|row| row.rate.clone()).collect()
}

/// Models, as clients write them, whose rates are kept: more than DashScope has.
const MOST_KEPT: usize = 1_024;

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn row(models: &[&str], rate: &str, from: Option<u64>) -> PriceRow {
        PriceRow {
            models: models.iter().map(|model| (*model).to_owned()).collect(),
            rate: Rate::from_text(rate).expect(rate),
            from: from.map(|seconds| UNIX_EPOCH + Duration::from_secs(seconds)),
        }
    }

    fn shown(list: &PriceList, model: &str, second: u64) -> Vec<String> {
        let rates = list.rates(model, UNIX_EPOCH + Duration::from_secs(second));
        rates.iter().map(Rate::to_string).collect()
    }

    #[test]
    fn rows_count_from_their_moment_in_the_order_of_the_file() {
        let rows = vec![
            row(&["wan2.7-t2v"], "video_second=2", Some(100)),
            row(&["wan2.7-t2v", "wan2.7-i2v"], "video_second=1", None),
            row(&["wan*"], "video_second=9", Some(50)),
        ];
        let list = PriceList::new("default".into(), rows);
        assert_eq!(shown(&list, "wan2.7-t2v", 49), ["video_second=1"]);
        assert_eq!(shown(&list, "wan2.7-t2v", 50), ["video_second=1", "video_second=9"]);
        assert_eq!(shown(&list, "wan2.7-t2v", 100), ["video_second=2", "video_second=1", "video_second=9"]);
        assert_eq!(shown(&list, "wan2.7-i2v", 200), ["video_second=1", "video_second=9"]);
        assert_eq!(shown(&list, "wan9", 49), Vec::<String>::new());
        assert_eq!(shown(&list, "wan9", 50), ["video_second=9"]);
        assert_eq!(shown(&list, "qwen", 50), Vec::<String>::new());
    }

    #[test]
    fn of_models_that_only_patterns_name_a_bounded_number_is_kept() {
        let list = PriceList::new("default".into(), vec![row(&["wan*"], "video_second=9", Some(50))]);
        for number in 0..2 * MOST_KEPT {
            let model = format!("wan{number}");
            // The first look keeps the rates of all moments.
            assert_eq!(shown(&list, &model, 49), Vec::<String>::new());
            assert_eq!(shown(&list, &model, 50), ["video_second=9"]);
        }
        assert_eq!(list.by_pattern.len(), MOST_KEPT);
    }
}

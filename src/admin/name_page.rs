//! Pages of long lists, in the order of names: `?after=NAME&limit=N`.

use std::collections::BTreeMap;

use super::problem::Problem;

/// Query of a list: the page, and filters.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PageQuery {
    /// The page begins behind this name.
    pub after: String,
    pub limit: usize,
    /// Only items of this tenant.
    pub tenant: Option<String>,
    pub status: Option<String>,
    pub state: Option<String>,
}

impl PageQuery {
    /// Parses a query string. `filters` names the parameters that the list has beside `after` and `limit`.
    ///
    /// # Errors
    /// `BadField` for a limit out of bounds, or an unknown parameter.
    pub(super) fn parse(query: &str, filters: &[&str]) -> Result<Self, Problem> {
        let mut parsed = Self { after: String::new(), limit: USUAL, tenant: None, status: None, state: None };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = percent_encoding::percent_decode_str(value).decode_utf8_lossy();
            match name {
                "after" => parsed.after = value.into_owned(),
                "tenant" if filters.contains(&name) => parsed.tenant = Some(value.into_owned()),
                "state" if filters.contains(&name) => parsed.state = Some(value.into_owned()),
                "status" if filters.contains(&name) => parsed.status = Some(value.into_owned()),
                "limit" => parsed.limit = page_limit(&value)?,
                _ => {
                    let names = [&["after", "limit"], filters].concat().join(", ");
                    return Err(Problem::BadField("query", format!("takes {names}").into()));
                }
            }
        }
        Ok(parsed)
    }
}

/// Items of one page, as a caller asks for them.
///
/// # Errors
/// `BadField` for a number out of bounds, and for another text.
pub(super) fn page_limit(text: &str) -> Result<usize, Problem> {
    let limit = text.parse().ok().filter(|limit| (1..=MOST).contains(limit));
    limit.ok_or_else(|| Problem::BadField("limit", format!("must be from 1 to {MOST}").into()))
}

/// Collects one page of items that come in any order, in bounded memory. A name may have several items.
pub(super) struct NamePage<T> {
    limit: usize,
    /// The first names, one more than the page takes: it shows that there is a next page.
    first: BTreeMap<String, Vec<T>>,
}

impl<T> NamePage<T> {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, first: BTreeMap::new() }
    }

    /// Adds an item, unless the page is full of earlier names.
    pub(super) fn add(&mut self, name: &str, item: impl FnOnce() -> T) {
        let last = self.first.last_key_value().map_or("", |(last, _)| last);
        if self.first.len() > self.limit && name > last {
            return;
        }
        self.first.entry(name.to_owned()).or_default().push(item());
        if self.first.len() > self.limit + 1 {
            self.first.pop_last();
        }
    }

    /// The items in order, and the name behind which the next page begins.
    pub(super) fn finish(mut self) -> (Vec<T>, Option<String>) {
        let more = self.first.len() > self.limit && self.first.pop_last().is_some();
        let next = self.first.last_key_value().filter(|_| more).map(|(last, _)| last.clone());
        (self.first.into_values().flatten().collect(), next)
    }
}

/// Items of a page for which no number is given.
pub(super) const USUAL: usize = 100;
const MOST: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_follow_one_another() {
        let names = ["d", "a", "c", "e", "b"];
        let page = |after: &str| {
            let mut page = NamePage::new(2);
            for name in names.into_iter().filter(|name| *name > after) {
                page.add(name, || name);
            }
            page.finish()
        };
        assert_eq!(page(""), (vec!["a", "b"], Some("b".to_owned())));
        assert_eq!(page("b"), (vec!["c", "d"], Some("d".to_owned())));
        assert_eq!(page("d"), (vec!["e"], None));
        assert_eq!(page("e"), (vec![], None));
        let mut twins = NamePage::new(1);
        for (name, item) in [("b", 1), ("a", 2), ("b", 3), ("a", 4)] {
            twins.add(name, || item);
        }
        assert_eq!(twins.finish(), (vec![2, 4], Some("a".to_owned())));
    }

    #[test]
    fn queries_are_read_strictly() {
        let query = PageQuery::parse("after=a%2Eb&limit=7&tenant=one", &["tenant"]).expect("a query");
        assert_eq!(
            query,
            PageQuery {
                after: "a.b".into(),
                limit: 7,
                tenant: Some("one".into()),
                status: None,
                state: None
            }
        );
        assert_eq!(PageQuery::parse("", &[]).expect("a query").limit, USUAL);
        for wrong in ["limit=0", "limit=1001", "limit=x", "limit", "page=1", "status=PENDING"] {
            assert!(matches!(PageQuery::parse(wrong, &["tenant"]), Err(Problem::BadField(..))), "{wrong}");
        }
    }
}

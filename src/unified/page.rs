//! The list of a tenant's videos, page by page.

use bytes::Bytes;
use percent_encoding::percent_decode_str;
use serde::Serialize;

use super::Fault;
use super::video::Video;

/// Which page is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// The id of the last video of the page before.
    pub after: Option<String>,
    pub limit: usize,
    pub newest_first: bool,
}

impl Query {
    /// Reads the query part of a URL; other parameters are passed over.
    ///
    /// # Errors
    /// The parameter that can't be read.
    pub fn parse(query: &str) -> Result<Self, Fault> {
        let mut read = Self { after: None, limit: 20, newest_first: true };
        for pair in query.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = percent_decode_str(value).decode_utf8_lossy();
            match (name, &*value) {
                (_, "") => {}
                ("after", after) => read.after = Some(after.to_owned()),
                ("limit", limit) => {
                    let limit = limit.parse().ok().filter(|limit| (1..=MOST).contains(limit));
                    read.limit = limit.ok_or_else(|| Fault::of("limit", "must be a number from 1 to 100"))?;
                }
                ("order", "asc") => read.newest_first = false,
                ("order", "desc") => read.newest_first = true,
                ("order", _) => return Err(Fault::of("order", "must be asc or desc")),
                _ => {}
            }
        }
        Ok(read)
    }
}

/// The body of a page.
pub fn write(data: &[Video<'_>], ids: Option<(&str, &str)>, has_more: bool) -> Bytes {
    #[derive(Serialize)]
    struct Page<'a> {
        object: &'static str,
        data: &'a [Video<'a>],
        first_id: Option<&'a str>,
        last_id: Option<&'a str>,
        has_more: bool,
    }
    let page = Page {
        object: "list",
        data,
        first_id: ids.map(|(first, _)| first),
        last_id: ids.map(|(_, last)| last),
        has_more,
    };
    serde_json::to_vec(&page).map(Bytes::from).unwrap_or_default()
}

const MOST: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read() {
        let usual = Query { after: None, limit: 20, newest_first: true };
        assert_eq!(Query::parse(""), Ok(usual.clone()));
        assert_eq!(Query::parse("order=desc&x=1&limit="), Ok(usual));
        let other = Query { after: Some("a b".into()), limit: 100, newest_first: false };
        assert_eq!(Query::parse("after=a%20b&limit=100&order=asc"), Ok(other));
        for query in ["limit=0", "limit=101", "limit=x", "order=up"] {
            assert!(Query::parse(query).is_err(), "{query}");
        }
    }
}

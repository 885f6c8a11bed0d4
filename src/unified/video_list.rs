//! `GET /v1/videos`: the parameters and the page of the list.

use bytes::Bytes;
use percent_encoding::percent_decode_str;
use serde::Serialize;

use super::fault::UnifiedFault;
use super::video::Video;

/// Parameters of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VideoListQuery {
    /// The id of the last video on the previous page.
    pub after: Option<String>,
    pub limit: usize,
    pub newest_first: bool,
}

impl VideoListQuery {
    /// Reads the query part of a URL; other parameters are ignored.
    ///
    /// # Errors
    /// The parameter that can't be read.
    pub fn parse(query: &str) -> Result<Self, UnifiedFault> {
        let mut read = Self { after: None, limit: 20, newest_first: true };
        for pair in query.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = percent_decode_str(value).decode_utf8_lossy();
            match (name, &*value) {
                (_, "") => {}
                ("after", after) => read.after = Some(after.to_owned()),
                ("limit", limit) => {
                    let limit = limit.parse().ok().filter(|limit| (1..=MOST_PER_PAGE).contains(limit));
                    read.limit =
                        limit.ok_or_else(|| UnifiedFault::of("limit", "must be a number from 1 to 100"))?;
                }
                ("order", "asc") => read.newest_first = false,
                ("order", "desc") => read.newest_first = true,
                ("order", _) => return Err(UnifiedFault::of("order", "must be asc or desc")),
                _ => {}
            }
        }
        Ok(read)
    }
}

/// The body of a page. `ids` are the ids of the first and the last video on the page.
pub fn page(data: &[Video<'_>], ids: Option<(&str, &str)>, has_more: bool) -> Bytes {
    #[derive(Serialize)]
    struct VideoPage<'a> {
        object: &'static str,
        data: &'a [Video<'a>],
        first_id: Option<&'a str>,
        last_id: Option<&'a str>,
        has_more: bool,
    }
    let page = VideoPage {
        object: "list",
        data,
        first_id: ids.map(|(first, _)| first),
        last_id: ids.map(|(_, last)| last),
        has_more,
    };
    serde_json::to_vec(&page).map(Bytes::from).unwrap_or_default()
}

const MOST_PER_PAGE: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read() {
        let usual = VideoListQuery { after: None, limit: 20, newest_first: true };
        assert_eq!(VideoListQuery::parse(""), Ok(usual.clone()));
        assert_eq!(VideoListQuery::parse("order=desc&x=1&limit="), Ok(usual));
        let other = VideoListQuery { after: Some("a b".into()), limit: 100, newest_first: false };
        assert_eq!(VideoListQuery::parse("after=a%20b&limit=100&order=asc"), Ok(other));
        for query in ["limit=0", "limit=101", "limit=x", "order=up"] {
            assert!(VideoListQuery::parse(query).is_err(), "{query}");
        }
    }
}

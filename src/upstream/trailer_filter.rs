//! Filter for the trailers of a body.

use bytes::Bytes;
use hyper::body::Frame;
use hyper::header::HeaderMap;

/// Removes from the trailers the fields that are also removed from the head. Without a filter all trailers are removed.
#[derive(Default)]
pub(super) struct TrailerFilter(Option<FieldFilter>);

/// Removes fields from a header or from trailers.
pub type FieldFilter = Box<dyn Fn(&mut HeaderMap)>;

impl TrailerFilter {
    pub(super) fn new(strip: FieldFilter) -> Self {
        Self(Some(strip))
    }

    pub(super) fn pass(&self, frame: Frame<Bytes>) -> Frame<Bytes> {
        match (frame.into_trailers(), &self.0) {
            (Ok(mut trailers), Some(strip)) => {
                strip(&mut trailers);
                Frame::trailers(trailers)
            }
            (Ok(_), None) => Frame::trailers(HeaderMap::new()),
            (Err(data), _) => data,
        }
    }
}

//! What may stand behind a body.

use bytes::Bytes;
use hyper::body::Frame;
use hyper::header::HeaderMap;

/// Takes off a trailer section what its head would not have borne either. Until it is told what that is, it
/// lets nothing pass.
#[derive(Default)]
pub(super) struct TrailerFilter(Option<FieldFilter>);

/// Takes fields off.
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

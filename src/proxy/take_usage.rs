//! Taking the event with the use out of a stream, where the gateway asked for it and the client did not.

use std::task::Poll;

use bytes::Bytes;
use hyper::Response;
use hyper::body::Frame;
use hyper::header::{CONTENT_ENCODING, CONTENT_LENGTH};

use super::exchange::Exchange;
use crate::dashscope::headers::is_event_stream;
use crate::dashscope::usage::UsageEventFilter;
use crate::upstream::DownloadFault;

/// Filter of the frames of one answer.
#[derive(Debug, Default)]
pub(super) struct UsageTaker {
    filter: UsageEventFilter,
    /// The frame, or the end, that follows what was held.
    behind: Option<Option<Frame<Bytes>>>,
}

/// The next frame of a body, as far as it is there.
type NextFrame = Poll<Option<Result<Frame<Bytes>, DownloadFault>>>;

impl UsageTaker {
    /// The filter of an answer whose use the client did not ask for. A stream with a content coding passes as it is. The
    /// length of the answer is taken off, as it changes.
    pub(super) fn of<B>(response: &mut Response<B>, exchange: &Exchange) -> Option<Box<Self>> {
        let headers = response.headers();
        let takes =
            exchange.hides_usage.get() && is_event_stream(headers) && !headers.contains_key(CONTENT_ENCODING);
        takes.then(|| {
            response.headers_mut().remove(CONTENT_LENGTH);
            Box::default()
        })
    }

    /// The frame that must pass before the next one is asked for.
    pub(super) fn waiting(&mut self) -> Option<NextFrame> {
        self.behind.take().map(|next| Poll::Ready(next.map(Ok)))
    }

    /// The part of the next frame that may pass; `None` if more must be asked for.
    pub(super) fn pass(&mut self, next: NextFrame) -> Option<NextFrame> {
        let next = match next {
            Poll::Pending | Poll::Ready(Some(Err(_))) => return Some(next),
            Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) => {
                    let data = self.filter.pass(data);
                    return (!data.is_empty()).then(|| Poll::Ready(Some(Ok(Frame::data(data)))));
                }
                Err(trailers) => Some(trailers),
            },
            Poll::Ready(None) => None,
        };
        let rest = self.filter.finish();
        if rest.is_empty() {
            return Some(Poll::Ready(next.map(Ok)));
        }
        self.behind = Some(next);
        Some(Poll::Ready(Some(Ok(Frame::data(rest)))))
    }

    /// True if nothing is held.
    pub(super) fn is_empty(&self) -> bool {
        self.filter.is_empty() && self.behind.is_none()
    }
}

//! On the way back: whose is the task that an answer names? Noted before the client sees a byte of it.

use std::collections::VecDeque;
use std::io::Read;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::{Buf, Bytes};
use flate2::read::{MultiGzDecoder, ZlibDecoder};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame};
use hyper::header::CONTENT_ENCODING;
use hyper::{Response, StatusCode};

use super::admit::Permit;
use super::observe::Held;
use super::rejection::Rejection;
use crate::dashscope::submit;
use crate::dashscope::task::{self, Named};
use crate::store::TaskRecord;
use crate::tasks::ledger::Ledger;
use crate::upstream::{Download, DownloadFault};

/// Reads an answer, up to a bound, and what it says of a task. What is larger or can't be understood passes
/// unharmed.
///
/// # Errors
/// `UpstreamLost` or `UpstreamTimeout` if the answer broke off: the client was told nothing yet.
pub(super) async fn read(response: Response<Download>) -> Result<(Response<Held>, Option<Named>), Rejection> {
    let (parts, mut download) = response.into_parts();
    let mut frames = VecDeque::new();
    let mut length = 0;
    while length <= MOST_BYTES && !download.is_end_stream() {
        let Some(frame) = download.frame().await else { break };
        let frame = frame.map_err(|fault| match fault {
            DownloadFault::Lost => Rejection::UpstreamLost,
            DownloadFault::Silent => Rejection::UpstreamTimeout,
        })?;
        length += frame.data_ref().map_or(0, Buf::remaining);
        frames.push_back(frame);
    }
    let rest = (length > MOST_BYTES).then_some(download);
    let coding = parts.headers.get(CONTENT_ENCODING).map(|value| value.as_bytes());
    let named = match rest {
        None if parts.status == StatusCode::OK => text(&frames, coding).and_then(|text| task::named(&text)),
        None | Some(_) => None,
    };
    let held = Held { frames, rest };
    Ok((Response::from_parts(parts, held), named))
}

/// Notes the new task of a submit; it is durable when this returns.
pub(super) async fn claim(
    ledger: &Ledger,
    permit: &Permit,
    account: usize,
    mount: Arc<str>,
    named: Named,
    beginning: &[u8],
) {
    let caller = permit.caller();
    let task = TaskRecord {
        id: named.task_id,
        tenant: Arc::clone(&permit.tenant().name),
        key_id: caller.key_id().into(),
        account: Arc::clone(&permit.directory().accounts[account].name),
        model: submit::model(beginning).unwrap_or_default(),
        mount,
        claimed_at: SystemTime::now(),
        status: named.status,
    };
    let id = task.id.clone();
    if let Err(fault) = ledger.claim(task).await {
        // It is paid for, so its client is told of it; a crash now would make it nobody's.
        tracing::error!(task_id = &*id, tenant = &*permit.tenant().name, %fault, "a task's owner is not durable yet");
    }
}

/// The body without its content coding.
pub(super) fn text(frames: &VecDeque<Frame<Bytes>>, coding: Option<&[u8]>) -> Option<Vec<u8>> {
    let raw: Vec<u8> =
        frames.iter().filter_map(Frame::data_ref).flat_map(|data| data.iter().copied()).collect();
    let mut plain = Vec::new();
    // The names of codings have no case (RFC 9110, 8.4.1).
    match coding.map(<[u8]>::to_ascii_lowercase).as_deref() {
        None | Some(b"identity") => return Some(raw),
        Some(b"gzip" | b"x-gzip") => {
            MultiGzDecoder::new(&*raw).take(MOST_DECODED_BYTES).read_to_end(&mut plain).ok()?;
        }
        Some(b"deflate") => {
            ZlibDecoder::new(&*raw).take(MOST_DECODED_BYTES).read_to_end(&mut plain).ok()?;
        }
        Some(_) => return None,
    }
    Some(plain)
}

/// Of an answer that is read; those of submits and queries have some hundred bytes.
const MOST_BYTES: usize = 64 * 1024;
const MOST_DECODED_BYTES: u64 = 1024 * 1024;

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn frames(bytes: &[u8]) -> VecDeque<Frame<Bytes>> {
        bytes.chunks(7).map(|chunk| Frame::data(Bytes::copy_from_slice(chunk))).collect()
    }

    #[test]
    fn the_text_is_read_through_its_coding() {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        gzip.write_all(b"{\"a\":1}").expect("memory");
        let gzip = gzip.finish().expect("memory");
        let mut deflate = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
        deflate.write_all(b"{\"a\":1}").expect("memory");
        let deflate = deflate.finish().expect("memory");
        for (bytes, coding) in [
            (&b"{\"a\":1}"[..], None),
            (&gzip, Some(&b"gzip"[..])),
            (&gzip, Some(b"GZIP")),
            (&deflate, Some(b"deflate")),
        ] {
            assert_eq!(text(&frames(bytes), coding).as_deref(), Some(&b"{\"a\":1}"[..]));
        }
        assert_eq!(text(&frames(b"x"), Some(b"br")), None);
        assert_eq!(text(&frames(b"not gzip"), Some(b"gzip")), None);
    }

    #[test]
    fn a_small_answer_that_unpacks_to_a_huge_one_is_bounded() {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        gzip.write_all(&vec![b' '; 16 * 1024 * 1024]).expect("memory");
        let bomb = gzip.finish().expect("memory");
        assert!(bomb.len() < MOST_BYTES);
        let text = text(&frames(&bomb), Some(b"gzip")).expect("the beginning");
        assert_eq!(text.len() as u64, MOST_DECODED_BYTES);
    }
}

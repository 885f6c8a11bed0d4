//! Asking for the use of an OpenAI-compatible stream, which tells it only where the body has
//! `stream_options.include_usage`. A tenant's `stream_usage` says whether a body without it is refused or changed.

use bytes::Bytes;
use hyper::header::{ACCEPT_ENCODING, CONTENT_LENGTH, HeaderMap, HeaderValue};

use super::inspect::{MOST_AT_ONCE, Pieces, bad_body};
use super::passage::Passage;
use super::rejection::Rejection;
use crate::config::UsageOption;
use crate::dashscope::limited_fields::FieldFault;
use crate::dashscope::usage::StreamOptions;
use crate::upstream::{Keep, Upload, UploadFault};

/// Checks that the stream will tell its use, or puts the option into the body. The body is read whole before anything
/// is sent. Where the option can't be put in, the call passes as it came.
///
/// # Errors
/// `UsageOption`; `BadBody` for a body that can't be read, or could be read in two ways; `NoRoom`, and faults of the
/// client's body.
pub(super) async fn ask_usage(passage: &mut Passage) -> Result<(), Rejection> {
    let Passage { exchange, request, body, .. } = passage;
    let permit = exchange.permit();
    let rule = permit.tenant().stream_usage;
    if rule == UsageOption::AsSent || !exchange.route().operation.tells_usage_if_asked() {
        return Ok(());
    }
    let adds = rule == UsageOption::Add;
    match body.read_whole(usize::MAX).await {
        Ok(_) => {}
        Err(UploadFault::OverBudget) if adds => return Ok(()),
        Err(fault) => {
            return Err(Rejection::of_body(fault, permit.directory().settings.server.max_body_bytes));
        }
    }
    let asked = match read(body).await {
        Ok(asked) => asked,
        Err(_) if adds => return Ok(()),
        Err(fault) => return Err(bad_body("its body", &fault)),
    };
    if !asked.streams {
        return Ok(());
    }
    // A stream with a content coding can't be read as it passes.
    request.headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    if asked.includes_usage {
        return Ok(());
    }
    if !adds {
        return Err(Rejection::UsageOption);
    }
    if let Some(pieces) = asked.put_in(&body.pieces()) {
        describe(&mut request.headers, &pieces);
        body.replace(pieces, Keep::Beginning);
        exchange.hides_usage.set(true);
    }
    Ok(())
}

/// Reads the options of a body. A large body is read on another thread, because the worker's other requests would wait.
async fn read(body: &Upload) -> Result<StreamOptions, FieldFault> {
    let pieces = body.pieces();
    if pieces.iter().map(Bytes::len).sum::<usize>() as u64 <= MOST_AT_ONCE {
        return StreamOptions::from_slice(&body.ahead());
    }
    let pieces = Pieces(pieces.into());
    let read = tokio::task::spawn_blocking(move || StreamOptions::from_reader(pieces)).await;
    read.unwrap_or(Err(FieldFault::NotJson))
}

/// Lets the head tell the length of the body that was changed, and no digest of the one that came.
fn describe(headers: &mut HeaderMap, pieces: &[Bytes]) {
    if headers.contains_key(CONTENT_LENGTH) {
        headers.insert(CONTENT_LENGTH, pieces.iter().map(Bytes::len).sum::<usize>().into());
    }
    for digest in ["content-md5", "content-digest", "repr-digest", "digest"] {
        headers.remove(digest);
    }
}

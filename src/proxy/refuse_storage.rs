//! The check that a response is not stored, and reads nothing that is stored: all tenants share their account's storage.

use bytes::Bytes;

use super::inspect::{MOST_AT_ONCE, Pieces, bad_body};
use super::passage::Passage;
use super::rejection::Rejection;
use super::response_fault::ResponseFault;
use crate::dashscope::limited_fields::FieldFault;
use crate::dashscope::operation::Operation;
use crate::dashscope::response_storage::ResponseStorage;
use crate::upstream::Upload;

/// Checks a request for a response, whose body is then read whole before anything is sent. Other calls pass.
///
/// # Errors
/// `Response`; `BadBody` for a body that can't be read, or could be read in two ways; `NoRoom`, and faults of the
/// client's body.
pub(super) async fn refuse_storage(passage: &mut Passage) -> Result<(), Rejection> {
    if passage.route().operation != Operation::Response {
        return Ok(());
    }
    let Passage { exchange, body, .. } = passage;
    let most_bytes = exchange.directory().settings.server.max_body_bytes;
    let read_ahead = body.read_whole(usize::MAX).await;
    read_ahead.map_err(|fault| Rejection::of_body(fault, most_bytes))?;
    match read(body).await {
        Ok(ResponseStorage::Unused) => Ok(()),
        Ok(ResponseStorage::Stores) => Err(Rejection::Response(ResponseFault::Stores)),
        Ok(ResponseStorage::Needs(field)) => Err(Rejection::Response(ResponseFault::Needs(field))),
        Err(FieldFault::NotJson) => {
            Err(Rejection::BadBody("its body must be plain JSON, and say \"store\": false".into()))
        }
        Err(fault) => Err(bad_body("its body", &fault)),
    }
}

/// Reads a body. A large one is read on another thread, because the worker's other requests would wait.
async fn read(body: &Upload) -> Result<ResponseStorage, FieldFault> {
    let pieces = body.pieces();
    if pieces.iter().map(Bytes::len).sum::<usize>() as u64 <= MOST_AT_ONCE {
        return ResponseStorage::from_slice(&body.ahead());
    }
    let pieces = Pieces(pieces.into());
    let read = tokio::task::spawn_blocking(move || ResponseStorage::from_reader(pieces)).await;
    read.unwrap_or(Err(FieldFault::NotJson))
}

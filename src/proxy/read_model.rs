//! The model that a body names, read before the body goes up.

use super::admit::permit::Permit;
use super::rejection::Rejection;
use crate::upstream::{Progress, Upload};

/// Reads ahead until the body names its model. Behind the beginning of the body it does so only as far as the buffer
/// budget allows: `None` if there is no room, or if the body names no model.
///
/// # Errors
/// The fault of the client's body.
pub(super) async fn read_model(permit: &Permit, body: &mut Upload) -> Result<Option<Box<str>>, Rejection> {
    let most_bytes = permit.directory().settings.server.max_body_bytes;
    let client = |fault| Rejection::of_body(fault, most_bytes);
    let is_named = |progress: &Progress| progress.model().is_some();
    body.read_ahead(MOST_AHEAD, is_named).await.map_err(client)?;
    body.read_to_model().await.map_err(client)?;
    Ok(body.progress().model())
}

const MOST_AHEAD: usize = 16 * 1024;

//! The model that a body names, read before the body goes up.

use std::cell::RefCell;

use super::admit::permit::Permit;
use super::rejection::Rejection;
use crate::dashscope::model_field;
use crate::upstream::{Progress, Upload};

/// Reads ahead until the body names its model. `None` if the model does not stand near the beginning of the body.
///
/// # Errors
/// The fault of the client's body.
pub(super) async fn read_model(permit: &Permit, body: &mut Upload) -> Result<Option<Box<str>>, Rejection> {
    let found = RefCell::new(None);
    let is_named = |progress: &Progress| {
        found.replace(model_field::last(&progress.beginning(usize::MAX)));
        found.borrow().is_some()
    };
    let read = body.read_ahead(MOST_AHEAD, is_named).await;
    read.map_err(|fault| Rejection::of_body(fault, permit.directory().settings.server.max_body_bytes))?;
    Ok(found.take().or_else(|| model_field::last(&body.progress().beginning(usize::MAX))))
}

const MOST_AHEAD: usize = 16 * 1024;

//! The address that a submit names for a webhook of its own.

use std::sync::Arc;

use super::passage::Passage;
use super::rejection::Rejection;

/// Takes the address of a call that makes a task. Other calls have no end to be told of, and the field is not sent on.
///
/// # Errors
/// `BadRequest` for an address that its tenant may not name.
pub(super) fn take_webhook(passage: &Passage) -> Result<Option<Arc<str>>, Rejection> {
    let mut fields = passage.request.headers.get_all(FIELD).iter();
    let Some(field) = fields.next().filter(|_| passage.permit().submits()) else { return Ok(None) };
    if fields.next().is_some() {
        return Err(Rejection::BadRequest("it has two fields x-dashgate-webhook"));
    }
    let text = field.to_str().map_err(|_| Rejection::BadRequest("its x-dashgate-webhook is no plain URL"))?;
    let url = passage.permit().tenant().webhooks.own_address(text).map_err(Rejection::BadRequest)?;
    Ok(Some(url.text))
}

const FIELD: &str = "x-dashgate-webhook";

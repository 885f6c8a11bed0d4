//! Refusals of calls for responses that are stored.

use std::borrow::Cow;

use hyper::StatusCode;

use super::refusal_row::{BAD_REQUEST, RefusalRow};
use crate::telemetry::metrics::Reason;

/// Why a call for a response is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ResponseFault {
    /// The response would be stored.
    Stores,
    /// This field asks for something that is stored.
    Needs(&'static str),
    /// The call is for a stored response.
    NotStored,
}

impl ResponseFault {
    pub(super) const fn row(self) -> RefusalRow {
        match self {
            ResponseFault::Stores | ResponseFault::Needs(_) => {
                RefusalRow { reason: Reason::StoredResponse, ..BAD_REQUEST }
            }
            ResponseFault::NotStored => RefusalRow {
                reason: Reason::NotStored,
                status: StatusCode::NOT_FOUND,
                native_code: "NotFound",
                openai_code: "not_found",
                ..BAD_REQUEST
            },
        }
    }

    /// Message for the client.
    pub(super) fn message(self) -> Cow<'static, str> {
        match self {
            ResponseFault::Stores => {
                "The request is refused: its response would be stored. Send \"store\": false.".into()
            }
            ResponseFault::Needs(field) => {
                format!("The request is refused: `{field}` needs stored responses. Send \"store\": false, all earlier items in \"input\", and no `{field}`.").into()
            }
            ResponseFault::NotStored => {
                "There is no response with this id: this gateway takes responses with \"store\": false only.".into()
            }
        }
    }
}

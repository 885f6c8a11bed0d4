//! Session: whose token the caller shows, and what it may do.

use hyper::StatusCode;
use serde_json::json;

use super::response::{self, AdminResponse};
use super::token::TokenHolder;
use crate::config::AdminRole;

pub(super) fn answer(holder: &TokenHolder) -> AdminResponse {
    let role = match holder.role {
        AdminRole::Read => "read",
        AdminRole::Operate => "operate",
    };
    response::answer(StatusCode::OK, &json!({ "name": holder.name, "role": role }))
}

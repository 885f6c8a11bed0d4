//! Stages of the unified dialect: `/v1/videos` as OpenAI and ope.ai speak it, and `/v1/tasks/{id}` as APIYI does.
//!
//! | call | file | in place of |
//! |---|---|---|
//! | create | [`translate`] makes a native submit of it; [`store_reference`] uploads its file first | |
//! | get, view | [`respond`] writes the poll hub's answer as a Video or as a task | the native answer |
//! | list | [`list`] reads the task index | sending |
//! | delete | [`delete`] cancels the task or hides it | sending |
//! | content | [`content`] passes the file on from object storage | sending |

pub(super) mod content;
pub(super) mod delete;
pub(super) mod fault;
pub(super) mod list;
mod native_request;
pub(super) mod respond;
mod storage;
mod store_reference;
pub(super) mod translate;

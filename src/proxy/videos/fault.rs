//! Refusals of the unified dialect that concern one video or its file.

use std::borrow::Cow;

use hyper::StatusCode;

use crate::proxy::refusal_row::{BAD_REQUEST, RefusalRow, UNAVAILABLE};
use crate::telemetry::metrics::Reason;

/// The reason for which a video, or its file, is not served.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::proxy) enum VideoFault {
    /// The tenant has no such video.
    None,
    /// The task has not ended: there is no file yet, or the task runs already and can't be cancelled.
    Runs(&'static str),
    /// The task made no video; with the reason.
    Failed(Box<str>),
    /// The file is gone from DashScope's storage.
    Expired,
    /// The file ends before the requested range begins.
    BadRange,
    /// DashScope named a storage host that is not allowed, or whose name leads to an internal address.
    StorageRefused,
    /// Storage can't be used: nothing was submitted, or nothing passed on.
    StorageFailed,
}

impl VideoFault {
    pub(in crate::proxy) const fn row(&self) -> RefusalRow {
        match self {
            VideoFault::None => RefusalRow {
                reason: Reason::NoVideo,
                status: StatusCode::NOT_FOUND,
                native_code: "NotFound",
                openai_code: "not_found",
                ..BAD_REQUEST
            },
            VideoFault::Runs(_) => RefusalRow {
                reason: Reason::VideoNotReady,
                native_code: "UnsupportedOperation",
                openai_code: "video_not_ready",
                ..BAD_REQUEST
            },
            VideoFault::Failed(_) => RefusalRow {
                reason: Reason::VideoFailed,
                native_code: "UnsupportedOperation",
                openai_code: "video_failed",
                ..BAD_REQUEST
            },
            VideoFault::Expired => RefusalRow {
                reason: Reason::VideoExpired,
                status: StatusCode::GONE,
                native_code: "NotFound",
                openai_code: "video_expired",
                ..BAD_REQUEST
            },
            VideoFault::BadRange => RefusalRow {
                reason: Reason::BadRange,
                status: StatusCode::RANGE_NOT_SATISFIABLE,
                native_code: "InvalidRange",
                openai_code: "invalid_range",
                ..BAD_REQUEST
            },
            VideoFault::StorageRefused => {
                RefusalRow { reason: Reason::StorageRefused, status: StatusCode::BAD_GATEWAY, ..UNAVAILABLE }
            }
            VideoFault::StorageFailed => {
                RefusalRow { reason: Reason::StorageFailed, status: StatusCode::BAD_GATEWAY, ..UNAVAILABLE }
            }
        }
    }

    /// The message for the client.
    pub(in crate::proxy) fn message(&self) -> Cow<'static, str> {
        match self {
            VideoFault::None => "There is no video with this id.".into(),
            VideoFault::Runs(problem) => format!("The video is not finished: {problem}.").into(),
            VideoFault::Failed(why) => format!("There is no video: {why}").into(),
            VideoFault::Expired => "The video is gone: DashScope keeps one for 24 hours.".into(),
            VideoFault::BadRange => "The video has no bytes in this range.".into(),
            VideoFault::StorageRefused => {
                "The file lies in a place that this gateway does not talk to; its operator finds it in the log.".into()
            }
            VideoFault::StorageFailed => "The storage of files can't be used at present; try again.".into(),
        }
    }
}

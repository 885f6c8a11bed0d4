//! Rejections: every reason for which a request is refused, and how each is reported to the client, in one table.

use std::borrow::Cow;
use std::time::Duration;

use hyper::StatusCode;

use super::money_fault::MoneyFault;
use super::peer::HeadFault;
use super::refusal_row::{
    BAD_REQUEST, CONFLICT, CROWDED, DENIED, INVALID_KEY, RefusalRow, THROTTLED, UNAVAILABLE,
};
use super::response_fault::ResponseFault;
use super::videos::fault::VideoFault;
use crate::dashscope::path::PathFault;
use crate::dashscope::websocket::FrameFault;
use crate::limits::{Limit, LimitRefusal};
use crate::telemetry::metrics::Reason;
use crate::tenant::key::CredentialFault;
use crate::unified;
use crate::upstream::{DownloadFault, UploadFault};

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Rejection {
    /// No field has a key. `has_authorization`: there is the field `Authorization`, but no key behind `Bearer`.
    NoKey {
        has_authorization: bool,
    },
    UnknownKey,
    ExpiredKey,
    RevokedKey,
    /// The key's tenant has client certificates, and the connection has none.
    NoCertificate,
    /// The client's certificate belongs to another tenant than its key.
    OtherCertificate,
    /// No mount takes the path; with the path and the mounts.
    NoMount(Box<str>),
    /// Method and path of an operation that is not passed on, or not for this tenant.
    NotAllowed(Box<str>),
    AsyncRequired,
    /// A call for a response that is stored, or would be.
    Response(ResponseFault),
    /// The call asks for a stream that tells no use.
    UsageOption,
    /// A call without a key comes from a web page of another site; with the text that says who may call.
    ForeignOrigin(&'static str),
    /// A browser calls for a web page that may not call the mount, or not with this browser token.
    ForeignPage,
    /// The key, or the certificate, is not good from the client's address.
    Address,
    /// The operator has suspended the tenant.
    Suspended,
    /// A limit of the caller is reached.
    Limited(LimitRefusal),
    /// The client's address has failed to authenticate too often; with the time until it may try again.
    AuthRate(Duration),
    /// The model is not allowed, or the request names none; with the text for the client.
    ModelNotAllowed(Box<str>),
    /// The value that the submit asks for, and the cap.
    OverCap(Box<str>),
    /// The tenant can't pay for the call.
    Money(Box<MoneyFault>),
    /// Bodies that are read whole take too much memory.
    NoRoom,
    BadPath(PathFault),
    BadRequest(&'static str),
    /// The body can't be inspected; with the reason.
    BadBody(Box<str>),
    /// A field of the unified dialect, and its fault.
    BadField(unified::UnifiedFault),
    /// A fault of one video in the unified dialect.
    Video(VideoFault),
    BadHead(HeadFault),
    BodyTooLarge(u64),
    ClientTimeout,
    /// The task of a submit could not be recorded, so the submit is not sent.
    StoreUnavailable,
    /// An earlier submit with the same `Idempotency-Key` runs.
    IdempotencyRunning,
    /// An earlier submit with the same `Idempotency-Key` lost its answer.
    IdempotencyUnclear,
    /// An earlier submit with this `Idempotency-Key` had another body.
    IdempotencyBody(Box<str>),
    /// The submit waited too long for its turn, or would have; nothing was sent. With the time until it may come again.
    Paced {
        limit: Box<str>,
        model: Box<str>,
        wait: Duration,
    },
    /// No account can take the request; with the time until one may again.
    AccountsOut(Duration),
    /// A key or a bill of the account is at fault, which its clients must not see.
    AccountFault,
    /// The task's account refused every key.
    NoLiveKey,
    /// Nothing was sent.
    UpstreamUnreachable,
    /// A task or key is not known here, or not lately enough, and the database that other replicas share does not tell more.
    NotLookedUp,
    /// The request may have arrived.
    UpstreamLost,
    /// The request may have arrived.
    UpstreamTimeout,
    /// The request made a task, whose owner other replicas can't be told in time.
    TaskUnrecorded,
    /// The answer of a task that has ended is too large to be held, and so to be shown as another dialect does.
    AnswerTooLarge,
    Draining,
}

impl Rejection {
    /// The refusal of a request whose body could not be read or sent.
    pub(super) const fn of_body(fault: UploadFault, most_body_bytes: u64) -> Self {
        match fault {
            UploadFault::TooLarge => Rejection::BodyTooLarge(most_body_bytes),
            UploadFault::Stalled => Rejection::ClientTimeout,
            UploadFault::OverBudget => Rejection::NoRoom,
            UploadFault::Broken => {
                Rejection::BadRequest("its body broke off or is not framed as HTTP demands")
            }
        }
    }

    pub(super) const fn row(&self) -> RefusalRow {
        match self {
            Rejection::NoKey { .. } => RefusalRow { reason: Reason::NoKey, ..INVALID_KEY },
            Rejection::UnknownKey => RefusalRow { reason: Reason::UnknownKey, ..INVALID_KEY },
            Rejection::ExpiredKey => RefusalRow { reason: Reason::ExpiredKey, ..INVALID_KEY },
            Rejection::RevokedKey => RefusalRow { reason: Reason::RevokedKey, ..INVALID_KEY },
            Rejection::NoCertificate => RefusalRow { reason: Reason::NoCertificate, ..INVALID_KEY },
            Rejection::OtherCertificate => RefusalRow { reason: Reason::OtherCertificate, ..INVALID_KEY },
            Rejection::NoMount(_) => RefusalRow {
                reason: Reason::NoMount,
                status: StatusCode::NOT_FOUND,
                native_code: "InvalidURL",
                openai_code: "invalid_url",
                ..BAD_REQUEST
            },
            Rejection::NotAllowed(_) => RefusalRow { reason: Reason::NotAllowed, ..DENIED },
            Rejection::AsyncRequired => RefusalRow { reason: Reason::AsyncRequired, ..DENIED },
            Rejection::Response(fault) => fault.row(),
            Rejection::UsageOption => RefusalRow { reason: Reason::UsageOption, ..BAD_REQUEST },
            Rejection::ForeignOrigin(_) | Rejection::ForeignPage => {
                RefusalRow { reason: Reason::ForeignOrigin, ..DENIED }
            }
            Rejection::Address => RefusalRow { reason: Reason::Address, ..DENIED },
            Rejection::Suspended => RefusalRow { reason: Reason::Suspended, ..DENIED },
            Rejection::BadPath(_) => RefusalRow { reason: Reason::BadPath, ..BAD_REQUEST },
            Rejection::BadRequest(_) | Rejection::BadBody(_) | Rejection::BadField(_) => BAD_REQUEST,
            Rejection::Video(fault) => fault.row(),
            Rejection::Money(fault) => fault.row(),
            Rejection::BadHead(HeadFault::Slow) | Rejection::ClientTimeout => RefusalRow {
                reason: Reason::ClientTimeout,
                status: StatusCode::REQUEST_TIMEOUT,
                native_code: "RequestTimeOut",
                openai_code: "request_timeout",
                closes: true,
                ..BAD_REQUEST
            },
            Rejection::BadHead(HeadFault::TooLarge | HeadFault::TooManyFields) => RefusalRow {
                status: StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                closes: true,
                ..BAD_REQUEST
            },
            Rejection::BadHead(_) => RefusalRow { closes: true, ..BAD_REQUEST },
            Rejection::BodyTooLarge(_) => RefusalRow {
                reason: Reason::BodyTooLarge,
                status: StatusCode::PAYLOAD_TOO_LARGE,
                native_code: "BadRequest.TooLarge",
                openai_code: "request_too_large",
                closes: true,
                ..BAD_REQUEST
            },
            Rejection::StoreUnavailable | Rejection::NotLookedUp => {
                RefusalRow { reason: Reason::StoreUnavailable, ..UNAVAILABLE }
            }
            Rejection::IdempotencyRunning => RefusalRow { reason: Reason::IdempotencyRunning, ..CONFLICT },
            Rejection::IdempotencyUnclear => RefusalRow { reason: Reason::IdempotencyUnclear, ..CONFLICT },
            Rejection::IdempotencyBody(_) => RefusalRow {
                reason: Reason::IdempotencyBody,
                status: StatusCode::UNPROCESSABLE_ENTITY,
                ..BAD_REQUEST
            },
            Rejection::Limited(refusal) => limit_row(&refusal.limit),
            Rejection::AuthRate(_) => RefusalRow { reason: Reason::AuthRate, ..THROTTLED },
            Rejection::ModelNotAllowed(_) => RefusalRow {
                reason: Reason::ModelNotAllowed,
                native_code: "Model.AccessDenied",
                openai_code: "model_access_denied",
                ..DENIED
            },
            Rejection::OverCap(_) => RefusalRow { reason: Reason::OverCap, ..BAD_REQUEST },
            Rejection::NoRoom => RefusalRow { reason: Reason::NoRoom, closes: true, ..UNAVAILABLE },
            Rejection::Paced { .. } => RefusalRow { reason: Reason::Paced, ..THROTTLED },
            Rejection::AccountsOut(_) => RefusalRow { reason: Reason::AccountsOut, ..THROTTLED },
            Rejection::AccountFault => RefusalRow { reason: Reason::AccountFault, ..UNAVAILABLE },
            Rejection::NoLiveKey => RefusalRow { reason: Reason::NoLiveKey, ..UNAVAILABLE },
            Rejection::UpstreamUnreachable => {
                RefusalRow { reason: Reason::UpstreamUnreachable, ..UNAVAILABLE }
            }
            Rejection::UpstreamLost | Rejection::TaskUnrecorded => {
                RefusalRow { reason: Reason::UpstreamLost, status: StatusCode::BAD_GATEWAY, ..UNAVAILABLE }
            }
            Rejection::UpstreamTimeout => RefusalRow {
                reason: Reason::UpstreamTimeout,
                status: StatusCode::GATEWAY_TIMEOUT,
                ..UNAVAILABLE
            },
            Rejection::AnswerTooLarge => {
                RefusalRow { reason: Reason::AnswerTooLarge, status: StatusCode::BAD_GATEWAY, ..UNAVAILABLE }
            }
            Rejection::Draining => RefusalRow { reason: Reason::Draining, closes: true, ..UNAVAILABLE },
        }
    }

    /// Message for the client.
    pub(super) fn message(&self) -> Cow<'static, str> {
        match self {
            Rejection::NoKey { has_authorization: false } => "No API-key provided.".into(),
            Rejection::NoKey { has_authorization: true } => {
                "No API-key provided. The field Authorization must be `Bearer`, a space, and the key.".into()
            }
            Rejection::UnknownKey | Rejection::ExpiredKey | Rejection::RevokedKey => {
                "Invalid API-key provided.".into()
            }
            Rejection::NoCertificate => {
                "Invalid API-key provided: it is accepted with a client certificate of its tenant only."
                    .into()
            }
            Rejection::OtherCertificate => {
                "Invalid API-key provided: the client's certificate is not of its tenant.".into()
            }
            Rejection::NoMount(what) => what.to_string().into(),
            Rejection::NotAllowed(operation) => {
                format!("Access denied. This gateway does not pass on {operation}.").into()
            }
            Rejection::AsyncRequired => {
                "current user api does not support synchronous calls. Send the field X-DashScope-Async: enable.".into()
            }
            Rejection::Response(fault) => fault.message(),
            Rejection::UsageOption => {
                "The request is refused: its stream tells no usage. Send \"stream_options\": {\"include_usage\": true}."
                    .into()
            }
            Rejection::ForeignOrigin(who) => {
                format!("Access denied. Its Host, Origin or Sec-Fetch-Site names another site, and {who}.")
                    .into()
            }
            Rejection::Address => "Access denied. The key may not be used from this address.".into(),
            Rejection::Suspended => "Access denied. The account of this key is suspended.".into(),
            Rejection::ForeignPage => FOREIGN_PAGE.into(),
            Rejection::Limited(refusal) => limit_message(&refusal.limit).into(),
            Rejection::AuthRate(_) => {
                "Too many requests from this address had no valid API-key, please try again later.".into()
            }
            Rejection::ModelNotAllowed(what) => format!("Model access denied: {what}.").into(),
            Rejection::NoRoom => {
                "The gateway reads too many large bodies at present; nothing was sent, come again.".into()
            }
            Rejection::BadPath(fault) => format!("The path is refused: {}.", fault.problem()).into(),
            Rejection::BadRequest(problem) => format!("The request is refused: {problem}.").into(),
            Rejection::BadBody(problem) | Rejection::OverCap(problem) => format!("The request is refused: {problem}.").into(),
            Rejection::BadField(unified::UnifiedFault { field: Some(field), problem }) => {
                format!("The request is refused: `{field}` {problem}.").into()
            }
            Rejection::BadField(unified::UnifiedFault { field: None, problem }) => {
                format!("The request is refused: {problem}.").into()
            }
            Rejection::Video(fault) => fault.message(),
            Rejection::Money(fault) => fault.message(),
            Rejection::BadHead(fault) => format!("The request is refused: {}.", fault.problem()).into(),
            Rejection::BodyTooLarge(most) => {
                format!("The request's body is larger than the {most} bytes that this gateway takes.").into()
            }
            Rejection::ClientTimeout => "The request's body stopped coming, or came too slowly.".into(),
            Rejection::StoreUnavailable => {
                "The gateway can't note new tasks and uploads now, so this one was not submitted.".into()
            }
            Rejection::NotLookedUp => {
                "The gateway can't look up the task or key of the request now; nothing was sent, ask again.".into()
            }
            Rejection::IdempotencyRunning => {
                "A request with this Idempotency-Key is still running; ask again for its answer.".into()
            }
            Rejection::IdempotencyUnclear => {
                "A request with this Idempotency-Key may have made a task, and its answer is lost. Send it again with the same key in some minutes, when it is known whether a task runs; with another key it may be paid for twice.".into()
            }
            Rejection::IdempotencyBody(key) => {
                format!("The Idempotency-Key {key} belongs to a request with another body.").into()
            }
            Rejection::Paced { limit, model, .. } => {
                format!("{RATE_EXCEEDED} The limit is {limit} of {model}.").into()
            }
            Rejection::AccountsOut(_) => RATE_EXCEEDED.into(),
            Rejection::AccountFault => {
                "The service is unavailable at present, through no fault of the request or its key.".into()
            }
            Rejection::NoLiveKey => "The task's account can't be asked at present; ask again.".into(),
            Rejection::UpstreamUnreachable => "The upstream can't be reached; nothing was sent.".into(),
            Rejection::UpstreamLost => {
                "The connection to the upstream broke; the request may have arrived.".into()
            }
            Rejection::TaskUnrecorded => {
                "The upstream took the request, and the gateway can't note its task now. Do not send it again: the list of tasks will show it.".into()
            }
            Rejection::UpstreamTimeout => {
                "The upstream did not answer in time; the request may have arrived.".into()
            }
            Rejection::AnswerTooLarge => {
                "The task has ended, with an answer too large for this path; ask for it at /api/v1/tasks/{id} of a native mount.".into()
            }
            Rejection::Draining => "The gateway is shutting down; connect again.".into(),
        }
    }

    /// The field that is at fault.
    pub(super) fn param(&self) -> Option<&str> {
        if let Rejection::BadField(fault) = self { fault.field.as_deref() } else { None }
    }

    /// Time after which the client may come again.
    pub(super) const fn retry_after(&self) -> Option<Duration> {
        if let Rejection::AccountsOut(wait)
        | Rejection::AuthRate(wait)
        | Rejection::Paced { wait, .. }
        | Rejection::Limited(LimitRefusal { wait, .. }) = self
        {
            return Some(*wait);
        }
        if let Rejection::Money(fault) = self {
            return fault.retry_after();
        }
        let soon = matches!(self, Rejection::NoRoom | Rejection::IdempotencyRunning);
        if soon { Some(Duration::from_secs(1)) } else { None }
    }

    /// True if a client that sends the request again at once gets the same answer, or pays twice.
    pub(super) const fn forbids_retries(&self) -> bool {
        if let Rejection::Money(fault) = self { fault.forbids_retries() } else { self.may_have_arrived() }
    }

    /// True if the caller may not have what it asks for. Such a refusal takes nothing of the caller's limits.
    pub(super) const fn is_of_caller(&self) -> bool {
        matches!(
            self,
            Rejection::ModelNotAllowed(_)
                | Rejection::OverCap(_)
                | Rejection::Response(_)
                | Rejection::NotAllowed(_)
                | Rejection::Money(_)
        )
    }

    /// True if a request that was sent has surely made nothing: it did not arrive whole, or was refused.
    pub(super) const fn is_before_arrival(&self) -> bool {
        matches!(
            self,
            Rejection::UpstreamUnreachable
                | Rejection::AccountFault
                | Rejection::AccountsOut(_)
                | Rejection::Paced { .. }
                | Rejection::BodyTooLarge(_)
                | Rejection::ClientTimeout
                | Rejection::BadRequest(_)
                | Rejection::NoRoom
                | Rejection::Money(_)
        )
    }

    /// True if the upstream may have got the request: a submit must then not be sent again.
    pub(super) const fn may_have_arrived(&self) -> bool {
        matches!(
            self,
            Rejection::UpstreamLost
                | Rejection::UpstreamTimeout
                | Rejection::TaskUnrecorded
                | Rejection::IdempotencyUnclear
        )
    }
}

impl From<CredentialFault> for Rejection {
    fn from(fault: CredentialFault) -> Self {
        match fault {
            CredentialFault::Unknown | CredentialFault::Mistyped => Rejection::UnknownKey,
            CredentialFault::Expired => Rejection::ExpiredKey,
            CredentialFault::Revoked => Rejection::RevokedKey,
            CredentialFault::NoCertificate => Rejection::NoCertificate,
            CredentialFault::OtherCertificate => Rejection::OtherCertificate,
        }
    }
}

impl From<unified::UnifiedFault> for Rejection {
    fn from(fault: unified::UnifiedFault) -> Self {
        Rejection::BadField(fault)
    }
}

impl From<DownloadFault> for Rejection {
    fn from(fault: DownloadFault) -> Self {
        match fault {
            DownloadFault::Lost => Rejection::UpstreamLost,
            DownloadFault::Silent => Rejection::UpstreamTimeout,
        }
    }
}

impl From<VideoFault> for Rejection {
    fn from(fault: VideoFault) -> Self {
        Rejection::Video(fault)
    }
}

impl From<FrameFault> for Rejection {
    fn from(fault: FrameFault) -> Self {
        Rejection::BadRequest(fault.problem())
    }
}

/// Row of a refusal by a limit.
const fn limit_row(limit: &Limit) -> RefusalRow {
    match limit {
        Limit::Rate { .. } => RefusalRow { reason: Reason::Rate, ..THROTTLED },
        Limit::Concurrent { .. } => RefusalRow { reason: Reason::Concurrency, ..CROWDED },
        Limit::Tasks { .. } => RefusalRow { reason: Reason::TasksInFlight, ..CROWDED },
    }
}

fn limit_message(limit: &Limit) -> String {
    match limit {
        Limit::Rate { .. } => {
            format!("{RATE_EXCEEDED} The limit is {limit}.")
        }
        Limit::Concurrent { .. } => {
            format!("Too many requests run at once, please try again later. The limit is {limit}.")
        }
        Limit::Tasks { .. } => {
            format!("Too many tasks are in flight, please try again later. The limit is {limit}.")
        }
    }
}

const RATE_EXCEEDED: &str = "Requests rate limit exceeded, please try again later.";
const FOREIGN_PAGE: &str = "Access denied. Web pages of this origin may not call here: `cors` of the mount does not name it, or the token is of \
     another origin.";

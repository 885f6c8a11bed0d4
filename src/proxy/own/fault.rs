//! Why a view is not shown.

use std::time::Duration;

use crate::proxy::refusal_row::{BAD_REQUEST, CONFLICT, CROWDED, RefusalRow, UNAVAILABLE};
use crate::proxy::rejection::Rejection;
use crate::reports::NoTurn;
use crate::reports::query::ParameterFault;
use crate::telemetry::metrics::Reason;
use crate::unified::UnifiedFault;

/// Why a view is not shown.
#[derive(Debug)]
pub(super) enum ViewFault {
    Refused(Rejection),
    Report(ReportFault),
    Rotation(RotationFault),
}

/// A reason why a key is not given a new secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RotationFault {
    /// The key is in the configuration.
    Configured,
    /// The secret has a successor already.
    Replaced,
    /// The key has had many secrets lately.
    TooOften,
    /// The key has ended meanwhile.
    Ended,
    /// The store does not take the new secret now.
    NotKept,
}

/// Why a report can't be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReportFault {
    /// Another report of the tenant runs.
    OwnReportRuns,
    /// Reports of other tenants run.
    Busy,
    TooManyRows,
    /// The ledger can't be read.
    Unreadable,
}

impl ReportFault {
    pub(super) const fn row(self) -> RefusalRow {
        match self {
            ReportFault::OwnReportRuns => RefusalRow { reason: Reason::ReportsBusy, ..CROWDED },
            ReportFault::Busy => RefusalRow { reason: Reason::ReportsBusy, ..UNAVAILABLE },
            ReportFault::TooManyRows => BAD_REQUEST,
            ReportFault::Unreadable => RefusalRow { reason: Reason::StoreUnavailable, ..UNAVAILABLE },
        }
    }

    /// Message for the client.
    pub(super) const fn message(self) -> &'static str {
        match self {
            ReportFault::OwnReportRuns => {
                "Another report runs with a key of the same tenant; ask again when it has ended."
            }
            ReportFault::Busy => "The gateway makes other reports at present; ask again.",
            ReportFault::TooManyRows => {
                "The report has more than 10000 rows: narrow it by `from`, `to`, `key` or `model`, or name less in `by`."
            }
            ReportFault::Unreadable => "The gateway can't read its ledger now; ask again.",
        }
    }

    /// Time after which the client may come again.
    pub(super) const fn retry_after(self) -> Option<Duration> {
        match self {
            ReportFault::OwnReportRuns => Some(Duration::from_secs(1)),
            ReportFault::Busy | ReportFault::Unreadable => Some(Duration::from_secs(5)),
            ReportFault::TooManyRows => None,
        }
    }
}

impl RotationFault {
    pub(super) const fn row(self) -> RefusalRow {
        match self {
            RotationFault::Configured
            | RotationFault::Replaced
            | RotationFault::TooOften
            | RotationFault::Ended => RefusalRow { reason: Reason::NotRotated, ..CONFLICT },
            RotationFault::NotKept => RefusalRow { reason: Reason::StoreUnavailable, ..UNAVAILABLE },
        }
    }

    /// Message for the client.
    pub(super) const fn message(self) -> &'static str {
        match self {
            RotationFault::Configured => {
                "The key is in the gateway's configuration and is rotated there: ask the operator."
            }
            RotationFault::Replaced => {
                "The key has a newer secret, and only its newest one rotates it: use that, or ask the operator."
            }
            RotationFault::TooOften => {
                "The key has been rotated too often within 30 days: ask the operator for another key."
            }
            RotationFault::Ended => "The key has ended meanwhile: ask the operator for another key.",
            RotationFault::NotKept => {
                "The gateway can't store a new secret now. The old one works as before; ask again."
            }
        }
    }
}

impl From<RotationFault> for ViewFault {
    fn from(fault: RotationFault) -> Self {
        Self::Rotation(fault)
    }
}

impl From<Rejection> for ViewFault {
    fn from(rejection: Rejection) -> Self {
        Self::Refused(rejection)
    }
}

impl From<ReportFault> for ViewFault {
    fn from(fault: ReportFault) -> Self {
        Self::Report(fault)
    }
}

impl From<NoTurn> for ReportFault {
    fn from(none: NoTurn) -> Self {
        match none {
            NoTurn::OwnReportRuns => Self::OwnReportRuns,
            NoTurn::Busy => Self::Busy,
        }
    }
}

impl From<ParameterFault> for ViewFault {
    fn from(ParameterFault { name, problem }: ParameterFault) -> Self {
        Self::Refused(Rejection::BadField(UnifiedFault { field: Some(name.into()), problem: problem.into() }))
    }
}

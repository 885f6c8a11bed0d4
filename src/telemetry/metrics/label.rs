//! Closed sets of label values: no request can add a value.

use hyper::StatusCode;
use strum::{IntoStaticStr, VariantArray};

/// End of an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The client left before the end.
    Abandoned,
    /// The upstream's answer was passed on whole.
    Answered,
    /// The gateway made the answer itself.
    Local,
    /// The gateway refused the request.
    Rejected(Reason),
    /// The upstream's answer broke off.
    Cut,
    /// The exchange became a tunnel, which has ended.
    Tunnelled,
    /// The gateway ended the exchange because its key was revoked or had expired.
    Withdrawn,
}

impl Outcome {
    /// Names in the order of [`Outcome::index`].
    pub(super) const NAMES: [&str; 7] =
        ["abandoned", "answered", "local", "rejected", "cut", "tunnelled", "withdrawn"];

    pub(super) const fn index(self) -> usize {
        match self {
            Outcome::Abandoned => 0,
            Outcome::Answered => 1,
            Outcome::Local => 2,
            Outcome::Rejected(_) => 3,
            Outcome::Cut => 4,
            Outcome::Tunnelled => 5,
            Outcome::Withdrawn => 6,
        }
    }

    pub const fn name(self) -> &'static str {
        Self::NAMES[self.index()]
    }

    /// The reason of a refusal.
    pub const fn reason(self) -> Option<Reason> {
        if let Outcome::Rejected(reason) = self { Some(reason) } else { None }
    }
}

/// Reason of a refusal. Its name is the value of `x-dashgate-reason`: the variant in snake case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum Reason {
    NoKey,
    UnknownKey,
    ExpiredKey,
    RevokedKey,
    NoCertificate,
    OtherCertificate,
    ForeignOrigin,
    Address,
    Suspended,
    NoMount,
    NotAllowed,
    AsyncRequired,
    UsageOption,
    StoredResponse,
    NotStored,
    NotRotated,
    BadPath,
    BadRequest,
    ClientTimeout,
    BodyTooLarge,
    StoreUnavailable,
    ReportsBusy,
    IdempotencyRunning,
    IdempotencyUnclear,
    IdempotencyBody,
    Rate,
    Concurrency,
    TasksInFlight,
    AuthRate,
    ModelNotAllowed,
    OverCap,
    Budget,
    Unpriced,
    NoRoom,
    Paced,
    AccountsOut,
    AccountFault,
    NoLiveKey,
    UpstreamUnreachable,
    UpstreamLost,
    UpstreamTimeout,
    AnswerTooLarge,
    Draining,
    // The reasons from here on are of the unified dialect.
    NoVideo,
    VideoNotReady,
    VideoFailed,
    VideoExpired,
    BadRange,
    StorageRefused,
    StorageFailed,
}

impl Reason {
    /// All reasons, in the order of the variants.
    pub const ALL: &[Reason] = Reason::VARIANTS;

    /// The value of the label and of `x-dashgate-reason`: `no_key`.
    pub const fn name(self) -> &'static str {
        self.into_str()
    }
}

/// Result of handing spans to the collector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum SpanResult {
    /// The collector took the spans.
    Sent,
    /// Too many spans waited already.
    Dropped,
    /// The collector did not take the spans.
    Failed,
}

/// Result of a try to deliver a webhook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum DeliveryResult {
    /// The endpoint took it.
    Delivered,
    /// Another try follows.
    Failed,
    GivenUp,
}

/// Source of the answer to a task query.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum PollServed {
    /// The known answer was fresh enough.
    Cache,
    /// The upstream was queried.
    Upstream,
    /// The upstream could not be queried in time.
    Stale,
}

/// A status as a label value: its index in [`CODES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StatusLabel(u8);

impl StatusLabel {
    /// `OTHER` and `NONE` follow the statuses.
    pub(super) const COUNT: usize = CODES.len() + 2;
    const OTHER: u8 = CODES.len() as u8;
    const NONE: u8 = CODES.len() as u8 + 1;

    /// `None` stands for no answer.
    pub(super) fn of(status: Option<StatusCode>) -> Self {
        let Some(status) = status else { return Self(Self::NONE) };
        let index = INDEXES.get(usize::from(status.as_u16()).wrapping_sub(LOWEST));
        Self(index.copied().unwrap_or(Self::OTHER))
    }

    pub(super) const fn index(self) -> usize {
        self.0 as usize
    }

    pub(super) fn name(index: usize) -> String {
        match CODES.get(index) {
            Some(code) => code.to_string(),
            None if index == usize::from(Self::NONE) => "none".to_owned(),
            None => "other".to_owned(),
        }
    }
}

/// Statuses with a label value of their own: statuses of RFC 9110 that a proxy meets, and of well-known front ends.
const CODES: [u16; 45] = [
    101, 200, 201, 202, 203, 204, 205, 206, 300, 301, 302, 303, 304, 307, 308, 400, 401, 402, 403, 404, 405,
    406, 408, 409, 410, 411, 412, 413, 414, 415, 416, 417, 421, 422, 424, 429, 431, 451, 499, 500, 501, 502,
    503, 504, 505,
];
const LOWEST: usize = 100;
/// Index in [`CODES`] of each status from [`LOWEST`] on.
const INDEXES: [u8; 500] = {
    let mut indexes = [StatusLabel::OTHER; 500];
    let mut at = 0;
    while at < CODES.len() {
        indexes[CODES[at] as usize - LOWEST] = at as u8;
        at += 1;
    }
    indexes
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_label_has_its_place() {
        for (index, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, index, "{reason:?}");
        }
        assert_eq!((Reason::NoKey.name(), Reason::TasksInFlight.name()), ("no_key", "tasks_in_flight"));
        for (outcome, name) in [
            (Outcome::Abandoned, "abandoned"),
            (Outcome::Answered, "answered"),
            (Outcome::Local, "local"),
            (Outcome::Rejected(Reason::Rate), "rejected"),
            (Outcome::Cut, "cut"),
            (Outcome::Tunnelled, "tunnelled"),
            (Outcome::Withdrawn, "withdrawn"),
        ] {
            assert_eq!(outcome.name(), name);
        }
    }

    #[test]
    fn a_status_is_one_of_the_list_or_another() {
        for (status, name) in
            [(101, "101"), (200, "200"), (429, "429"), (505, "505"), (418, "other"), (999, "other")]
        {
            let code = StatusLabel::of(StatusCode::from_u16(status).ok());
            assert_eq!(StatusLabel::name(code.index()), name);
        }
        assert_eq!(StatusLabel::name(StatusLabel::of(None).index()), "none");
    }
}

//! Closed sets of labels: whatever clients send, there are no others.

use hyper::StatusCode;
use strum::{IntoStaticStr, VariantArray};

/// How an exchange ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The client left before the end.
    Abandoned,
    /// The upstream's answer was passed on whole.
    Answered,
    /// The answer was ours.
    Local,
    /// Refused, for this reason.
    Rejected(Reason),
    /// The upstream's answer broke off.
    Cut,
    /// It became a tunnel, which has ended.
    Tunnelled,
    /// It was cut here, as its key was revoked or has expired.
    Withdrawn,
}

impl Outcome {
    /// In the order of [`Outcome::index`].
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

    /// Why it was refused, if it was.
    pub const fn reason(self) -> Option<Reason> {
        if let Outcome::Rejected(reason) = self { Some(reason) } else { None }
    }
}

/// Why a request was refused: the value of `x-dashgate-reason`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum Reason {
    NoKey,
    UnknownKey,
    ExpiredKey,
    RevokedKey,
    NoCertificate,
    OtherCertificate,
    NoMount,
    NotAllowed,
    AsyncRequired,
    BadPath,
    BadRequest,
    ClientTimeout,
    BodyTooLarge,
    StoreUnavailable,
    Rate,
    Concurrency,
    TasksInFlight,
    AuthRate,
    ModelNotAllowed,
    OverCap,
    NoRoom,
    Paced,
    AccountsOut,
    NoLiveKey,
    UpstreamUnreachable,
    UpstreamLost,
    UpstreamTimeout,
    Draining,
    /// Of the unified dialect, as are those that follow.
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
    pub const ALL: &'static [Self] = Self::VARIANTS;

    /// The value of the label and of `x-dashgate-reason`: `no_key`.
    pub const fn name(self) -> &'static str {
        self.into_str()
    }
}

/// What became of spans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpanResult {
    /// The collector took them.
    Sent,
    /// Too many waited already.
    Dropped,
    /// The collector did not take them.
    Failed,
}

impl SpanResult {
    pub(super) const NAMES: [&str; 3] = ["sent", "dropped", "failed"];
}

/// Where the answer to a task query came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PollServed {
    /// What was known was fresh enough.
    Cache,
    /// The upstream was asked.
    Upstream,
    /// It could not be asked in time.
    Stale,
}

impl PollServed {
    pub(super) const NAMES: [&str; 3] = ["cache", "upstream", "stale"];
}

/// A status as a label, by its place in [`CODES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StatusLabel(u8);

impl StatusLabel {
    /// `NONE` and `OTHER` come behind the statuses.
    pub(super) const COUNT: usize = CODES.len() + 2;
    const OTHER: u8 = CODES.len() as u8;
    const NONE: u8 = CODES.len() as u8 + 1;

    /// `None`: there was no answer.
    pub(super) fn of(status: Option<StatusCode>) -> Self {
        let Some(status) = status else { return Self(Self::NONE) };
        let place = PLACES.get(usize::from(status.as_u16()).wrapping_sub(LOWEST));
        Self(place.copied().unwrap_or(Self::OTHER))
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

/// The statuses that are told apart: those of RFC 9110 that a proxy meets, and those of well-known front ends.
const CODES: [u16; 45] = [
    101, 200, 201, 202, 203, 204, 205, 206, 300, 301, 302, 303, 304, 307, 308, 400, 401, 402, 403, 404, 405,
    406, 408, 409, 410, 411, 412, 413, 414, 415, 416, 417, 421, 422, 424, 429, 431, 451, 499, 500, 501, 502,
    503, 504, 505,
];
const LOWEST: usize = 100;
/// From a status to its place.
const PLACES: [u8; 500] = {
    let mut places = [StatusLabel::OTHER; 500];
    let mut at = 0;
    while at < CODES.len() {
        places[CODES[at] as usize - LOWEST] = at as u8;
        at += 1;
    }
    places
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_label_has_its_place() {
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

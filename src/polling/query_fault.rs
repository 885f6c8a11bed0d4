//! Faults of queries, and how the operator learns of them.

use std::time::{Duration, Instant};

use hyper::StatusCode;

use super::tracked_task::TaskAnswer;
use crate::dashscope::refusal;
use crate::upstream::ReadFault;

/// Why a query for a task, or for a page of a list, told nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QueryFault {
    /// The answer tells no state of the task, or is no page; with its status and its code, if it names one.
    Odd(StatusCode, Option<Box<str>>),
    /// The answer is larger than can be held, and its beginning tells no state of the task.
    TooLarge,
    /// The memory for answers was taken by others.
    NoRoom,
    /// The answer did not end in time.
    Late,
    /// No answer came, or it broke off.
    Lost,
    /// The gateway could open no connection for want of descriptors, or of room for one more.
    Unsent,
}

impl QueryFault {
    pub fn odd(answer: &TaskAnswer) -> Self {
        let code = refusal::plain_code(&answer.body).map(|code| code.as_ref().into());
        QueryFault::Odd(answer.status, code)
    }

    /// True if DashScope answered, whatever it was.
    pub(super) const fn is_answered(&self) -> bool {
        matches!(self, QueryFault::Odd(..) | QueryFault::TooLarge)
    }

    /// True if a smaller page of a list may be answered.
    pub(super) fn is_of_page_size(&self) -> bool {
        match self {
            QueryFault::TooLarge => true,
            QueryFault::Odd(StatusCode::BAD_REQUEST, code) => {
                code.as_ref().is_none_or(|code| code.starts_with("InvalidParameter"))
            }
            QueryFault::Odd(..)
            | QueryFault::NoRoom
            | QueryFault::Late
            | QueryFault::Lost
            | QueryFault::Unsent => false,
        }
    }

    /// Tells the operator. The answer's body is not told: it may hold a tenant's data.
    pub(super) fn tell(&self, account: &str, asked: &str) {
        let (status, code, problem) = match self {
            QueryFault::Unsent => {
                tracing::warn!(
                    account,
                    asked,
                    "a query was not sent, as the gateway could open no connection"
                );
                return;
            }
            QueryFault::TooLarge => {
                tracing::error!(
                    account,
                    asked,
                    "an answer is too large to be held, and its beginning tells no state"
                );
                return;
            }
            QueryFault::Odd(status, code) => (Some(status.as_u16()), code.as_deref(), "it tells no state"),
            QueryFault::NoRoom => (None, None, "too many large answers at once"),
            QueryFault::Late => (None, None, "it did not end in time"),
            QueryFault::Lost => (None, None, "none came, or it broke off"),
        };
        tracing::warn!(
            account,
            asked,
            status,
            code,
            problem,
            "an answer of DashScope's task API is of no use"
        );
    }

    const fn kind(&self) -> usize {
        match self {
            QueryFault::Odd(..) => 0,
            QueryFault::TooLarge => 1,
            QueryFault::NoRoom => 2,
            QueryFault::Late => 3,
            QueryFault::Lost => 4,
            QueryFault::Unsent => 5,
        }
    }
}

impl From<ReadFault> for QueryFault {
    fn from(fault: ReadFault) -> Self {
        match fault {
            ReadFault::NoRoom => QueryFault::NoRoom,
            ReadFault::Late => QueryFault::Late,
            ReadFault::Lost => QueryFault::Lost,
        }
    }
}

/// The faults of one account that the operator was told of: of each kind one in a minute.
#[derive(Debug, Default)]
pub(super) struct ToldFaults([Option<Instant>; 6]);

impl ToldFaults {
    /// True if the operator is to be told of the fault now.
    pub(super) fn is_due(&mut self, fault: &QueryFault, now: Instant) -> bool {
        let told = &mut self.0[fault.kind()];
        let is_due = told.is_none_or(|at| now.saturating_duration_since(at) >= BETWEEN_LINES);
        if is_due {
            *told = Some(now);
        }
        is_due
    }
}

const BETWEEN_LINES: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use hyper::header::HeaderMap;

    use super::*;

    fn odd(status: StatusCode, body: &'static str) -> QueryFault {
        let body = Bytes::from_static(body.as_bytes());
        QueryFault::odd(&TaskAnswer { status, headers: HeaderMap::new(), body })
    }

    #[test]
    fn a_code_is_told_and_nothing_else_of_a_body() {
        let code = |body| {
            let QueryFault::Odd(_, code) = odd(StatusCode::FORBIDDEN, body) else { panic!("{body}") };
            code
        };
        assert_eq!(
            code(r#"{"code":"AccessDenied.Unpurchased"}"#).as_deref(),
            Some("AccessDenied.Unpurchased")
        );
        for body in ["<html>", "{}", r#"{"code":"sk-0123456789abcdef"}"#, r#"{"code":"a cat\n"}"#] {
            assert_eq!(code(body), None, "{body}");
        }
    }

    #[test]
    fn only_a_refusal_of_its_size_makes_a_page_smaller() {
        assert!(QueryFault::TooLarge.is_of_page_size());
        assert!(odd(StatusCode::BAD_REQUEST, r#"{"code":"InvalidParameter"}"#).is_of_page_size());
        assert!(!odd(StatusCode::BAD_REQUEST, r#"{"code":"Arrearage"}"#).is_of_page_size());
        assert!(!odd(StatusCode::METHOD_NOT_ALLOWED, "<html>").is_of_page_size());
    }

    #[test]
    fn each_kind_of_fault_is_told_once_a_minute() {
        let start = Instant::now();
        let mut told = ToldFaults::default();
        assert!(told.is_due(&QueryFault::Late, start) && told.is_due(&QueryFault::Lost, start));
        assert!(!told.is_due(&QueryFault::Late, start + Duration::from_secs(59)));
        assert!(told.is_due(&QueryFault::Late, start + Duration::from_secs(60)));
    }
}

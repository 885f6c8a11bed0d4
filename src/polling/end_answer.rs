//! The answer that told a task's end, as the store keeps it for polls at other replicas.

use std::str::FromStr;
use std::time::SystemTime;

use hyper::StatusCode;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};

use super::tracked_task::TaskAnswer;
use crate::dashscope::task::Status;
use crate::store::{EndAnswer, MOST_END_ANSWER_BYTES};

/// The answer in the store's form. An answer that is too large to be held, or to be kept, has no body there.
pub(super) fn kept(answer: Option<&TaskAnswer>, status: Status, at: SystemTime) -> EndAnswer {
    let mut headers = String::new();
    let fields = answer.iter().flat_map(|answer| &answer.headers);
    for (name, value) in fields {
        if let Ok(value) = value.to_str() {
            headers.extend([name.as_str(), ": ", value, "\n"]);
        }
    }
    let body = answer.map(|answer| answer.body.clone()).filter(|body| body.len() <= MOST_END_ANSWER_BYTES);
    EndAnswer { at, status, headers: headers.into(), body }
}

/// The answer as the hub holds it; `None` if polls are passed on.
pub(super) fn held(kept: EndAnswer) -> Option<TaskAnswer> {
    let mut headers = HeaderMap::new();
    for line in kept.headers.lines() {
        if let Some((name, value)) = line.split_once(": ")
            && let (Ok(name), Ok(value)) = (HeaderName::from_str(name), HeaderValue::from_str(value))
        {
            headers.append(name, value);
        }
    }
    Some(TaskAnswer { status: StatusCode::OK, headers, body: kept.body? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_comes_back_as_it_was() {
        let mut headers = HeaderMap::new();
        for (name, value) in [("content-type", "application/json"), ("x-a", "one"), ("x-a", "two: three")] {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let answer = TaskAnswer { status: StatusCode::OK, headers, body: "body".into() };
        let kept = kept(Some(&answer), Status::Succeeded, SystemTime::UNIX_EPOCH);
        assert_eq!(held(kept), Some(answer));
    }

    #[test]
    fn an_answer_that_is_too_large_is_passed_on() {
        let body = vec![b' '; MOST_END_ANSWER_BYTES + 1].into();
        let answer = TaskAnswer { status: StatusCode::OK, headers: HeaderMap::new(), body };
        for answer in [Some(&answer), None] {
            assert_eq!(held(kept(answer, Status::Failed, SystemTime::UNIX_EPOCH)), None);
        }
    }
}

//! In place of the stages that send: a query for a task is answered by the hub, which asks for all.

use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::Response;
use hyper::header::{AGE, HeaderMap, HeaderName, HeaderValue};

use super::Proxy;
use super::admit::Permit;
use super::exchange::Exchange;
use super::observe::{self, Observed};
use super::rejection::Rejection;
use super::route::Route;
use super::videos::respond as views;
use crate::dashscope::operation::Operation;
use crate::polling::poll::{HoldUntil, PollAnswer, PollHold};
use crate::polling::{TaskAnswer, TrackedTask};
use crate::telemetry::metrics::{Outcome, PollServed};
use crate::telemetry::stopwatch::Awaited;

/// Needs the permit that nothing is asked without.
///
/// # Errors
/// `UpstreamUnreachable` if the task's account is not configured any more, or nothing is known to tell.
pub(super) async fn poll(
    proxy: &Proxy,
    permit: &Permit,
    route: &Route,
    headers: &HeaderMap,
    watch: &Arc<TrackedTask>,
    exchange: &Rc<Exchange>,
) -> Result<Response<Observed>, Rejection> {
    let asked = wait(headers);
    let hold = match asked {
        Some(longest) => PollHold { longest, until: HoldUntil::Change },
        None => PollHold { longest: route.hold, until: HoldUntil::End },
    };
    let polled = news(proxy, permit, watch, Some(hold), exchange).await?;
    let mut response = match &route.unified {
        None => native(&polled.answer),
        Some(_) if route.operation == Operation::TaskView => {
            views::task(&proxy.hub, watch.id(), &polled.answer)?
        }
        Some(unified) => views::video(&proxy.hub, watch.id(), unified.statuses, &polled.answer)?,
    };
    let fields = response.headers_mut();
    proxy.recorder.metrics.count_poll(polled.served);
    if polled.served != PollServed::Upstream {
        // How old it is (RFC 9111, 5.1).
        fields.insert(AGE, HeaderValue::from(polled.age.as_secs()));
    }
    if let Some(longest) = asked {
        let applied = HeaderValue::try_from(format!("wait={}", longest.as_secs()));
        fields.extend(applied.map(|applied| (PREFERENCE_APPLIED, applied)));
    }
    exchange.outcome.set(Outcome::Answered);
    Ok(observe::whole(response, exchange))
}

/// What is to be said of the task.
///
/// # Errors
/// As above.
pub(super) async fn news(
    proxy: &Proxy,
    permit: &Permit,
    watch: &Arc<TrackedTask>,
    hold: Option<PollHold>,
    exchange: &Rc<Exchange>,
) -> Result<PollAnswer, Rejection> {
    let account = permit.caller().directory().account_index(watch.account());
    exchange.account.set(account);
    exchange.note_task(watch.id());
    if !watch.is_final() && account.is_none() {
        return Err(Rejection::UpstreamUnreachable);
    }
    let polling = pin!(async { Ok(proxy.hub.poll(watch, hold, Instant::now()).await) });
    let _held = exchange.stopwatch.start_waiting(Awaited::Turn);
    exchange.unless_revoked(polling).await?.ok_or(Rejection::UpstreamUnreachable)
}

fn native(answer: &TaskAnswer) -> Response<Bytes> {
    let mut response = Response::new(answer.body.clone());
    *response.status_mut() = answer.status;
    *response.headers_mut() = answer.headers.clone();
    response
}

/// How long the client is ready to wait, by `Prefer: wait=N` (RFC 7240, 4.3), a minute at most.
fn wait(headers: &HeaderMap) -> Option<Duration> {
    let lines = headers.get_all(PREFER).iter().filter_map(|line| line.to_str().ok());
    let mut preferences = lines.flat_map(|line| line.split(','));
    // Only the first of several counts (RFC 7240, 2).
    preferences.find_map(|preference| {
        let plain = preference.split(';').next()?;
        let (name, value) = plain.split_once('=')?;
        let seconds = value.trim().trim_matches('"').parse::<u64>().ok()?;
        let is_wait = name.trim().eq_ignore_ascii_case("wait");
        is_wait.then(|| Duration::from_secs(seconds).min(LONGEST_WAIT))
    })
}

const PREFER: HeaderName = HeaderName::from_static("prefer");
const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");
const LONGEST_WAIT: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_read_wherever_it_stands() {
        for (lines, seconds) in [
            (&["wait=10"][..], Some(10)),
            (&["respond-async, wait=10"], Some(10)),
            (&["respond-async", "Wait = \"7\"; x=1"], Some(7)),
            (&["wait=10, wait=20"], Some(10)),
            (&["wait=3600"], Some(60)),
            (&["wait=0"], Some(0)),
            (&["wait"], None),
            (&["wait=-1"], None),
            (&["respond-async"], None),
            (&[], None),
        ] {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(PREFER, HeaderValue::from_static(line));
            }
            assert_eq!(wait(&headers), seconds.map(Duration::from_secs), "{lines:?}");
        }
    }
}

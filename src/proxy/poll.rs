//! A query for a task, answered by the poll hub: it asks DashScope once for all clients that wait.

use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use hyper::Response;
use hyper::header::{AGE, HeaderMap, HeaderName, HeaderValue};

use super::exchange::Exchange;
use super::observe::{self, Observed};
use super::passage::Destination;
use super::rejection::Rejection;
use super::worker::Proxy;
use crate::dashscope::headers::COST;
use crate::polling::poll::{HoldUntil, PollAnswer, PollHold};
use crate::polling::{TaskAnswer, TrackedTask};
use crate::store::TaskRecord;
use crate::telemetry::metrics::{Outcome, PollServed};
use crate::telemetry::stopwatch::Awaited;
use crate::tenant::directory::Directory;

/// Answers a query from the poll hub; `show` turns the hub's answer into the client's. A running task is waited for as
/// long as the client asked for, else for the mount's `hold`.
///
/// # Errors
/// The errors of [`query`] and of `show`.
pub(super) async fn poll(
    proxy: &Proxy,
    headers: &HeaderMap,
    task: &Arc<TrackedTask>,
    exchange: &Rc<Exchange>,
    show: &dyn Fn(&TaskAnswer) -> Result<Response<Bytes>, Rejection>,
) -> Result<Response<Observed>, Rejection> {
    let asked = wait(headers);
    let hold = match asked {
        Some(longest) => PollHold { longest, until: HoldUntil::Change },
        None => {
            let mount = exchange.route().mount(exchange.directory());
            PollHold { longest: mount.hold, until: HoldUntil::End }
        }
    };
    let polled = query(proxy, task, Some(hold), exchange).await?;
    let mut response = show(&polled.answer)?;
    let fields = response.headers_mut();
    if let Some(cost) = polled.answer.headers.get(COST) {
        fields.insert(COST, cost.clone());
    }
    proxy.recorder.metrics.count_poll(polled.served);
    exchange.served.set(Some(polled.served));
    if polled.served != PollServed::Upstream {
        // Age of the answer (RFC 9111, 5.1).
        fields.insert(AGE, HeaderValue::from(polled.age.as_secs()));
    }
    if let Some(longest) = asked {
        let applied = HeaderValue::try_from(format!("wait={}", longest.as_secs()));
        fields.extend(applied.map(|applied| (PREFERENCE_APPLIED, applied)));
    }
    exchange.outcome.set(Outcome::Answered);
    Ok(observe::whole(response, exchange))
}

/// Asks the poll hub for the task.
///
/// # Errors
/// `UpstreamUnreachable` if the task's account is not configured any more, or nothing is known of the task;
/// `AnswerTooLarge` if the task has ended, and the hub does not hold its answer.
pub(super) async fn query(
    proxy: &Proxy,
    task: &Arc<TrackedTask>,
    hold: Option<PollHold>,
    exchange: &Rc<Exchange>,
) -> Result<PollAnswer, Rejection> {
    let directory = exchange.directory();
    let account = directory.account_index(task.account());
    exchange.account.set(account);
    exchange.note_task(task.id());
    if !task.is_final() && account.is_none() {
        return Err(Rejection::UpstreamUnreachable);
    }
    let max_age = directory.settings.poll.max_age;
    let polling = pin!(async { Ok(proxy.shared.hub.poll(task, hold, max_age, Instant::now()).await) });
    let _held = exchange.stopwatch.start_waiting(Awaited::Turn);
    exchange.unless_revoked(polling).await?.ok_or_else(|| match task.is_passed() {
        true => Rejection::AnswerTooLarge,
        false => Rejection::UpstreamUnreachable,
    })
}

/// The destination of a poll that the hub can't answer: DashScope's answer is too large to be held, and is passed on.
///
/// # Errors
/// `UpstreamUnreachable` if the task's account is not configured any more.
pub(super) fn passed(
    proxy: &Proxy,
    directory: &Directory,
    task: &TrackedTask,
) -> Result<Destination, Rejection> {
    let account = directory.account_index(task.account()).ok_or(Rejection::UpstreamUnreachable)?;
    proxy.recorder.metrics.count_poll(PollServed::Upstream);
    Ok(Destination::Task(account))
}

/// Asks the poll hub for the tasks of a page that have not ended: a list is a poll of what is on its page. The records
/// then have the news. A task whose account is not configured any more keeps its last status.
///
/// # Errors
/// The fault of a key that is revoked meanwhile.
pub(super) async fn refresh(
    proxy: &Proxy,
    unfinished: &[Arc<TaskRecord>],
    exchange: &Rc<Exchange>,
) -> Result<(), Rejection> {
    let (hub, directory, arrived) = (&proxy.shared.hub, exchange.directory(), Instant::now());
    let tracked = |task: &Arc<TaskRecord>| {
        directory.account_index(&task.facts.account)?;
        hub.tracked_task(&task.id(), &task.facts.tenant, arrived, SystemTime::now())
    };
    let tasks: Vec<Arc<TrackedTask>> = unfinished.iter().filter_map(tracked).collect();
    let max_age = directory.settings.poll.max_age;
    let polling = pin!(async {
        hub.poll_page(&tasks, max_age, arrived).await;
        Ok(())
    });
    let _held = exchange.stopwatch.start_waiting(Awaited::Turn);
    exchange.unless_revoked(polling).await
}

/// The hub's answer as DashScope gave it.
pub(super) fn native(answer: &TaskAnswer) -> Response<Bytes> {
    let mut response = Response::new(answer.body.clone());
    *response.status_mut() = answer.status;
    *response.headers_mut() = answer.headers.clone();
    response
}

/// Time that the client is ready to wait, by `Prefer: wait=N` (RFC 7240, 4.3), a minute at most.
fn wait(headers: &HeaderMap) -> Option<Duration> {
    let lines = headers.get_all(PREFER).iter().filter_map(|line| line.to_str().ok());
    let mut preferences = lines.flat_map(|line| line.split(','));
    // The first of several preferences counts (RFC 7240, 2).
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

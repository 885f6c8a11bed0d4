//! Sending: from the choice of an account to the head of its answer. A request that was surely not accepted may go to
//! another account at once; one that may have been accepted is never sent again.

mod choose;
mod classify;
mod forward;
mod pace;
mod reserve;
mod rewrite;

use std::convert::Infallible;
use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::time::{Duration, Instant};

use hyper::Response;
use tokio::sync::oneshot;

use self::choose::Choice;
use self::classify::Classified;
use self::forward::NoAnswer;
use self::pace::{NoAttempt, SubmitWait};
pub(super) use self::reserve::hold_for_call;
use self::rewrite::Outbound;
use crate::account::Account;
use crate::account::choice::{AccountFeedback, TriedAccounts};
use crate::dashscope::operation::Operation;
use crate::dashscope::refusal::{self, RefusalCause};
use crate::dashscope::usage;
use crate::proxy::exchange::Exchange;
use crate::proxy::exchange::spans::AttemptSpan;
use crate::proxy::meter;
use crate::proxy::passage::Passage;
use crate::proxy::rejection::Rejection;
use crate::proxy::resolve;
use crate::proxy::route::Route;
use crate::proxy::worker::Proxy;
use crate::telemetry::stopwatch::Awaited;
use crate::upstream::Download;

impl Proxy {
    /// Sends a passage and waits for the head of the answer; `exchange.account` then names the account. Until something
    /// is sent, a submit waits only as long as its client does. The wait ends when the exchange is revoked.
    ///
    /// The future is boxed: it is large, and answers that need no upstream must not carry its size in their own
    /// futures.
    pub(in crate::proxy) fn send(
        &self,
        passage: Box<Passage>,
        client: Option<oneshot::Receiver<Infallible>>,
    ) -> Pin<Box<impl Future<Output = Result<Response<Download>, Rejection>>>> {
        Box::pin(async move {
            let exchange = Rc::clone(&passage.exchange);
            exchange.unless_revoked(pin!(self.attempt(passage, client))).await
        })
    }

    async fn attempt(
        &self,
        passage: Box<Passage>,
        client: Option<oneshot::Receiver<Infallible>>,
    ) -> Result<Response<Download>, Rejection> {
        let Passage { exchange, native, destination, mut request, mut body, asked: _, webhook: _ } = *passage;
        let (permit, route) = (exchange.permit(), native.as_ref().unwrap_or(exchange.route()));
        let mut choice = Choice::new(permit, route, destination, &request, &mut body, &self.shared).await?;
        let pays = permit.tenant().billing.prices.is_some();
        exchange.note_known_model(if pays { choice.model_outside() } else { choice.known_model() });
        let needed = self.money_needed(permit, route, &choice, &mut body).await?;
        let mut submit_wait =
            client.map(|client| SubmitWait::new(permit, &request.headers, client, &exchange));
        let mut tried = TriedAccounts::default();
        let mut refused: Option<Refused> = None;
        let mut unreached = false;
        loop {
            exchange.leave_attempt();
            let (pick, start) = match self.next(&choice, permit, &tried, &mut submit_wait).await {
                Ok(next) => next,
                Err(NoAttempt::Refused(rejection)) => {
                    return self.last(refused, Some(rejection), &choice, Duration::ZERO);
                }
                Err(NoAttempt::AllOut(_)) if unreached && refused.is_none() => {
                    return Err(Rejection::UpstreamUnreachable);
                }
                Err(NoAttempt::AllOut(out)) => {
                    Box::pin(delay_next_query(&choice, &exchange)).await;
                    return self.last(refused, choice.refusal(out), &choice, out.0);
                }
            };
            exchange.judge_again(&self.shared.directory)?;
            self.reserve(needed.as_ref(), &exchange, pick.account).await?;
            let (progress, key, account) = (body.progress(), pick.key, pick.account);
            let submit = submit_wait.is_some().then(|| Rc::clone(&progress));
            exchange.go_to(&self.shared.hub, pick.index, start, submit);
            let copy = choice.has_more(account).then(|| request.clone());
            let mut outbound = rewrite::request(permit, route, *request, account, key, body)?;
            let span = begin_span(&exchange, &mut outbound);
            let waiting = exchange.stopwatch.start_waiting(Awaited::Upstream);
            let attempt = account.series.start_attempt(route.operation, Instant::now());
            // An error drops `pick`; then another request may probe the key or the account that `pick` was to probe.
            let mut response = match forward::forward(&self.upstream, outbound, permit.directory()).await {
                Ok(response) => response,
                Err(NoAnswer::Rejected(rejection)) => return Err(rejection),
                Err(NoAnswer::Unsent { body: unsent, is_local }) => {
                    if is_local {
                        pick.leave(&mut tried);
                    } else {
                        pick.unreached(&mut tried, Instant::now());
                    }
                    let elsewhere = copy.filter(|_| !choice.is_for_task());
                    request = elsewhere.ok_or(Rejection::UpstreamUnreachable)?;
                    (body, unreached) = (*unsent, true);
                    continue;
                }
            };
            let now = Instant::now();
            exchange.answered(now);
            attempt.answered(response.status(), now);
            if let Some(span) = span {
                span.answered(response.status());
            }
            drop(waiting);
            if !forward::is_readable(&response, route) {
                return Err(Rejection::UpstreamLost);
            }
            rewrite::response(&mut response, key);
            let Classified { cause, takes_key, code } = classify::classify(&mut response).await;
            exchange.note_upstream_code(account, route.operation, code);
            if let Some(RefusalCause::Throttled(kind)) = cause {
                account.series.count_throttled(kind);
                let known = choice.model.take().filter(|model| !model.is_empty());
                choice.model = known.or_else(|| progress.model());
            }
            let answer = AccountFeedback {
                is_success: response.status().as_u16() < 300,
                takes_key,
                cause,
                retry_after: refusal::retry_after(response.headers()),
                model: choice.known_model().filter(|_| choice.counts_by_model()),
            };
            pick.answered(&answer, &mut tried, Instant::now());
            let is_hidden = cause.is_some_and(|cause| account.hides(cause));
            if let Some(cause) = cause
                && let Some(copy) = copy
                && may_repeat(cause, &choice)
                && let Some(again) = progress.again()
            {
                refused = Some(Refused { answer: (!is_hidden).then(|| Box::new(response)), cause });
                (request, body) = (copy, again);
                continue;
            }
            exchange.note_model(if pays { choice.model_outside() } else { choice.known_model() });
            if !permit.submits() {
                // Only streams often tell no use, or break off before they do.
                if meter::is_stream(response.headers()) {
                    exchange.frame_bytes.set(usage::frame_bytes(&progress.beginning(usize::MAX)));
                }
                progress.forget();
            }
            return self.accept(response, is_hidden, &choice, route, account, &exchange).await;
        }
    }

    /// Takes an answer that no other attempt follows.
    async fn accept(
        &self,
        mut response: Response<Download>,
        is_hidden: bool,
        choice: &Choice<'_>,
        route: &Route,
        account: &Account,
        exchange: &Exchange,
    ) -> Result<Response<Download>, Rejection> {
        if is_hidden {
            Box::pin(delay_next_query(choice, exchange)).await;
            return Err(Rejection::AccountFault);
        }
        if route.operation == Operation::UploadPolicy && response.status().is_success() {
            let (permit, model) = (exchange.permit(), choice.model.as_deref().unwrap_or_default());
            Box::pin(resolve::note(&self.shared, permit, model, &account.name, &mut response)).await?;
        }
        choice.tell_when(&mut response, &self.shared.accounts, Instant::now());
        Ok(response)
    }

    /// The answer if no attempt is left: the last one of the upstream if it tells the client what it needs to know, else
    /// a refusal of the gateway.
    fn last(
        &self,
        refused: Option<Refused>,
        refusal: Option<Rejection>,
        choice: &Choice<'_>,
        wait: Duration,
    ) -> Result<Response<Download>, Rejection> {
        let Some(Refused { answer, cause }) = refused else {
            return Err(refusal.unwrap_or(Rejection::AccountsOut(wait)));
        };
        let is_throttled = matches!(cause, RefusalCause::Throttled(_)) && !choice.is_for_task();
        if let Some(rejection) = refusal.filter(|_| !is_throttled) {
            return Err(rejection);
        }
        let mut answer = *answer.ok_or(Rejection::AccountFault)?;
        choice.tell_when(&mut answer, &self.shared.accounts, Instant::now());
        Ok(answer)
    }
}

/// Begins the attempt's span, if traces are on. The upstream gets the span as the parent of its own if
/// `traces.propagate` is set.
fn begin_span<'e>(exchange: &'e Exchange, outbound: &mut Outbound<'_>) -> Option<AttemptSpan<'e>> {
    let span = exchange.begin_attempt()?;
    if let Some(parent) = span.traceparent().filter(|_| exchange.directory().settings.traces.propagate) {
        outbound.continue_trace(parent, span.continues_callers());
    }
    Some(span)
}

/// Delays the refusal of a call on a task: the Java SDK asks again without a pause.
async fn delay_next_query(choice: &Choice<'_>, exchange: &Exchange) {
    if choice.is_for_task() {
        let _turn = exchange.stopwatch.start_waiting(Awaited::Turn);
        tokio::time::sleep(BEFORE_NEXT_QUERY).await;
    }
}

/// True if a refusal for this cause may be answered by another attempt. A call on a task has no other account, but
/// maybe another key; a synchronous call is repeated only if a key of ours is invalid.
fn may_repeat(cause: RefusalCause, choice: &Choice<'_>) -> bool {
    cause == RefusalCause::InvalidKey || choice.repeats && !choice.is_for_task()
}

/// An answer that was followed by another attempt.
struct Refused {
    /// `None` if clients must not see it.
    answer: Option<Box<Response<Download>>>,
    cause: RefusalCause,
}

const BEFORE_NEXT_QUERY: Duration = Duration::from_secs(1);

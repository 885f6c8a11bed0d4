//! One call of the querier, with whichever key of the account works.

use std::time::{Duration, Instant, SystemTime};

use hyper::header::{
    ACCEPT, AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, DATE, HOST, HeaderMap, HeaderValue, USER_AGENT,
};
use hyper::{Request, Response, Uri};

use super::Querier;
use crate::account::choice::{self, ChoiceNeeds, TriedAccounts};
use crate::account::{Account, UpstreamKey};
use crate::config::Timeouts;
use crate::dashscope::headers::{is_withheld_from_client, strip};
use crate::dashscope::operation::Operation;
use crate::dashscope::refusal::{self, RefusalCause};
use crate::dashscope::time;
use crate::polling::CallPermit;
use crate::polling::hub::QueryOutcome;
use crate::polling::orphan::Skew;
use crate::polling::{QueryFault, TaskAnswer, TaskEndpoint};
use crate::upstream::{self, AnswerText, Download, ReadBounds, SendFault, Target, Upload};

/// An answer in the form that a client may see.
pub(super) struct CallAnswer {
    pub answer: TaskAnswer,
    /// False if the answer's body is only the beginning of one that is too large to be held.
    pub is_whole: bool,
}

impl Querier {
    /// Asks, and reads the answer.
    ///
    /// # Errors
    /// The outcome of the query, where no usable answer came.
    pub(super) async fn call(
        &self,
        target: &str,
        most_bytes: usize,
        mut permit: CallPermit,
    ) -> Result<CallAnswer, QueryOutcome> {
        let mut tried = TriedAccounts::default();
        // The snapshot is kept for the whole call, so that its keys stay the same.
        let directory = self.directory.load_full();
        let found = directory.account_index(permit.poller.account());
        let index = found.ok_or(QueryOutcome::Unreachable)?;
        loop {
            let pick = choice::choose_key(&directory.accounts, index, &NEED, &tried, Instant::now());
            let pick = pick.map_err(|_| QueryOutcome::Unreachable)?;
            let (began, asked) = (Instant::now(), SystemTime::now());
            let attempt = pick.account.series.start_attempt(operation(permit.endpoint), began);
            let timeouts = directory.settings.server.timeouts;
            let timeouts = Timeouts { upstream: timeouts.upstream.min(PATIENCE), ..timeouts };
            let response = match self.send(pick.account, pick.key, target, &timeouts).await {
                Ok(response) => {
                    attempt.answered(response.status(), Instant::now());
                    note_clock_skew(pick.account, response.headers(), asked);
                    response
                }
                Err(QueryOutcome::Unreachable) => {
                    pick.unreached(&mut tried, Instant::now());
                    return Err(QueryOutcome::Unreachable);
                }
                Err(outcome) => return Err(outcome),
            };
            let deadline = (began + timeouts.upstream).into();
            let bounds = ReadBounds { most_bytes, budget: &self.answer_budget, deadline };
            let read = read(response, pick.key, &bounds).await.map_err(QueryOutcome::Failed)?;
            let answer = &read.answer;
            let (status, body) = (answer.status.as_u16(), Some(&*answer.body));
            let cause = refusal::cause(status, body);
            let retry_after = refusal::retry_after(&answer.headers);
            let feedback = choice::AccountFeedback {
                is_success: answer.status.is_success(),
                takes_key: refusal::takes_key(status, body),
                cause,
                retry_after,
                // The limits of queries are not a model's.
                model: None,
            };
            if !answer.status.is_success()
                && let Some(code) = refusal::code(&answer.body)
            {
                pick.account.series.count_error(operation(permit.endpoint), &code);
            }
            if let Some(RefusalCause::Throttled(kind)) = cause {
                pick.account.series.count_throttled(kind);
            }
            pick.answered(&feedback, &mut tried, Instant::now());
            match cause {
                None => return Ok(read),
                Some(RefusalCause::InvalidKey) => {
                    permit = permit.renew().await.ok_or(QueryOutcome::Throttled(None))?;
                }
                Some(RefusalCause::Throttled(_)) => return Err(QueryOutcome::Throttled(retry_after)),
                Some(RefusalCause::Arrearage | RefusalCause::Unreachable) => {
                    return Err(QueryOutcome::Failed(QueryFault::odd(answer)));
                }
            }
        }
    }

    async fn send(
        &self,
        account: &Account,
        key: &UpstreamKey,
        target: &str,
        timeouts: &Timeouts,
    ) -> Result<Response<Download>, QueryOutcome> {
        let uri = format!("{}{target}", account.address.base_url.path)
            .parse::<Uri>()
            .map_err(|_| QueryOutcome::Failed(QueryFault::Lost))?;
        loop {
            let mut request = Box::new(Request::new(Upload::empty()));
            *request.uri_mut() = uri.clone();
            let headers = request.headers_mut();
            headers.insert(HOST, account.address.host.clone());
            headers.insert(AUTHORIZATION, key.bearer().clone());
            headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
            headers.insert(USER_AGENT, HeaderValue::from_static(OURSELVES));
            match self.upstream.send(Target::Account(account), request, timeouts).await {
                Ok(response) => return Ok(response),
                // The upstream closed the connection while it was idle; a query may be asked twice.
                Err(SendFault::Lost { is_reused: true, .. }) => {}
                Err(SendFault::NotConnected { fault, .. }) if fault.is_local() => {
                    self.upstream.report_local_fault(&account.address.host, &fault);
                    return Err(QueryOutcome::Failed(QueryFault::Unsent));
                }
                Err(SendFault::NotConnected { fault, .. }) => {
                    tracing::debug!(
                        account = &*account.name,
                        problem = %fault,
                        "the state of tasks can't be asked for"
                    );
                    return Err(QueryOutcome::Unreachable);
                }
                Err(SendFault::NotWritten(_) | SendFault::Lost { .. }) => {
                    return Err(QueryOutcome::Failed(QueryFault::Lost));
                }
                Err(SendFault::TimedOut) => return Err(QueryOutcome::Failed(QueryFault::Late)),
            }
        }
    }
}

/// Compares the clocks by the date of an answer that has just come to a question of `asked`.
fn note_clock_skew(account: &Account, headers: &HeaderMap, asked: SystemTime) {
    let date = headers.get(DATE).and_then(|date| time::read_http(date.to_str().ok()?));
    let Some(date) = date else { return };
    let skew = Skew::measured(date, asked, SystemTime::now()).milliseconds();
    let news = account.series.note_clock_skew(skew, MOST_SKEW_MILLISECONDS);
    let (account, seconds) = (&*account.name, skew / 1_000);
    match news {
        Some(true) => tracing::warn!(
            account,
            seconds,
            "the clock of this host and that of DashScope differ: is the time of this host synchronised?"
        ),
        Some(false) => {
            tracing::info!(account, seconds, "the clock of this host and that of DashScope agree again");
        }
        None => {}
    }
}

fn operation(endpoint: TaskEndpoint) -> Operation {
    match endpoint {
        TaskEndpoint::Query => Operation::TaskGet,
        TaskEndpoint::List => Operation::TaskList,
        TaskEndpoint::Cancel => Operation::TaskCancel,
    }
}

/// Reads the answer, without its content coding and without the fields that are not for clients.
async fn read(
    mut response: Response<Download>,
    key: &UpstreamKey,
    bounds: &ReadBounds<'_>,
) -> Result<CallAnswer, QueryFault> {
    let (body, is_whole) = match upstream::read_whole(&mut response, bounds).await? {
        AnswerText::Whole(body) => (body, true),
        AnswerText::Beginning(body) => (body, false),
    };
    let (parts, _) = response.into_parts();
    let mut headers = parts.headers;
    strip(&mut headers, is_withheld_from_client, |value| key.secret().stands_in(value));
    headers.remove(CONTENT_LENGTH);
    headers.remove(CONTENT_ENCODING);
    Ok(CallAnswer { answer: TaskAnswer { status: parts.status, headers, body }, is_whole })
}

const NEED: ChoiceNeeds<'static> = ChoiceNeeds { model: None, proves_recovery: false, is_repeatable: true };
/// Longest time for an answer, which DashScope gives within some milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);
/// Difference of clocks from which it is told, and from which the alert DashgateClockWrong fires.
const MOST_SKEW_MILLISECONDS: i64 = 30_000;
const OURSELVES: &str = concat!("dashgate/", env!("CARGO_PKG_VERSION"));

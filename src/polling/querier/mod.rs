//! The querier: asks DashScope for the status of tasks on behalf of all clients. One thread, which spends each
//! account's budget as the poll hub decides.

mod call;
mod orphans;
mod replicas;
mod supervise;

use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use hyper::StatusCode;
use hyper::header::HeaderValue;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use self::call::CallAnswer;
use self::supervise::{caught, restarted};
use crate::dashscope::headers::COST;
use crate::dashscope::task_list::{self, TaskPage};
use crate::dashscope::task_report::TaskReport;
use crate::dashscope::task_state;
use crate::polling::end_line::EndLine;
use crate::polling::hub::{PollHub, QueryOutcome};
use crate::polling::{
    AccountPoller, CallPermit, NextCall, PageRequest, QueryFault, TaskEndpoint, TrackedTask,
};
use crate::polling::{end_report, settlement};
use crate::store::{CommitFault, EndReport, Entry, Outcome};
use crate::tenant::directory::Directory;
use crate::upstream::{BufferBudget, Upstream};

/// The querier of one thread, with connections of its own.
pub struct Querier {
    hub: Arc<PollHub>,
    directory: Arc<ArcSwap<Directory>>,
    upstream: Upstream,
    answer_budget: Arc<BufferBudget>,
}

impl Querier {
    pub fn new(hub: Arc<PollHub>, directory: Arc<ArcSwap<Directory>>) -> Self {
        let answer_budget = BufferBudget::new(ANSWERS_BYTES);
        let upstream = Upstream::new(Arc::clone(&directory.load().settings.proxies));
        Self { hub, directory, upstream, answer_budget }
    }

    /// Serves every poller that is opened, until `stop`. `beat` is called twice a second, as long as the thread turns.
    pub async fn work(
        self,
        mut opened: mpsc::UnboundedReceiver<Arc<AccountPoller>>,
        stop: CancellationToken,
        beat: impl Fn(),
    ) {
        let querier = Rc::new(self);
        // Where there are no other replicas, nothing comes.
        let (_none, nothing) = mpsc::unbounded_channel();
        let mut fetches = querier.hub.take_fetches().unwrap_or(nothing);
        let mut sweep = interval(SWEEP);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = sweep.tick() => {
                    beat();
                    querier.upstream.sweep();
                    querier.open_pollers();
                }
                Some(poller) = opened.recv() => querier.serve(&poller),
                Some(task) = fetches.recv() => {
                    tokio::task::spawn_local(Rc::clone(&querier).fetch(task));
                }
            }
        }
    }

    fn serve(self: &Rc<Self>, poller: &Arc<AccountPoller>) {
        self.spawn(poller, "queries", Self::query);
        self.spawn(poller, "lists", Self::list);
        self.spawn(poller, "rates", Self::tick);
        self.spawn(poller, "orphans", Self::search);
        if self.hub.task_index().shared_store().is_some() {
            self.spawn(poller, "lease", Self::lead);
            self.spawn(poller, "gossip", Self::gossip);
        }
    }

    /// Starts one part of the work for a poller. It ends with the thread.
    fn spawn<W: Future<Output = Infallible> + 'static>(
        self: &Rc<Self>,
        poller: &Arc<AccountPoller>,
        part: &'static str,
        work: impl Fn(Rc<Self>, Arc<AccountPoller>) -> W + 'static,
    ) {
        let (querier, poller) = (Rc::clone(self), Arc::clone(poller));
        tokio::task::spawn_local(async move {
            restarted(poller.account(), part, || work(Rc::clone(&querier), Arc::clone(&poller))).await
        });
    }

    /// Once a second: takes over the configured rates, and chooses between queries and lists. Once in a while: drops what
    /// can't come to its end.
    async fn tick(self: Rc<Self>, poller: Arc<AccountPoller>) -> Infallible {
        let mut second = interval(Duration::from_secs(1));
        second.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut next_drop = Instant::now() + DROP_PERIOD;
        loop {
            second.tick().await;
            let directory = self.directory.load();
            let index = directory.account_index(poller.account());
            poller.configure(index.map(|index| directory.accounts[index].rates()));
            let now = Instant::now();
            if now >= next_drop {
                next_drop = now + DROP_PERIOD;
                self.hub.drop_lost_tasks(&poller, now);
            }
            poller.choose_mode(now);
        }
    }

    async fn query(self: Rc<Self>, poller: Arc<AccountPoller>) -> Infallible {
        loop {
            let directory = self.directory.load();
            let max_age = directory.settings.poll.max_age;
            let next = poller.next_query(max_age, |tenant| directory.weight_of(tenant), Instant::now());
            drop(directory);
            match next {
                NextCall::Ask(task, number) => {
                    let permit = CallPermit::new(&poller, TaskEndpoint::Query, number);
                    tokio::task::spawn_local(Rc::clone(&self).query_caught(task, permit));
                }
                NextCall::At(time) => tokio::select! {
                    () = sleep_until(time.into()) => {}
                    () = poller.query_news() => {}
                },
                NextCall::Nothing => poller.query_news().await,
            }
        }
    }

    /// Queries a task. After a panic the task is put back: else it would be in hand for ever.
    async fn query_caught(self: Rc<Self>, task: Arc<TrackedTask>, permit: CallPermit) {
        let asked = Instant::now();
        let query = Rc::clone(&self).query_one(Arc::clone(&task), permit);
        if caught(task.account(), "a query", query).await.is_none() {
            self.hub.take_outcome(
                &task,
                QueryOutcome::Failed(QueryFault::Lost),
                asked,
                Instant::now(),
                SystemTime::now(),
            );
        }
    }

    async fn query_one(self: Rc<Self>, task: Arc<TrackedTask>, permit: CallPermit) {
        let asked = Instant::now();
        let path = format!("{TASKS}/{}", utf8_percent_encode(&task.id(), UNRESERVED));
        let answer = self.call(&path, MOST_ANSWER_BYTES, permit).await;
        let mut outcome = answer.map_or_else(|outcome| outcome, |answer| told(&task, answer));
        let date = self.hub.task_index().now();
        self.settle(&task, &mut outcome, date).await;
        self.hub.take_outcome(&task, outcome, asked, Instant::now(), date);
    }

    /// Settles a task whose end was told, before anybody learns of the end. Where the store does not answer in time, the
    /// end is told all the same: the writer goes on trying, and after a crash the task is still under way.
    async fn settle(&self, task: &TrackedTask, outcome: &mut QueryOutcome, now: SystemTime) {
        let QueryOutcome::Known(named, answer) = outcome else { return };
        let entry = settlement::entry(&task.record, named, answer.as_ref(), task.is_forgotten(now), now);
        let directory = self.directory.load_full();
        let amount = entry.as_ref().and_then(|entry| entry.charge.amount);
        let cost = amount.and_then(|amount| {
            HeaderValue::try_from(format!("{amount} {}", directory.settings.usage.currency)).ok()
        });
        self.keep_end(task, named, answer.as_ref(), cost.as_ref(), now).await;
        let Some(entry) = entry else { return };
        let endpoints = directory.tenant(&entry.tenant).map(|tenant| &*tenant.webhooks.endpoints);
        let endpoints = endpoints.unwrap_or_default();
        let is_read = EndLine::needs_report(&entry) || !endpoints.is_empty();
        let read = answer.as_ref().filter(|_| is_read).and_then(|answer| TaskReport::read(&answer.body));
        let line = EndLine::new(&entry, answer.as_ref(), read.as_ref());
        let report = end_report::report(answer.as_ref(), read, endpoints).map(Arc::new);
        let settled = self.hub.task_index().settle(Arc::clone(&entry), report.clone()).await;
        if is_kept(&settled) {
            self.directory.load().count_use(&entry);
            line.tell(&entry, &self.directory.load());
        }
        match settled {
            Ok(Outcome::Made) => {
                if let Some(answer) = answer {
                    answer.headers.extend(cost.map(|cost| (COST, cost)));
                }
            }
            Ok(_) => {}
            Err(fault) => {
                tracing::error!(task_id = &*task.id(), tenant = &*entry.tenant, %fault, "the end of a task is not recorded yet");
                if let CommitFault::NotMade(_) = fault {
                    self.settle_later(entry, report, line);
                }
            }
        }
    }

    /// Tries again to settle a task, for which the store had no room, until it has.
    fn settle_later(&self, entry: Arc<Entry>, report: Option<Arc<EndReport>>, line: EndLine) {
        let (hub, directory) = (Arc::clone(&self.hub), Arc::clone(&self.directory));
        tokio::task::spawn_local(async move {
            loop {
                sleep(AFTER_FULL_STORE).await;
                let settled = hub.task_index().settle(Arc::clone(&entry), report.clone()).await;
                if is_kept(&settled) {
                    directory.load().count_use(&entry);
                    line.tell(&entry, &directory.load());
                }
                if !matches!(settled, Err(CommitFault::NotMade(_))) {
                    return;
                }
            }
        });
    }

    async fn list(self: Rc<Self>, poller: Arc<AccountPoller>) -> Infallible {
        loop {
            let max_age = self.directory.load().settings.poll.max_age;
            match poller.next_page(max_age, Instant::now()) {
                NextCall::Ask(page, number) => {
                    let permit = CallPermit::new(&poller, TaskEndpoint::List, number);
                    tokio::task::spawn_local(Rc::clone(&self).list_caught(Arc::clone(&poller), page, permit));
                }
                NextCall::At(time) => tokio::select! {
                    () = sleep_until(time.into()) => {}
                    () = poller.list_news() => {}
                },
                NextCall::Nothing => poller.list_news().await,
            }
        }
    }

    /// Asks for a page. After a panic it counts as failed: else its scan would wait for it for ever.
    async fn list_caught(self: Rc<Self>, poller: Arc<AccountPoller>, page: PageRequest, permit: CallPermit) {
        let listing = Rc::clone(&self).list_one(Arc::clone(&poller), page, permit);
        if caught(poller.account(), "a list", listing).await.is_none() {
            self.hub.page_failed(&poller, page, &QueryOutcome::Failed(QueryFault::Lost), Instant::now());
        }
    }

    async fn list_one(self: Rc<Self>, poller: Arc<AccountPoller>, page: PageRequest, permit: CallPermit) {
        let asked = Instant::now();
        let query = task_list::query(page.status, page.number, page.size);
        let outcome = match self.call(&format!("{TASKS}?{query}"), MOST_PAGE_BYTES, permit).await {
            Ok(CallAnswer { is_whole: false, .. }) => QueryOutcome::Failed(QueryFault::TooLarge),
            Ok(CallAnswer { answer, .. }) => match TaskPage::read(&answer.body) {
                Some(listed)
                    if answer.status == StatusCode::OK && listed.is_plausible(page.number, page.size) =>
                {
                    return self.hub.take_page(&poller, page, &listed, asked, Instant::now());
                }
                Some(_) | None => QueryOutcome::Failed(QueryFault::odd(&answer)),
            },
            Err(outcome) => outcome,
        };
        self.hub.page_failed(&poller, page, &outcome, Instant::now());
    }
}

/// True if the settlement is in the ledger by this try, or on its way to it: the writer goes on with what it has taken.
fn is_kept(settled: &Result<Outcome, CommitFault>) -> bool {
    match settled {
        Ok(Outcome::Made) | Err(CommitFault::Unclear(_)) => true,
        Ok(
            Outcome::NotMade
            | Outcome::Earlier(_)
            | Outcome::Exhausted(_)
            | Outcome::NoSlot(_)
            | Outcome::Leased(_),
        )
        | Err(CommitFault::NotMade(_)) => false,
    }
}

/// News of the task in an answer. Only a good answer that names this task and its status tells something.
fn told(task: &TrackedTask, CallAnswer { answer, is_whole }: CallAnswer) -> QueryOutcome {
    let read = if is_whole { task_state::read } else { task_state::read_beginning };
    let named =
        read(&answer.body).filter(|named| answer.status == StatusCode::OK && *named.task_id == *task.id());
    match named {
        Some(named) if !task.has_passed(named.status) => {
            QueryOutcome::Known(named, is_whole.then_some(answer))
        }
        None if !is_whole && answer.status == StatusCode::OK => QueryOutcome::Failed(QueryFault::TooLarge),
        Some(_) | None => QueryOutcome::Failed(QueryFault::odd(&answer)),
    }
}

const TASKS: &str = "/api/v1/tasks";
/// Characters that need no encoding in a path segment: the unreserved ones (RFC 3986, section 2.3).
const UNRESERVED: &percent_encoding::AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// Larger answers are not held: a transcription of a hundred files has 200 KB.
const MOST_ANSWER_BYTES: usize = 8 * 1024 * 1024;
/// A page of a hundred tasks has some 40 KiB.
const MOST_PAGE_BYTES: usize = 1024 * 1024;
/// Memory for all answers that are being read.
const ANSWERS_BYTES: u64 = 64 * 1024 * 1024;
/// Pause before a settlement is tried again for which the store had no room.
const AFTER_FULL_STORE: Duration = Duration::from_secs(5);
const SWEEP: Duration = Duration::from_millis(500);
/// Time between two looks at all tasks of an account.
const DROP_PERIOD: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use hyper::header::HeaderMap;

    use super::*;
    use crate::dashscope::task::{NamedTask, Status};
    use crate::polling::TaskAnswer;
    use crate::polling::signals::AccountSignals;
    use crate::store::TaskRecord;

    fn told(known: Status, status: StatusCode, body: &'static str, is_whole: bool) -> QueryOutcome {
        let now = Instant::now();
        let record = TaskRecord::sample("t", SystemTime::UNIX_EPOCH);
        record.status.set(known);
        let signals = Arc::new(AccountSignals::new(&"main".into(), now));
        let task = TrackedTask::new(record.into(), signals);
        let body = Bytes::from_static(body.as_bytes());
        let answer = TaskAnswer { status, headers: HeaderMap::new(), body };
        super::told(&task, CallAnswer { answer, is_whole })
    }

    #[test]
    fn only_a_good_answer_about_the_task_tells_something() {
        const RUNS: &str = r#"{"output":{"task_id":"t","task_status":"RUNNING"}}"#;
        const OTHER: &str = r#"{"output":{"task_id":"u","task_status":"RUNNING"}}"#;
        let (good, bad) = (StatusCode::OK, StatusCode::METHOD_NOT_ALLOWED);
        assert!(matches!(
            told(Status::Pending, good, RUNS, true),
            QueryOutcome::Known(NamedTask { status: Status::Running, .. }, Some(_))
        ));
        for (known, status, body) in [
            (Status::Pending, bad, RUNS),
            (Status::Pending, good, OTHER),
            (Status::Pending, good, "<html>"),
            // An end does not turn back.
            (Status::Succeeded, good, RUNS),
        ] {
            let outcome = told(known, status, body, true);
            assert!(matches!(outcome, QueryOutcome::Failed(QueryFault::Odd(..))), "{outcome:?}");
        }
    }

    #[test]
    fn the_beginning_of_a_large_answer_is_enough() {
        const BEGINNING: &str = r#"{"output":{"task_id":"t","task_status":"SUCCEEDED","results":[{"url":""#;
        const OTHER: &str = r#"{"output":{"results":[{"url":""#;
        let told = |status, body| told(Status::Pending, status, body, false);
        assert!(matches!(
            told(StatusCode::OK, BEGINNING),
            QueryOutcome::Known(NamedTask { status: Status::Succeeded, .. }, None)
        ));
        assert!(matches!(told(StatusCode::OK, OTHER), QueryOutcome::Failed(QueryFault::TooLarge)));
        let refused = told(StatusCode::NOT_FOUND, BEGINNING);
        assert!(matches!(refused, QueryOutcome::Failed(QueryFault::Odd(..))), "{refused:?}");
    }
}

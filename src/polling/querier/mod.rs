//! Asks DashScope how tasks are, on behalf of all who want to know: one thread, which spends each account's budget
//! as the poll hub decides.

mod call;

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use hyper::StatusCode;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::account::Account;
use crate::dashscope::{task, task_list};
use crate::polling::hub::{PollHub, QueryOutcome, TaskEnded};
use crate::polling::{AccountPoller, CallPermit, NextCall, PageRequest, TaskEndpoint, TrackedTask};
use crate::telemetry::metrics::Metrics;
use crate::tenant::directory::Directory;
use crate::upstream::Upstream;

/// One thread's worth: its connections are its own.
pub struct Querier {
    pub hub: Arc<PollHub>,
    pub directory: Arc<ArcSwap<Directory>>,
    pub metrics: Arc<Metrics>,
    pub upstream: Upstream,
}

impl Querier {
    /// Serves every poller that is opened, until it is told to stop.
    pub async fn work(
        self,
        mut opened: mpsc::UnboundedReceiver<Arc<AccountPoller>>,
        stop: CancellationToken,
    ) {
        let querier = Rc::new(self);
        let mut sweep = interval(SWEEP);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = sweep.tick() => querier.upstream.sweep(),
                Some(poller) = opened.recv() => {
                    tokio::task::spawn_local(Rc::clone(&querier).query(Arc::clone(&poller)));
                    tokio::task::spawn_local(Rc::clone(&querier).list(Arc::clone(&poller)));
                    tokio::task::spawn_local(Rc::clone(&querier).tidy(poller));
                }
            }
        }
    }

    /// Once a second: the rates of the current configuration, and whether lists pay.
    async fn tidy(self: Rc<Self>, poller: Arc<AccountPoller>) {
        let mut second = interval(Duration::from_secs(1));
        second.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            second.tick().await;
            self.hub.set_max_age(self.directory.load().settings.poll.max_age);
            if let Some(rates) = self.with(&poller, Account::rates) {
                poller.set_rates(rates);
            }
            poller.tidy(Instant::now());
        }
    }

    async fn query(self: Rc<Self>, poller: Arc<AccountPoller>) {
        loop {
            match poller.next_query(Instant::now()) {
                NextCall::Ask((watch, permit)) => {
                    tokio::task::spawn_local(Rc::clone(&self).query_one(Arc::clone(&poller), watch, permit));
                }
                NextCall::At(time) => tokio::select! {
                    () = sleep_until(time.into()) => {}
                    () = poller.query_news() => {}
                },
                NextCall::Nothing => poller.query_news().await,
            }
        }
    }

    async fn query_one(
        self: Rc<Self>,
        poller: Arc<AccountPoller>,
        watch: Arc<TrackedTask>,
        permit: CallPermit,
    ) {
        let asked = Instant::now();
        let id = utf8_percent_encode(watch.id(), UNRESERVED);
        let told = match self.call(&poller, &format!("{TASKS}/{id}"), MOST_ANSWER_BYTES, permit).await {
            Ok(answer) => match task::read(&answer.body).filter(|named| named.task_id == *watch.id()) {
                Some(named) if answer.status == StatusCode::OK => QueryOutcome::Known(named, answer),
                Some(_) | None => QueryOutcome::Other(answer),
            },
            Err(told) => told,
        };
        let now = SystemTime::now();
        if let Some(ended) = self.hub.tell(&watch, told, asked, now) {
            self.note_end(&ended, now);
        }
    }

    fn note_end(&self, ended: &TaskEnded, now: SystemTime) {
        let seconds =
            |from: SystemTime, to: SystemTime| to.duration_since(from).unwrap_or_default().as_secs_f64();
        if let Some(at) = ended.at {
            self.metrics.completion_lag.observe(seconds(at, now));
        }
        // What DashScope has forgotten ended at some time that nobody knows.
        if ended.status.is_final() {
            let lasted = seconds(ended.claimed_at, ended.at.unwrap_or(now));
            self.directory.load().model_series(&ended.model).task_durations.observe(lasted);
        }
    }

    async fn list(self: Rc<Self>, poller: Arc<AccountPoller>) {
        loop {
            match poller.next_page(Instant::now()) {
                NextCall::Ask((page, permit)) => {
                    tokio::task::spawn_local(Rc::clone(&self).list_one(Arc::clone(&poller), page, permit));
                }
                NextCall::At(time) => tokio::select! {
                    () = sleep_until(time.into()) => {}
                    () = poller.list_news() => {}
                },
                NextCall::Nothing => poller.list_news().await,
            }
        }
    }

    async fn list_one(self: Rc<Self>, poller: Arc<AccountPoller>, page: PageRequest, permit: CallPermit) {
        let asked = Instant::now();
        let query = task_list::query(page.status, page.number, page.size);
        match self.call(&poller, &format!("{TASKS}?{query}"), MOST_PAGE_BYTES, permit).await {
            Ok(answer) => match task_list::TaskPage::read(&answer.body) {
                Some(told) if answer.status == StatusCode::OK => {
                    self.hub.tell_page(&poller, page, &told, asked);
                }
                Some(_) | None => self.hub.miss_page(&poller, page, &QueryOutcome::Other(answer)),
            },
            Err(told) => self.hub.miss_page(&poller, page, &told),
        }
    }

    /// What the current configuration says of the poller's account; `None` if it is not in it any more.
    fn with<T>(&self, poller: &AccountPoller, look: impl Fn(&Account) -> T) -> Option<T> {
        let directory = self.directory.load();
        directory.account_index(poller.account()).map(|index| look(&directory.accounts[index]))
    }
}

/// Waits for another turn at the same endpoint.
async fn turn(poller: &Arc<AccountPoller>, endpoint: TaskEndpoint) -> CallPermit {
    loop {
        match poller.spend(endpoint, Instant::now()) {
            Ok(permit) => return permit,
            Err(time) => sleep_until(time.into()).await,
        }
    }
}

const TASKS: &str = "/api/v1/tasks";
/// What a segment of a path may hold (RFC 3986, 2.3).
const UNRESERVED: &percent_encoding::AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
const MOST_ANSWER_BYTES: usize = 64 * 1024;
/// A hundred tasks have some 40 KiB.
const MOST_PAGE_BYTES: usize = 1024 * 1024;
const SWEEP: Duration = Duration::from_millis(500);

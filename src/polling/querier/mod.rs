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
use crate::dashscope::row;
use crate::dashscope::task;
use crate::polling::hub::{Ended, Hub, Told};
use crate::polling::{Desk, Endpoint, Page, Spent, Watch, Work};
use crate::telemetry::metrics::Metrics;
use crate::tenant::directory::Directory;
use crate::upstream::Upstream;

/// One thread's worth: its connections are its own.
pub struct Querier {
    pub hub: Arc<Hub>,
    pub directory: Arc<ArcSwap<Directory>>,
    pub metrics: Arc<Metrics>,
    pub upstream: Upstream,
}

impl Querier {
    /// Serves every desk that is opened, until it is told to stop.
    pub async fn work(self, mut opened: mpsc::UnboundedReceiver<Arc<Desk>>, stop: CancellationToken) {
        let querier = Rc::new(self);
        let mut sweep = interval(SWEEP);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = sweep.tick() => querier.upstream.sweep(),
                Some(desk) = opened.recv() => {
                    tokio::task::spawn_local(Rc::clone(&querier).query(Arc::clone(&desk)));
                    tokio::task::spawn_local(Rc::clone(&querier).list(Arc::clone(&desk)));
                    tokio::task::spawn_local(Rc::clone(&querier).tidy(desk));
                }
            }
        }
    }

    /// Once a second: the rates of the current configuration, and whether lists pay.
    async fn tidy(self: Rc<Self>, desk: Arc<Desk>) {
        let mut second = interval(Duration::from_secs(1));
        second.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            second.tick().await;
            self.hub.set_max_age(self.directory.load().settings.poll.max_age);
            if let Some(rates) = self.with(&desk, Account::rates) {
                desk.set_rates(rates);
            }
            desk.tidy(Instant::now());
        }
    }

    async fn query(self: Rc<Self>, desk: Arc<Desk>) {
        loop {
            match desk.next_query(Instant::now()) {
                Work::Ask((watch, spent)) => {
                    tokio::task::spawn_local(Rc::clone(&self).query_one(Arc::clone(&desk), watch, spent));
                }
                Work::At(time) => tokio::select! {
                    () = sleep_until(time.into()) => {}
                    () = desk.query_news() => {}
                },
                Work::Nothing => desk.query_news().await,
            }
        }
    }

    async fn query_one(self: Rc<Self>, desk: Arc<Desk>, watch: Arc<Watch>, spent: Spent) {
        let asked = Instant::now();
        let id = utf8_percent_encode(watch.id(), UNRESERVED);
        let told = match self.call(&desk, &format!("{TASKS}/{id}"), MOST_ANSWER_BYTES, spent).await {
            Ok(answer) => match task::named(&answer.body).filter(|named| named.task_id == *watch.id()) {
                Some(named) if answer.status == StatusCode::OK => Told::State(named, answer),
                Some(_) | None => Told::Odd(answer),
            },
            Err(told) => told,
        };
        let now = SystemTime::now();
        if let Some(ended) = self.hub.tell(&watch, told, asked, now) {
            self.note_end(&ended, now);
        }
    }

    fn note_end(&self, ended: &Ended, now: SystemTime) {
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

    async fn list(self: Rc<Self>, desk: Arc<Desk>) {
        loop {
            match desk.next_page(Instant::now()) {
                Work::Ask((page, spent)) => {
                    tokio::task::spawn_local(Rc::clone(&self).list_one(Arc::clone(&desk), page, spent));
                }
                Work::At(time) => tokio::select! {
                    () = sleep_until(time.into()) => {}
                    () = desk.list_news() => {}
                },
                Work::Nothing => desk.list_news().await,
            }
        }
    }

    async fn list_one(self: Rc<Self>, desk: Arc<Desk>, page: Page, spent: Spent) {
        let asked = Instant::now();
        let query = row::query(page.status, page.number, page.size);
        match self.call(&desk, &format!("{TASKS}?{query}"), MOST_PAGE_BYTES, spent).await {
            Ok(answer) => match row::Page::read(&answer.body) {
                Some(told) if answer.status == StatusCode::OK => {
                    self.hub.tell_page(&desk, page, &told, asked);
                }
                Some(_) | None => self.hub.miss_page(&desk, page, &Told::Odd(answer)),
            },
            Err(told) => self.hub.miss_page(&desk, page, &told),
        }
    }

    /// What the current configuration says of the desk's account; `None` if it is not in it any more.
    fn with<T>(&self, desk: &Desk, look: impl Fn(&Account) -> T) -> Option<T> {
        let directory = self.directory.load();
        directory.account_index(desk.account()).map(|index| look(&directory.accounts[index]))
    }
}

/// Waits for another turn at the same endpoint.
async fn turn(desk: &Arc<Desk>, endpoint: Endpoint) -> Spent {
    loop {
        match desk.spend(endpoint, Instant::now()) {
            Ok(spent) => return spent,
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

//! The querier: asks DashScope for the status of tasks on behalf of all clients. One thread, which spends each
//! account's budget as the poll hub decides.

mod call;
mod supervise;

use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use hyper::StatusCode;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::CancellationToken;

use self::supervise::{caught, restarted};
use crate::dashscope::task;
use crate::dashscope::task_list::{self, TaskPage};
use crate::polling::hub::{PollHub, QueryOutcome};
use crate::polling::{AccountPoller, NextCall, PageRequest, TaskEndpoint, TrackedTask};
use crate::tenant::directory::Directory;
use crate::upstream::Upstream;

/// The querier of one thread, with connections of its own.
pub struct Querier {
    pub hub: Arc<PollHub>,
    pub directory: Arc<ArcSwap<Directory>>,
    pub upstream: Upstream,
}

/// A call that was taken from an account's budget. Drop it when the call has ended, with or without an answer.
#[derive(Debug)]
pub struct CallPermit {
    poller: Arc<AccountPoller>,
    endpoint: TaskEndpoint,
    number: u64,
}

impl CallPermit {
    /// Takes a call.
    ///
    /// # Errors
    /// The time from which a call can be taken.
    pub fn take(poller: &Arc<AccountPoller>, endpoint: TaskEndpoint, now: Instant) -> Result<Self, Instant> {
        poller.take_call(endpoint, now).map(|number| Self { poller: Arc::clone(poller), endpoint, number })
    }

    /// Ends the call, and waits for the next one to the same endpoint.
    async fn renew(self) -> Self {
        let (poller, endpoint) = (Arc::clone(&self.poller), self.endpoint);
        drop(self);
        loop {
            match Self::take(&poller, endpoint, Instant::now()) {
                Ok(permit) => return permit,
                Err(time) => sleep_until(time.into()).await,
            }
        }
    }
}

impl Drop for CallPermit {
    fn drop(&mut self) {
        self.poller.call_ended(self.endpoint, self.number, Instant::now());
    }
}

impl Querier {
    /// Serves every poller that is opened, until `stop`. `beat` is called twice a second, as long as the thread turns.
    pub async fn work(
        self,
        mut opened: mpsc::UnboundedReceiver<Arc<AccountPoller>>,
        stop: CancellationToken,
        beat: impl Fn(),
    ) {
        let querier = Rc::new(self);
        let mut sweep = interval(SWEEP);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = sweep.tick() => {
                    beat();
                    querier.upstream.sweep();
                }
                Some(poller) = opened.recv() => querier.serve(&poller),
            }
        }
    }

    fn serve(self: &Rc<Self>, poller: &Arc<AccountPoller>) {
        self.spawn(poller, "queries", Self::query);
        self.spawn(poller, "lists", Self::list);
        self.spawn(poller, "rates", Self::tick);
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

    /// Once a second: takes over the configured rates, and chooses between queries and lists.
    async fn tick(self: Rc<Self>, poller: Arc<AccountPoller>) -> Infallible {
        let mut second = interval(Duration::from_secs(1));
        second.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            second.tick().await;
            let directory = self.directory.load();
            // An account that is not configured any more keeps its rates.
            if let Some(index) = directory.account_index(poller.account()) {
                poller.set_rates(directory.accounts[index].rates());
            }
            poller.choose_mode(Instant::now());
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
                    let permit =
                        CallPermit { poller: Arc::clone(&poller), endpoint: TaskEndpoint::Query, number };
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
            self.hub.take_outcome(&task, QueryOutcome::Failed, asked, Instant::now(), SystemTime::now());
        }
    }

    async fn query_one(self: Rc<Self>, task: Arc<TrackedTask>, permit: CallPermit) {
        let asked = Instant::now();
        let id = utf8_percent_encode(task.id(), UNRESERVED);
        let outcome = match self.call(&format!("{TASKS}/{id}"), MOST_ANSWER_BYTES, permit).await {
            Ok(answer) => match task::read(&answer.body).filter(|named| named.task_id == *task.id()) {
                Some(named) if answer.status == StatusCode::OK => QueryOutcome::Known(named, answer),
                Some(_) | None => QueryOutcome::Other(answer),
            },
            Err(outcome) => outcome,
        };
        self.hub.take_outcome(&task, outcome, asked, Instant::now(), SystemTime::now());
    }

    async fn list(self: Rc<Self>, poller: Arc<AccountPoller>) -> Infallible {
        loop {
            let max_age = self.directory.load().settings.poll.max_age;
            match poller.next_page(max_age, Instant::now()) {
                NextCall::Ask(page, number) => {
                    let permit =
                        CallPermit { poller: Arc::clone(&poller), endpoint: TaskEndpoint::List, number };
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
            self.hub.page_failed(&poller, page, &QueryOutcome::Failed, Instant::now());
        }
    }

    async fn list_one(self: Rc<Self>, poller: Arc<AccountPoller>, page: PageRequest, permit: CallPermit) {
        let asked = Instant::now();
        let query = task_list::query(page.status, page.number, page.size);
        let outcome = match self.call(&format!("{TASKS}?{query}"), MOST_PAGE_BYTES, permit).await {
            Ok(answer) => match TaskPage::read(&answer.body) {
                Some(listed) if answer.status == StatusCode::OK => {
                    return self.hub.take_page(&poller, page, &listed, asked, Instant::now());
                }
                Some(_) | None => QueryOutcome::Other(answer),
            },
            Err(outcome) => outcome,
        };
        self.hub.page_failed(&poller, page, &outcome, Instant::now());
    }
}

const TASKS: &str = "/api/v1/tasks";
/// Characters that need no encoding in a path segment: the unreserved ones (RFC 3986, section 2.3).
const UNRESERVED: &percent_encoding::AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
const MOST_ANSWER_BYTES: usize = 64 * 1024;
/// A page of a hundred tasks has some 40 KiB.
const MOST_PAGE_BYTES: usize = 1024 * 1024;
const SWEEP: Duration = Duration::from_millis(500);

//! The search for orphans: which page of an account's list comes next, and what it shows. Like the rest of the poll hub
//! it neither waits nor sends.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::account_poller::{AccountPoller, NextCall};
use super::hub::{PollHub, QueryOutcome};
use super::orphan::{Orphan, Skew};
use super::orphan_scan::{OrphanPage, OrphanStep};
use super::sent_submit::SentSubmit;
use crate::config::OrphanTimes;
use crate::dashscope::listed_task::ListedTask;
use crate::dashscope::task_list::TaskPage;

/// Times of a question and its answer, by our clock and by the upstream's.
#[derive(Debug, Clone, Copy)]
pub struct AnswerClock {
    pub asked: SystemTime,
    pub received: SystemTime,
    /// The `Date` of the answer, if it has one.
    pub date: Option<SystemTime>,
}

impl PollHub {
    /// Notes a submit that is sent to the account.
    pub fn submit_sent(&self, account: &Arc<str>, attempt: Option<Box<str>>, date: SystemTime) -> SentSubmit {
        SentSubmit::new(self.account_poller(account), attempt, date)
    }

    /// The next page of the account's list to be searched for orphans. Pages take a quarter of the account's lists, so
    /// that they delay no client. A process that drains leaves the search to its successor.
    pub fn next_orphan_page(
        &self,
        poller: &AccountPoller,
        times: &OrphanTimes,
        now: Instant,
        date: SystemTime,
    ) -> NextCall<OrphanPage> {
        if !poller.is_configured() || self.released.is_cancelled() {
            return NextCall::Nothing;
        }
        let mut watch = poller.orphans.lock();
        if let OrphanStep::At(time) = watch.scan.step(times, now) {
            return NextCall::At(time);
        }
        let mut state = poller.state();
        let call = match state.take_list(now) {
            Ok(call) => call,
            Err(time) => return NextCall::At(time),
        };
        let size = state.page_size.tasks();
        drop(state);
        let back_to = poller.sent.lock().first_lost().and_then(|sent_at| sent_at.checked_sub(MARGIN));
        NextCall::Ask(watch.scan.ask(size, back_to, times, now, date), call)
    }

    /// Takes in a page of the account's list.
    pub fn take_orphan_page(
        &self,
        poller: &AccountPoller,
        page: &TaskPage<ListedTask>,
        clock: AnswerClock,
        times: &OrphanTimes,
        now: Instant,
    ) {
        let is_owned = |id: &str| self.task_index().task(id).is_some();
        let skew = clock.date.map(|date| Skew::measured(date, clock.asked, clock.received));
        let gap = Duration::from_secs(1) * LIST_SHARE / poller.state().lists_per_second();
        let mut watch = poller.orphans.lock();
        let Some(done) = watch.scan.answered(page, skew, gap, is_owned, now) else { return };
        tracing::debug!(account = &**poller.account(), reached = ?done.reached, has_skew = done.has_skew, "a list was searched for orphans");
        let before = watch.orphans.all().len();
        watch.orphans.take(done.rows, done.began_at, times.min_age, is_owned);
        let count = watch.orphans.all().len();
        if count > before {
            let account = &**poller.account();
            tracing::info!(
                account,
                count,
                "tasks of the account have no owner: GET /admin/orphans lists them"
            );
        }
        drop(watch);
        poller.sent.lock().forget_expired(clock.received);
    }

    /// Notes that a page did not come.
    pub fn orphan_page_failed(
        &self,
        poller: &AccountPoller,
        page: OrphanPage,
        outcome: &QueryOutcome,
        times: &OrphanTimes,
        now: Instant,
    ) {
        poller.orphans.lock().scan.failed(times, now);
        self.list_failed(poller, page.size, outcome, now);
    }

    /// Orphans of the configured accounts, each with its account.
    pub fn orphans(&self) -> Vec<(Arc<str>, Vec<Arc<Orphan>>)> {
        let mut accounts: Vec<_> = self
            .configured_pollers()
            .map(|poller| {
                let all = poller.orphans.lock().orphans.all().to_vec();
                // A claim may have come since the last scan.
                let orphans =
                    all.into_iter().filter(|orphan| self.task_index().task(&orphan.task_id).is_none());
                (Arc::clone(poller.account()), orphans.collect())
            })
            .collect();
        accounts.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        accounts
    }
}

impl AccountPoller {
    /// Has the account's list be searched some time after a lost answer.
    pub(super) fn note_lost_submit(&self, now: Instant) {
        self.orphans.lock().scan.note_loss(now);
        self.signals.orphans.notify_one();
    }

    /// Waits until a page may be due.
    pub async fn orphan_news(&self) {
        self.signals.orphans.notified().await;
    }
}

/// One of so many lists is a page of a search.
const LIST_SHARE: u32 = 4;
/// The most that two clocks are trusted to differ beside their measured skew.
const MARGIN: Duration = Duration::from_secs(5);

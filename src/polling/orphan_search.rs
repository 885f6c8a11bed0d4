//! The search for orphans: which page of an account's list comes next, and what it shows. Like the rest of the poll hub
//! it neither waits nor sends.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::account_poller::{AccountPoller, NextCall};
use super::hub::{PollHub, QueryOutcome};
use super::orphan::{Orphan, Skew};
use super::orphan_match::{Intent, SearchPass, SearchedAccount, is_awaited, is_read_twice};
use super::orphan_scan::{CompleteScan, OrphanPage, OrphanStep};
use super::sent_submit::SentSubmit;
use super::sent_submits::DoubtfulSubmit;
use crate::config::OrphanTimes;
use crate::dashscope::listed_task::ListedTask;
use crate::dashscope::task_list::TaskPage;
use crate::store::{DoubtReport, Gossip, MOST_MODEL_BYTES, Replica, ReportedSubmit, SUBMITS_IN_PART};

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
        if self.released.is_cancelled() {
            return NextCall::Nothing;
        }
        if let Some(pause) = poller.pause(now) {
            return pause;
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
        let is_read = |sent_at, lost_at| is_read_twice(&watch.passes, sent_at, lost_at, times.min_age);
        let first_lost = poller.sent.lock().first_lost(|submit, lost_at| !is_read(submit.sent_at, lost_at));
        let first = [first_lost, watch.missed].into_iter().flatten().min();
        let missed = first.and_then(|sent_at| sent_at.checked_sub(MARGIN));
        NextCall::Ask(watch.scan.ask(size, missed, times, now, date), call)
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
        let before = watch.orphans.all().len();
        let CompleteScan { began_at, reached, has_skew, rows } = done;
        watch.note_pass(SearchPass { began_at, reached, has_skew }, clock.received);
        watch.orphans.take(rows, has_skew, began_at, times.min_age, is_owned);
        if !watch.orphans.is_complete() {
            // Orphans that found no room must be read again, once there is some.
            watch.passes.clear();
            watch.scan.leave();
        }
        let count = watch.orphans.all().len();
        if count > before {
            let account = &**poller.account();
            tracing::info!(
                account,
                count,
                "tasks of the account have no owner: `dashgate orphans list` shows them"
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

    /// The results of the searches, for [`PollHub::ask_others`]. `None` unless a search of a configured account has ended and
    /// other replicas can be asked. A process that drains leaves the verdicts to its successor.
    pub fn findings_to_ask(
        &self,
        is_exclusive: impl Fn(&str) -> bool,
        now: Instant,
    ) -> Option<Vec<SearchedAccount>> {
        let replicas = self.replicas.as_ref().filter(|_| !self.released.is_cancelled())?;
        let may_ask = self.has_search_news() && replicas.doubts.lock().may_begin(now);
        may_ask.then(|| self.findings(is_exclusive))
    }

    /// Asks the other replicas which of their submits are in doubt. The caller has noted the stored submits in `findings`
    /// before. So a submit whose row is deleted before the others answer is known from `findings`, and a submit without a
    /// row is known from an answer.
    pub fn ask_others(&self, findings: Vec<SearchedAccount>, now: Instant) {
        if let Some(replicas) = &self.replicas {
            replicas.doubts.lock().begin(findings, now);
        }
    }

    /// True if a search of a configured account has ended and can be judged: all other replicas have told their doubts. A
    /// process that drains leaves the verdicts to its successor.
    pub fn has_searched(&self, now: Instant) -> bool {
        if self.released.is_cancelled() {
            return false;
        }
        let Some(replicas) = &self.replicas else { return self.has_search_news() };
        let mut doubts = replicas.doubts.lock();
        if let Some(question) = doubts.next_question(now) {
            replicas.store.gossip(&question);
        }
        doubts.is_answered()
    }

    fn has_search_news(&self) -> bool {
        self.configured_pollers().any(|poller| poller.orphans.lock().is_news)
    }

    /// Takes what the searches have shown, after [`PollHub::has_searched`]. Tasks that have an owner by now are left out.
    pub fn take_searched(
        &self,
        is_exclusive: impl Fn(&str) -> bool,
        now: Instant,
    ) -> Option<Vec<SearchedAccount>> {
        let Some(replicas) = &self.replicas else { return Some(self.findings(is_exclusive)) };
        let mut searched = replicas.doubts.lock().take(now)?;
        for search in &mut searched {
            search.orphans = self.unowned(&search.orphans);
            search.young = self.unowned(&search.young);
        }
        Some(searched)
    }

    /// Findings of the searches of the configured accounts.
    fn findings(&self, is_exclusive: impl Fn(&str) -> bool) -> Vec<SearchedAccount> {
        // Among replicas, submits that stand durably are read from the store.
        let is_read = |submit: &&DoubtfulSubmit| self.replicas.is_none() || submit.attempt.is_none();
        let searched = self.configured_pollers().map(|poller| {
            // Before the orphans: a submit that is settled meanwhile has its task in the index by then.
            let sent = poller.sent.lock();
            let doubtful = sent.in_doubt().filter(is_read).cloned().collect();
            let known_since = sent.known_since();
            drop(sent);
            let mut watch = poller.orphans.lock();
            watch.is_news = false;
            SearchedAccount {
                account: Arc::clone(poller.account()),
                is_exclusive: is_exclusive(poller.account()),
                orphans: self.unowned(watch.orphans.all()),
                young: self.unowned(watch.orphans.young()),
                own_keys: watch.orphans.own_keys().clone(),
                is_complete: watch.orphans.is_complete(),
                passes: watch.passes.clone(),
                doubtful,
                known_since,
            }
        });
        searched.collect()
    }

    /// Notes that this replica may have been cut off until then: others may have come and gone meanwhile.
    pub(super) fn note_cut_off(&self, until: SystemTime) {
        if let Some(replicas) = &self.replicas {
            replicas.doubts.lock().note_gone(until);
        }
    }

    /// Tells another replica which submits are in doubt here, of those that were sent before a time and stand nowhere durably.
    pub(super) fn report_doubts(
        &self,
        to: Replica,
        question: u64,
        sent_before: SystemTime,
        date: SystemTime,
    ) {
        let Some(replicas) = &self.replicas else { return };
        let (mut submits, mut unknown_until) = (Vec::new(), None);
        for poller in &self.pollers {
            let mut sent = poller.sent.lock();
            // No search of this replica forgets them where another one leads.
            sent.forget_expired(date);
            unknown_until = unknown_until.max(sent.unknown_until());
            let asked =
                sent.in_doubt().filter(|submit| submit.attempt.is_none() && submit.sent_at <= sent_before);
            submits.extend(asked.map(|submit| ReportedSubmit {
                account: Arc::clone(poller.account()),
                model: submit.model.clone().filter(|model| is_short_in_json(model)),
                sent_at: submit.sent_at,
                lost_at: submit.lost_at,
            }));
        }
        // More would not all come through. Any of them may have made any task that was made until the last one.
        if submits.len() > MOST_REPORTED {
            unknown_until = unknown_until.max(submits.iter().map(|submit| submit.sent_at).max());
            submits.clear();
        }
        let parts = submits.len().div_ceil(SUBMITS_IN_PART).max(1);
        for part in 0..parts {
            let submits =
                submits.iter().skip(part * SUBMITS_IN_PART).take(SUBMITS_IN_PART).cloned().collect();
            let report = DoubtReport { to, question, at: date, unknown_until, parts, submits };
            replicas.store.gossip(&Gossip::Doubts(report));
        }
    }

    /// Has the next scans go back to the first of the submits that still wait for a verdict and may have made a task that
    /// no two scans have reached, and ends the doubt about submits that have surely made none.
    pub fn note_verdicts<'i>(
        &self,
        searched: &[SearchedAccount],
        waiting: impl Iterator<Item = &'i Intent> + Clone,
        min_age: Duration,
    ) {
        for search in searched {
            let poller = self.account_poller(&search.account);
            let is_of = |intent: &&Intent| intent.account.as_ref().is_none_or(|own| *own == search.account);
            let mut watch = poller.orphans.lock();
            let is_read =
                |intent: &Intent| is_read_twice(&watch.passes, intent.sent_at, intent.lost_at, min_age);
            let missed = waiting.clone().filter(is_of).filter(|intent| !is_read(intent));
            watch.missed = missed.map(|intent| intent.sent_at).min();
            drop(watch);
            // Among replicas, a submit that stands durably is known by its row.
            let is_row = |submit: &DoubtfulSubmit| self.replicas.is_some() && submit.attempt.is_some();
            poller.sent.lock().clear(|submit| is_row(submit) || search.clears(submit, min_age));
        }
    }

    /// Ends the doubt about a submit with an `Idempotency-Key`.
    pub fn clear_attempt(&self, attempt: &str) {
        for poller in self.configured_pollers() {
            poller.sent.lock().clear(|submit| submit.attempt.as_deref() == Some(attempt));
        }
    }

    /// Has the list of an account be searched soon, for the task of a submit whose answer was lost before.
    pub fn search_soon(&self, account: &Arc<str>, now: Instant) {
        self.account_poller(account).note_lost_submit(now);
    }

    /// Notes that another process, whose place this one takes, may send submits until then.
    pub fn distrust_until(&self, date: SystemTime, accounts: impl Iterator<Item = Arc<str>>) {
        for account in accounts {
            self.account_poller(&account).sent.lock().distrust_until(date);
        }
    }

    /// Takes in what stands in the cell of an account's orphans.
    pub fn take_told_orphans(&self, account: &Arc<str>, cell: &[u8]) {
        if let Some(replicas) = &self.replicas {
            replicas.told_orphans.take(account, cell);
        }
    }

    /// The orphan of the account with this id.
    pub fn orphan(&self, account: &str, id: &str) -> Option<Arc<Orphan>> {
        let poller = self.configured_pollers().find(|poller| **poller.account() == *account)?;
        self.orphans_of(&poller).into_iter().find(|orphan| *orphan.task_id == *id)
    }

    /// Orphans of the configured accounts, each with its account.
    pub fn orphans(&self) -> Vec<(Arc<str>, Vec<Arc<Orphan>>)> {
        let named = |poller: Arc<AccountPoller>| (Arc::clone(poller.account()), self.orphans_of(&poller));
        let mut accounts: Vec<_> = self.configured_pollers().map(named).collect();
        accounts.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        accounts
    }

    /// Orphans of the account, without those for which a claim may come.
    fn orphans_of(&self, poller: &AccountPoller) -> Vec<Arc<Orphan>> {
        if let Some(replicas) = &self.replicas {
            return self.unowned(&replicas.told_orphans.of(poller.account()));
        }
        // In this order: a submit that is settled meanwhile has its task in the index by then.
        let running = poller.sent.lock().running();
        let Some(first) = running.iter().map(|submit| submit.sent_at).min() else {
            return self.unowned(poller.orphans.lock().orphans.all());
        };
        let mut orphans = self.unowned(poller.orphans.lock().orphans.all());
        // Few submits run for long, so that only the newest orphans are compared with each.
        let may_be_awaited = |orphan: &Orphan| orphan.created + MARGIN >= first;
        orphans.retain(|orphan| !may_be_awaited(orphan) || !is_awaited(orphan, running.iter()));
        orphans
    }

    /// The orphans that nobody owns by now: a claim may have come since the last scan.
    fn unowned(&self, orphans: &[Arc<Orphan>]) -> Vec<Arc<Orphan>> {
        let unowned = orphans.iter().filter(|orphan| self.task_index().task(&orphan.task_id).is_none());
        unowned.cloned().collect()
    }
}

impl AccountPoller {
    /// Has the account's list be searched some time after a lost answer.
    pub(super) fn note_lost_submit(&self, now: Instant) {
        self.note_lost_elsewhere(now);
        self.elsewhere.lock().note_lost_submit();
        self.signals.gossip.notify_one();
    }

    /// Notes that an answer was lost on another replica.
    pub(super) fn note_lost_elsewhere(&self, now: Instant) {
        self.orphans.lock().scan.note_loss(now);
        self.signals.orphans.notify_one();
    }

    /// Waits until a page may be due.
    pub async fn orphan_news(&self) {
        self.signals.orphans.notified().await;
    }
}

/// True if the model keeps the length of a part of a report within that of a message: JSON writes others as escapes.
fn is_short_in_json(model: &str) -> bool {
    let is_escaped = |letter: char| letter.is_control() || matches!(letter, '"' | '\\');
    model.len() <= MOST_MODEL_BYTES && !model.contains(is_escaped)
}

/// Submits that a report has at most: as many as the outbox of messages takes in beside other things.
const MOST_REPORTED: usize = 512;
/// One of so many lists is a page of a search.
const LIST_SHARE: u32 = 4;
/// Part of the list before a lost submit that is read too, as clocks differ.
const MARGIN: Duration = Duration::from_secs(60);

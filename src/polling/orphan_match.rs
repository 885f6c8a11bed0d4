//! Which orphan is the task of which lost submit. A stranger's task must never become a tenant's, and no submit may be
//! sent again that has made a task: where anything else is possible, the verdict is to wait.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::orphan::Orphan;
use super::sent_submits::DoubtfulSubmit;
use crate::dashscope::task::LIFETIME;

/// A submit that stands durably, and of which it is not known whether it has made a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intent {
    pub tenant: Arc<str>,
    pub key_id: Arc<str>,
    /// `None` if it is not known where the submit was sent.
    pub account: Option<Arc<str>>,
    /// Empty if it is not known.
    pub model: Box<str>,
    pub sent_at: SystemTime,
    pub lost_at: SystemTime,
    /// Name of the try, or of the hold.
    pub attempt: Box<str>,
    /// The submit's answer can be given again, or nobody can ask for it again.
    pub is_answerable: bool,
}

/// Findings of the searches of one account.
#[derive(Debug)]
pub struct SearchedAccount {
    pub account: Arc<str>,
    /// Nobody else uses the account.
    pub is_exclusive: bool,
    pub orphans: Vec<Arc<Orphan>>,
    /// Tasks without an owner that are too young to be orphans.
    pub(super) young: Vec<Arc<Orphan>>,
    /// False if some orphans may have found no room.
    pub(super) is_complete: bool,
    /// Numbers of the upstream keys that have made tasks of ours.
    pub(super) own_keys: HashSet<Box<str>>,
    /// The last scans.
    pub(super) passes: Vec<SearchPass>,
    pub(super) doubtful: Vec<DoubtfulSubmit>,
    /// All submits that were sent since then, and are in doubt, are known.
    pub(super) known_since: SystemTime,
}

/// A scan of an account's list, as far as it has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SearchPass {
    pub(super) began_at: SystemTime,
    /// All tasks that were made since then were on its pages; `None` if that is not known.
    pub(super) reached: Option<SystemTime>,
    /// The upstream's clock was compared with ours.
    pub(super) has_skew: bool,
}

/// The decision about a lost submit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The orphan is the submit's task.
    Adopt(Arc<Orphan>),
    /// The submit has made no task.
    Release,
    Wait,
}

/// Judges one of the `intents` by what the searches have shown. A task is an orphan once it is older than `min_age`.
pub fn judge(
    intent: &Intent,
    intents: &[Intent],
    searched: &[SearchedAccount],
    min_age: Duration,
) -> Verdict {
    let is_of =
        |search: &&SearchedAccount| intent.account.as_ref().is_none_or(|account| *account == search.account);
    let searched: Vec<&SearchedAccount> = searched.iter().filter(is_of).collect();
    let window = SubmitWindow::of_intent(intent);
    let suspects =
        searched.iter().flat_map(|search| search.orphans.iter().map(move |orphan| (search, orphan)));
    let suspects: Vec<_> = suspects.filter(|(_, orphan)| window.may_have_made(orphan)).collect();
    let mut young = searched.iter().flat_map(|search| &search.young);
    if young.any(|task| window.may_have_made(task)) {
        return Verdict::Wait;
    }
    match &suspects[..] {
        [] => {
            let is_clear = |search: &&SearchedAccount| search.is_clear(&window, min_age);
            if !searched.is_empty() && searched.iter().all(is_clear) {
                Verdict::Release
            } else {
                Verdict::Wait
            }
        }
        [(search, orphan)] if search.allows(intent, orphan, intents, min_age) => {
            Verdict::Adopt(Arc::clone(orphan))
        }
        _ => Verdict::Wait,
    }
}

impl SearchedAccount {
    /// Notes a submit of some replica that runs and stands durably. `account`: `None` if it is not known where it was sent.
    pub fn note_running(&mut self, attempt: &str, account: Option<&str>, model: &str, sent_at: SystemTime) {
        if account.is_none_or(|account| *account == *self.account) {
            let (model, attempt) = (Some(model.into()), Some(attempt.into()));
            self.doubtful.push(DoubtfulSubmit { model, attempt, sent_at, lost_at: None });
        }
    }

    /// Notes a submit whose answer is lost and that stands durably, beside the one that is judged.
    pub fn note_lost(&mut self, intent: &Intent) {
        if intent.account.as_ref().is_none_or(|account| *account == self.account) {
            let (model, attempt) = (Some(intent.model.clone()), Some(intent.attempt.clone()));
            let (sent_at, lost_at) = (intent.sent_at, Some(intent.lost_at));
            self.doubtful.push(DoubtfulSubmit { model, attempt, sent_at, lost_at });
        }
    }

    /// The orphans without those for which a claim may come.
    pub fn unclaimed(&self) -> Vec<Arc<Orphan>> {
        let orphans = self.orphans.iter().filter(|orphan| !is_awaited(orphan, self.doubtful.iter()));
        orphans.cloned().collect()
    }

    /// The time before which each submit was sent that may have made one of the orphans; `None` where there are none.
    pub(super) fn sent_before(&self) -> Option<SystemTime> {
        self.orphans.iter().map(|orphan| orphan.created + NEARLY).max()
    }

    /// True if the orphan, which is the only one that the intent may have made, is surely its task.
    fn allows(&self, intent: &Intent, orphan: &Orphan, intents: &[Intent], min_age: Duration) -> bool {
        let is_other = |other: &&Intent| other.attempt != intent.attempt;
        let others = intents.iter().filter(is_other).filter(|other| may_be(other, &self.account, orphan));
        let doubtful =
            self.doubtful.iter().filter(|other| other.attempt.as_deref() != Some(&*intent.attempt));
        let is_covered =
            |pass: &SearchPass| pass.has_skew && pass.covers(intent.sent_at, intent.lost_at, min_age);
        self.is_exclusive
            && self.is_complete
            && intent.account.is_some()
            && intent.is_answerable
            && self.passes.iter().any(is_covered)
            && intent.sent_at >= self.known_since
            && !orphan.model.is_empty()
            && orphan.model == intent.model
            && self.own_keys.contains(&orphan.api_key_id)
            && is_between(orphan.created, intent.sent_at, Some(intent.lost_at), CLOCKS)
            && others.count() == 0
            && !doubtful.into_iter().any(|other| SubmitWindow::of(other).may_have_made(orphan))
    }

    /// True if two scans have surely found no task of a submit.
    fn is_clear(&self, window: &SubmitWindow<'_>, min_age: Duration) -> bool {
        let Some(lost_at) = window.lost_at else { return false };
        let has_suspects = self.orphans.iter().chain(&self.young).any(|orphan| window.may_have_made(orphan));
        self.is_complete && !has_suspects && is_read_twice(&self.passes, window.sent_at, lost_at, min_age)
    }

    /// True if a submit without an `Idempotency-Key` has surely made no task.
    pub(super) fn clears(&self, doubtful: &DoubtfulSubmit, min_age: Duration) -> bool {
        doubtful.attempt.is_none() && self.is_clear(&SubmitWindow::of(doubtful), min_age)
    }
}

impl SearchPass {
    /// True if a task that was made between these times would have been on the pages, and old enough.
    fn covers(&self, sent_at: SystemTime, lost_at: SystemTime, min_age: Duration) -> bool {
        let Ok(since) = self.began_at.duration_since(lost_at) else { return false };
        let has_reached = self.reached.is_some_and(|reached| reached + NEARLY <= sent_at);
        // A task that DashScope has forgotten is on no page.
        since > min_age && (has_reached || since > LIFETIME + LATE)
    }
}

/// True if two scans have read all that was made between these times. Another one would show nothing more of it.
pub(super) fn is_read_twice(
    passes: &[SearchPass],
    sent_at: SystemTime,
    lost_at: SystemTime,
    min_age: Duration,
) -> bool {
    passes.iter().filter(|pass| pass.covers(sent_at, lost_at, min_age)).nth(1).is_some()
}

/// Time and model of a task that a submit may have made.
struct SubmitWindow<'a> {
    sent_at: SystemTime,
    /// `None` while the answer may come.
    lost_at: Option<SystemTime>,
    model: Option<&'a str>,
}

impl<'a> SubmitWindow<'a> {
    fn of_intent(intent: &'a Intent) -> Self {
        Self { sent_at: intent.sent_at, lost_at: Some(intent.lost_at), model: Some(&intent.model) }
    }

    fn of(doubtful: &'a DoubtfulSubmit) -> Self {
        let DoubtfulSubmit { model, attempt: _, sent_at, lost_at } = doubtful;
        Self { sent_at: *sent_at, lost_at: *lost_at, model: model.as_deref() }
    }

    /// True unless the submit has surely not made the task. DashScope may list a snapshot of the model that was asked for.
    fn may_have_made(&self, orphan: &Orphan) -> bool {
        let is_model = match self.model {
            None | Some("") => true,
            Some(model) => orphan.model.starts_with(model) || model.starts_with(&*orphan.model),
        };
        let until = self.lost_at.map(|lost_at| lost_at + LATE);
        is_model && is_between(orphan.created, self.sent_at, until, NEARLY)
    }
}

/// True while a submit runs that may have made the task: its claim may come.
pub(super) fn is_awaited<'s>(orphan: &Orphan, mut sent: impl Iterator<Item = &'s DoubtfulSubmit>) -> bool {
    sent.any(|submit| submit.lost_at.is_none() && SubmitWindow::of(submit).may_have_made(orphan))
}

/// True unless the submit has surely not made the orphan of the account.
pub fn may_be(intent: &Intent, account: &str, orphan: &Orphan) -> bool {
    let is_of_account = intent.account.as_deref().is_none_or(|own| own == account);
    is_of_account && SubmitWindow::of_intent(intent).may_have_made(orphan)
}

fn is_between(time: SystemTime, from: SystemTime, to: Option<SystemTime>, by: Duration) -> bool {
    time + by >= from && to.is_none_or(|to| time <= to + by)
}

/// The most by which a task's time may lie outside its submit, beside the measured skew of the clocks: the upstream's
/// date has whole seconds.
const CLOCKS: Duration = Duration::from_secs(3);
/// Distance at which a task is taken for no submit's: clocks may have been set meanwhile.
const NEARLY: Duration = Duration::from_secs(30);
/// Time after the loss of its answer in which a request may still make its task.
pub(super) const LATE: Duration = Duration::from_secs(120);

#[cfg(test)]
#[path = "orphan_match_tests.rs"]
mod tests;

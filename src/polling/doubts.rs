//! Doubts of the other replicas: what an account's search has shown is judged only once each of them has told which of its
//! submits are in doubt. A pure engine; [`super::orphan_search`] feeds it.
//!
//! Submits that stand durably are read from the store. The rest are known to their replica alone, and so nothing is known
//! of the submits of a replica that has ended.

use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime};

use foldhash::fast::RandomState;

use super::orphan_match::{LATE, SearchedAccount};
use super::sent_submits::DoubtfulSubmit;
use crate::store::{DoubtReport, Gossip, REPLICA_LIVES as LIVES, Replica, ReportedSubmit};

/// The question that is open, and what is known of those who are asked.
#[derive(Debug)]
pub(super) struct OthersDoubts {
    me: Replica,
    /// Time at which each other replica was heard last.
    heard: HashMap<Replica, (Instant, SystemTime), RandomState>,
    /// Replicas that have ended may have sent submits until then which may have made tasks until then.
    unknown_until: SystemTime,
    question: Option<DoubtQuestion>,
    /// Number of the last question.
    number: u64,
}

#[derive(Debug)]
struct DoubtQuestion {
    searched: Vec<SearchedAccount>,
    sent_before: Option<SystemTime>,
    began: Instant,
    /// The question is put again then: gossip may be lost.
    next: Instant,
    answers: HashMap<Replica, DoubtAnswer, RandomState>,
}

/// The parts of a report that have come.
#[derive(Debug, Default)]
struct DoubtAnswer {
    /// Number of the parts that have not come.
    missing: usize,
    unknown_until: Option<SystemTime>,
    submits: Vec<ReportedSubmit>,
}

impl OthersDoubts {
    pub(super) fn new(me: Replica) -> Self {
        Self {
            me,
            heard: HashMap::default(),
            unknown_until: SystemTime::UNIX_EPOCH,
            question: None,
            number: 0,
        }
    }

    /// Notes a sign of life of another replica.
    pub(super) fn hear(&mut self, from: Replica, now: Instant, date: SystemTime) {
        if let Some((last, last_date)) = self.heard.insert(from, (now, date))
            && now.saturating_duration_since(last) >= LIVES
        {
            // Meanwhile others may have come and gone.
            self.note_gone(last_date);
        }
    }

    /// True if what a search has shown can be asked about: no younger question is open.
    pub(super) fn may_begin(&self, now: Instant) -> bool {
        self.question.as_ref().is_none_or(|question| now.saturating_duration_since(question.began) > FRESH)
    }

    /// Begins to ask about what searches have shown.
    pub(super) fn begin(&mut self, searched: Vec<SearchedAccount>, now: Instant) {
        let sent_before = searched.iter().filter_map(SearchedAccount::sent_before).max();
        let answers = HashMap::default();
        self.question = Some(DoubtQuestion { searched, sent_before, began: now, next: now, answers });
    }

    /// The question to be put now.
    pub(super) fn next_question(&mut self, now: Instant) -> Option<Gossip> {
        self.forget_gone(now);
        if self.is_answered() {
            return None;
        }
        let question = self.question.as_mut().filter(|question| now >= question.next)?;
        question.next = now + ASKED_AGAIN;
        // Parts of reports that belong to different questions do not make a whole.
        question.answers.retain(|_, answer| answer.missing == 0);
        self.number += 1;
        Some(Gossip::AskDoubts { question: self.number, sent_before: question.sent_before? })
    }

    /// Takes in a part of another replica's report, which came at `date`.
    pub(super) fn take_report(&mut self, from: Replica, report: &DoubtReport, date: SystemTime) {
        let Some(question) = &mut self.question else { return };
        if report.to != self.me || report.question != self.number {
            return;
        }
        let fresh = DoubtAnswer { missing: report.parts, ..DoubtAnswer::default() };
        let answer = question.answers.entry(from).or_insert(fresh);
        answer.missing = answer.missing.saturating_sub(1);
        answer.submits.extend_from_slice(&report.submits);
        let apart = date.duration_since(report.at).unwrap_or_else(|ahead| ahead.duration());
        let is_odd = apart > CLOCKS_APART;
        if is_odd {
            tracing::warn!(
                other = from,
                "the clock of another replica differs: tasks whose answer was lost are only listed"
            );
        }
        answer.unknown_until = answer.unknown_until.max(report.unknown_until).max(is_odd.then_some(date));
    }

    /// True if a question is open that all others have answered.
    pub(super) fn is_answered(&self) -> bool {
        self.question.as_ref().is_some_and(|question| {
            let has_answered =
                |replica| question.answers.get(replica).is_some_and(|answer| answer.missing == 0);
            question.sent_before.is_none() || self.heard.keys().all(has_answered)
        })
    }

    /// Takes what the searches have shown, with the doubts of all others, once these are known.
    pub(super) fn take(&mut self, now: Instant) -> Option<Vec<SearchedAccount>> {
        self.forget_gone(now);
        if !self.is_answered() {
            return None;
        }
        let DoubtQuestion { mut searched, answers, .. } = self.question.take()?;
        let unknown_until = answers.values().filter_map(|answer| answer.unknown_until).max();
        let unknown_until = unknown_until.unwrap_or(self.unknown_until).max(self.unknown_until);
        for search in &mut searched {
            search.known_since = search.known_since.max(unknown_until);
            let submits = answers.values().flat_map(|answer| &answer.submits);
            search.doubtful.extend(
                submits.filter(|submit| submit.account == search.account).map(DoubtfulSubmit::reported),
            );
        }
        Some(searched)
    }

    /// Forgets replicas that were not heard for a while.
    fn forget_gone(&mut self, now: Instant) {
        let is_gone = |at: Instant| now.saturating_duration_since(at) >= LIVES;
        let last = self.heard.values().filter(|(at, _)| is_gone(*at)).map(|(_, date)| *date).max();
        self.heard.retain(|_, (at, _)| !is_gone(*at));
        if let Some(last) = last {
            self.note_gone(last);
        }
    }

    /// Notes that replicas may have ended that lived until then.
    pub(super) fn note_gone(&mut self, last_heard: SystemTime) {
        self.unknown_until = self.unknown_until.max(last_heard + LIVES + LATE);
    }
}

impl DoubtfulSubmit {
    fn reported(submit: &ReportedSubmit) -> Self {
        let ReportedSubmit { account: _, model, sent_at, lost_at } = submit;
        Self { model: model.clone(), attempt: None, sent_at: *sent_at, lost_at: *lost_at }
    }
}

const ASKED_AGAIN: Duration = Duration::from_secs(1);
/// Time after which a question that is not answered makes way for a later search.
const FRESH: Duration = Duration::from_secs(5);
/// Most by which a report's time may differ, the way of the report included: as much as a task's time may lie outside its
/// submit.
const CLOCKS_APART: Duration = Duration::from_secs(2);

#[cfg(test)]
#[path = "doubts_tests.rs"]
mod tests;

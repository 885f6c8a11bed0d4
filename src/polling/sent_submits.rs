//! Submits that were sent to an account: those that run, and those whose answer is lost. While a submit is in doubt, each
//! task that the account makes may be its task.

use std::collections::BTreeMap;
use std::time::SystemTime;

use crate::dashscope::task::LIFETIME;

/// The submits to one account that may have made a task which no client was told of.
#[derive(Debug)]
pub(super) struct SentSubmits {
    next: u64,
    in_doubt: BTreeMap<u64, DoubtfulSubmit>,
    began: SystemTime,
    /// All submits that were sent since then and are in doubt are known.
    known_since: SystemTime,
}

/// A submit of which it is not known whether it has made a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DoubtfulSubmit {
    /// `None` while it is not known.
    pub model: Option<Box<str>>,
    /// Name of the try or of the hold, of a submit that stands durably.
    pub attempt: Option<Box<str>>,
    pub sent_at: SystemTime,
    /// `None` while the answer may come.
    pub lost_at: Option<SystemTime>,
}

impl SentSubmits {
    pub(super) fn new(known_since: SystemTime) -> Self {
        Self { next: 0, in_doubt: BTreeMap::new(), began: known_since, known_since }
    }

    pub(super) fn send(&mut self, attempt: Option<Box<str>>, date: SystemTime) -> u64 {
        let number = self.next;
        self.next += 1;
        let submit = DoubtfulSubmit { model: None, attempt, sent_at: date, lost_at: None };
        self.in_doubt.insert(number, submit);
        number
    }

    pub(super) fn settle(&mut self, number: u64) {
        self.in_doubt.remove(&number);
    }

    pub(super) fn note_not_stored(&mut self, number: u64) {
        if let Some(submit) = self.in_doubt.get_mut(&number) {
            submit.attempt = None;
        }
    }

    pub(super) fn lose(&mut self, number: u64, model: Option<Box<str>>, date: SystemTime) {
        if let Some(submit) = self.in_doubt.get_mut(&number) {
            submit.lost_at = Some(date);
            submit.model = model;
        }
        if self.in_doubt.len() > MOST_IN_DOUBT {
            self.drop_first_lost();
        }
    }

    pub(super) fn in_doubt(&self) -> impl Iterator<Item = &DoubtfulSubmit> {
        self.in_doubt.values()
    }

    /// Submits whose answer may come.
    pub(super) fn running(&self) -> Vec<DoubtfulSubmit> {
        self.in_doubt.values().filter(|submit| submit.lost_at.is_none()).cloned().collect()
    }

    pub(super) fn known_since(&self) -> SystemTime {
        self.known_since
    }

    /// The time before which this process has sent submits that are not all known; `None` if it knows all its own.
    pub(super) fn unknown_until(&self) -> Option<SystemTime> {
        (self.known_since > self.began).then_some(self.known_since)
    }

    /// Notes that submits which were sent before are not all known: another process has sent some.
    pub(super) fn distrust_until(&mut self, date: SystemTime) {
        self.known_since = self.known_since.max(date);
    }

    /// Ends the doubt about some lost submits.
    pub(super) fn clear(&mut self, is_clear: impl Fn(&DoubtfulSubmit) -> bool) {
        self.in_doubt.retain(|_, submit| submit.lost_at.is_none() || !is_clear(submit));
    }

    fn drop_first_lost(&mut self) {
        let first = self.in_doubt.iter().find_map(|(number, submit)| Some((*number, submit.lost_at?)));
        if let Some((number, lost_at)) = first {
            self.known_since = self.known_since.max(lost_at);
            self.in_doubt.remove(&number);
        }
    }

    /// Forgets lost submits whose tasks DashScope has forgotten at `date`.
    pub(super) fn forget_expired(&mut self, date: SystemTime) {
        let is_over = |lost: SystemTime| date.duration_since(lost).is_ok_and(|since| since > LIFETIME);
        self.in_doubt.retain(|_, submit| submit.lost_at.is_none_or(|lost| !is_over(lost)));
    }

    /// Time at which the first lost submit was sent that is still in doubt and of which `is_missed` is true, which gets the
    /// submit and the time of its loss.
    pub(super) fn first_lost(
        &self,
        is_missed: impl Fn(&DoubtfulSubmit, SystemTime) -> bool,
    ) -> Option<SystemTime> {
        let is_missed =
            |submit: &&DoubtfulSubmit| submit.lost_at.is_some_and(|lost_at| is_missed(submit, lost_at));
        self.in_doubt.values().filter(is_missed).map(|submit| submit.sent_at).min()
    }
}

/// Submits in doubt that are kept for one account.
const MOST_IN_DOUBT: usize = 10_000;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 + seconds)
    }

    #[test]
    fn a_lost_submit_is_in_doubt_for_a_day() {
        let mut sent = SentSubmits::new(at(0));
        let numbers = [1, 2, 3].map(|second| sent.send(None, at(second)));
        sent.settle(numbers[0]);
        assert_eq!(sent.first_lost(|_, _| true), None);
        sent.lose(numbers[2], Some("m".into()), at(9));
        assert_eq!(sent.first_lost(|_, _| true), Some(at(3)));
        sent.forget_expired(at(9) + LIFETIME);
        assert_eq!(sent.in_doubt.len(), 2);
        sent.forget_expired(at(10) + LIFETIME);
        assert_eq!(sent.in_doubt.keys().collect::<Vec<_>>(), [&numbers[1]], "this one runs");
    }

    #[test]
    fn where_some_had_no_room_less_is_known() {
        let mut sent = SentSubmits::new(at(0));
        for second in 0..=MOST_IN_DOUBT as u64 {
            let number = sent.send(None, at(second));
            sent.lose(number, None, at(second + 1));
        }
        assert_eq!((sent.in_doubt.len(), sent.known_since), (MOST_IN_DOUBT, at(1)));
    }
}

//! Use of one key's or one tenant's limits, as this replica tells the others of it, and as they tell this one.

use std::sync::Arc;
use std::time::Duration;

use super::bucket::Bucket;
use super::replicas::{Heard, Replicas, STALE, milliseconds};
use super::{LimitKind, LimitScope};
use crate::config::Rate;
use crate::store::{LimitUse, RateUse, Replica};

/// The part of a key's or a tenant's counters that only replicas have.
pub(super) struct SharedUse {
    replicas: Arc<Replicas>,
    scope: LimitScope,
    name: Arc<str>,
    /// When the others were told of these counters first, in milliseconds of the registry's time.
    began: Option<u64>,
    /// Requests that were taken here, and not given back, by the kind whose rate they use.
    taken: [u64; LimitKind::COUNT],
    others: Vec<OtherUse>,
    /// The replicas' list of counters to tell of has these.
    is_listed: bool,
    /// Something has changed that was not told.
    is_news: bool,
    /// Time at which the last news is told again, as it may have been lost.
    tell_again: Duration,
}

/// Use at another replica, as it was told last.
struct OtherUse {
    replica: Replica,
    began: u64,
    taken: [u64; LimitKind::COUNT],
    running: [u32; LimitKind::COUNT],
    at: Duration,
}

/// UseChange of another replica's use since it told of it last.
enum UseChange {
    /// More requests than were told, or fewer, by kind.
    Taken([i64; LimitKind::COUNT]),
    /// The earlier use is not known here.
    Unknown,
}

impl SharedUse {
    pub(super) fn new(replicas: &Arc<Replicas>, scope: LimitScope, name: &Arc<str>) -> Self {
        Self {
            replicas: Arc::clone(replicas),
            scope,
            name: Arc::clone(name),
            began: None,
            taken: [0; LimitKind::COUNT],
            others: Vec::new(),
            is_listed: false,
            is_news: false,
            tell_again: Duration::ZERO,
        }
    }

    pub(super) fn rename(&mut self, name: &Arc<str>) {
        self.name = Arc::clone(name);
        self.note_news();
    }

    /// A bucket of this replica. While nothing is known of the others, they may have emptied it.
    pub(super) fn new_bucket(&self, rate: &Rate, now: Duration) -> Bucket {
        let mut bucket = Bucket::new(rate);
        if self.replicas.is_new() {
            bucket.presume_empty(now);
        }
        bucket
    }

    /// Parts of a limit of which this replica has one; 1 while the replicas hear each other.
    pub(super) fn shares(&self) -> u32 {
        self.replicas.shares()
    }

    pub(super) fn count_taken(&mut self, kind: LimitKind) {
        self.taken[kind as usize] += 1;
        self.note_news();
    }

    pub(super) fn count_given_back(&mut self, kind: LimitKind) {
        self.taken[kind as usize] = self.taken[kind as usize].saturating_sub(1);
        self.note_news();
    }

    pub(super) fn note_news(&mut self) {
        self.is_news = true;
        if !std::mem::replace(&mut self.is_listed, true) {
            self.replicas.list(self.scope, &self.name);
        }
    }

    /// Requests that run at other replicas.
    pub(super) fn running_elsewhere(&self, kind: LimitKind, now: Duration) -> u32 {
        let fresh = self.others.iter().filter(|other| now.saturating_sub(other.at) < STALE);
        fresh.map(|other| other.running[kind as usize]).fold(0, u32::saturating_add)
    }

    /// News to be told now. Counters that stay are to be listed again.
    pub(super) fn tell(
        &mut self,
        buckets: &[(LimitKind, Rate, Bucket)],
        running: &[u32; LimitKind::COUNT],
        now: Duration,
    ) -> Told {
        let is_due = self.is_news || now >= self.tell_again;
        let is_running = running.iter().any(|running| *running > 0);
        self.is_listed = self.is_news || !is_due || is_running;
        if !is_due {
            return Told { use_now: None, stays: true };
        }
        self.is_news = false;
        self.tell_again = now + AGAIN;
        Told { use_now: Some(self.use_now(buckets, running, now)), stays: self.is_listed }
    }

    /// Use as of now.
    pub(super) fn use_now(
        &mut self,
        buckets: &[(LimitKind, Rate, Bucket)],
        running: &[u32; LimitKind::COUNT],
        now: Duration,
    ) -> LimitUse {
        let rates = buckets.iter().map(|(kind, rate, bucket)| RateUse {
            kind: *kind as usize,
            requests_per_second: rate.requests_per_second.to_bits(),
            burst: rate.burst,
            missing: bucket.known_missing(now),
        });
        LimitUse {
            is_tenant: self.scope == LimitScope::Tenant,
            name: Arc::clone(&self.name),
            began: *self.began.get_or_insert(milliseconds(now)),
            taken: self.taken.to_vec(),
            rates: rates.collect(),
            running: running.to_vec(),
        }
    }

    /// Takes in the use that another replica has told, with the buckets of the rates that it names.
    pub(super) fn hear(
        &mut self,
        heard: &Heard,
        told: &LimitUse,
        buckets: &mut Vec<(LimitKind, Rate, Bucket)>,
        now: Duration,
    ) {
        let mut taken = [0; LimitKind::COUNT];
        taken.iter_mut().zip(&told.taken).for_each(|(taken, told)| *taken = *told);
        let change = self.change(heard, told, taken);
        for (kind, rate, told) in told.rates.iter().filter_map(rate_of) {
            if !buckets.iter().any(|(known, with, _)| *known == kind && *with == rate) {
                buckets.push((kind, rate, self.new_bucket(&rate, now)));
            }
            if let UseChange::Unknown = change {
                let same = buckets.iter().filter(|(known, with, _)| *known == kind && *with == rate);
                same.for_each(|(_, _, bucket)| bucket.match_missing(told.missing, now));
            }
        }
        if let UseChange::Taken(taken) = change {
            for (kind, _, bucket) in &*buckets {
                let taken = taken[*kind as usize];
                if taken > 0 {
                    bucket.take_off(taken.unsigned_abs(), heard.since);
                } else if taken < 0 {
                    bucket.put_back(taken.unsigned_abs());
                }
            }
        }
        let mut running = [0; LimitKind::COUNT];
        running.iter_mut().zip(&told.running).for_each(|(running, told)| *running = *told);
        self.others
            .retain(|other| other.replica != heard.replica && now.saturating_sub(other.at) < FORGOTTEN);
        self.others.push(OtherUse { replica: heard.replica, began: told.began, taken, running, at: now });
    }

    fn change(&self, heard: &Heard, told: &LimitUse, taken: [u64; LimitKind::COUNT]) -> UseChange {
        let known = self.others.iter().find(|other| other.replica == heard.replica);
        let before = match known {
            Some(known) if known.began == told.began && known.at >= heard.first => known.taken,
            // The replica began to count after its last report, and so nothing was missed.
            Some(_) | None if heard.before.is_some_and(|before| told.began >= before) => {
                [0; LimitKind::COUNT]
            }
            Some(_) | None => return UseChange::Unknown,
        };
        let mut change = [0; LimitKind::COUNT];
        for (change, (now, before)) in change.iter_mut().zip(taken.into_iter().zip(before)) {
            *change = now.cast_signed().wrapping_sub(before.cast_signed());
        }
        UseChange::Taken(change)
    }
}

/// Use to be told, of one name.
pub(super) struct Told {
    pub(super) use_now: Option<LimitUse>,
    /// The counters have more to tell later.
    pub(super) stays: bool,
}

fn rate_of(told: &RateUse) -> Option<(LimitKind, Rate, &RateUse)> {
    let kind = LimitKind::ALL.into_iter().find(|kind| *kind as usize == told.kind)?;
    let requests_per_second = f64::from_bits(told.requests_per_second);
    let rate = Rate { requests_per_second, burst: told.burst };
    (requests_per_second > 0.0 && told.burst > 0).then_some((kind, rate, told))
}

/// Time after which use is told once more, and as long as requests run.
const AGAIN: Duration = Duration::from_secs(1);
/// Time after which another replica's use that is not told again is forgotten. A longer time than a full bucket needs
/// would cost memory only.
const FORGOTTEN: Duration = Duration::from_secs(600);

//! Series of one mount, one tenant, one account or one model of the configuration. A directory holds them, so that a
//! request looks no label up. A reload finds the series of the last directory again; series that no directory holds are
//! dropped.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Instant;

use hyper::StatusCode;
use parking_lot::Mutex;
use prometheus::Histogram;
use strum::VariantArray;

use super::counter_grid::CounterGrid;
use super::family;
use super::label::{DeliveryResult, Outcome, Reason, StatusLabel};
use super::pair_counts::PairCounts;
use super::use_counts::UseCounts;
use crate::dashscope::error_code;
use crate::dashscope::operation::Operation;
use crate::dashscope::refusal::Throttling;
use crate::dashscope::usage::Units;

pub(super) const OPERATIONS: usize = Operation::ALL.len();
const ENDS: usize = StatusLabel::COUNT * Outcome::NAMES.len();

/// Series of one mount.
#[derive(Debug)]
pub struct MountSeries {
    pub(super) prefix: Arc<str>,
    requests: CounterGrid<OPERATIONS, ENDS>,
}

impl MountSeries {
    pub(super) fn new(prefix: &Arc<str>) -> Self {
        Self { prefix: Arc::clone(prefix), requests: CounterGrid::default() }
    }

    pub fn count_request(&self, operation: Operation, status: Option<StatusCode>, outcome: Outcome) {
        let column = StatusLabel::of(status).index() * Outcome::NAMES.len() + outcome.index();
        self.requests.count(operation as usize, column);
    }

    /// Operation, code, outcome and count.
    pub(super) fn requests(&self) -> impl Iterator<Item = (&'static str, String, &'static str, u64)> {
        self.requests.counted().map(|(operation, column, count)| {
            let (code, outcome) = (column / Outcome::NAMES.len(), column % Outcome::NAMES.len());
            (Operation::ALL[operation].name(), StatusLabel::name(code), Outcome::NAMES[outcome], count)
        })
    }
}

/// Series of one tenant; or of all tenants past the first thousand; or of requests without a known tenant.
#[derive(Debug)]
pub struct TenantSeries {
    pub(super) name: Arc<str>,
    requests: CounterGrid<OPERATIONS, { StatusLabel::COUNT }>,
    pub(super) rejections: [AtomicU64; Reason::ALL.len()],
    pub(super) uses: UseCounts,
    /// Billionths of the currency's unit.
    pub(super) spent: AtomicU64,
    /// Tries to deliver webhooks, by their result.
    pub(super) deliveries: [AtomicU64; DeliveryResult::VARIANTS.len()],
}

impl TenantSeries {
    pub(super) fn new(name: &Arc<str>) -> Self {
        let rejections = [const { AtomicU64::new(0) }; Reason::ALL.len()];
        Self {
            name: Arc::clone(name),
            requests: CounterGrid::default(),
            rejections,
            uses: UseCounts::default(),
            spent: AtomicU64::new(0),
            deliveries: [const { AtomicU64::new(0) }; DeliveryResult::VARIANTS.len()],
        }
    }

    pub fn count_request(&self, operation: Operation, status: Option<StatusCode>, outcome: Outcome) {
        self.requests.count(operation as usize, StatusLabel::of(status).index());
        if let Some(reason) = outcome.reason() {
            self.rejections[reason as usize].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts what one entry of the ledger says was used.
    pub fn count_use(&self, model: &ModelSeries, units: &Units, class: &str) {
        self.uses.count(&model.name, units, class);
    }

    /// Counts what one entry of the ledger says was charged for a use, in billionths of the currency's unit. A negative
    /// charge counts as none.
    pub fn count_spend(&self, nanos: i64) {
        self.spent.fetch_add(u64::try_from(nanos).unwrap_or(0), Ordering::Relaxed);
    }

    /// Counts a try to deliver a webhook.
    pub fn count_delivery(&self, result: DeliveryResult) {
        self.deliveries[result as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Value of the label: the tenant's name, unless it shares the series of others.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Operation, code and count.
    pub(super) fn requests(&self) -> impl Iterator<Item = (&'static str, String, u64)> {
        by_code(&self.requests)
    }
}

/// Requests of one tenant that run: admitted, and not answered to the end.
#[derive(Debug, Default)]
pub struct RunningRequests(AtomicI64);

impl RunningRequests {
    pub fn begin(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub fn end(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    pub fn count(&self) -> u64 {
        u64::try_from(self.0.load(Ordering::Relaxed)).unwrap_or(0)
    }
}

/// Series of one account.
#[derive(Debug)]
pub struct AccountSeries {
    pub(super) name: Arc<str>,
    attempts: CounterGrid<OPERATIONS, { StatusLabel::COUNT }>,
    pub(super) throttled: [AtomicU64; Throttling::ALL.len()],
    pub(super) unread_submits: AtomicU64,
    /// Errors by operation and code.
    pub(super) errors: PairCounts,
    /// Milliseconds by which the upstream's clock is ahead of ours; [`NO_SKEW`] before the first answer.
    clock_skew: AtomicI64,
    /// The clocks were told to differ.
    clocks_differ: AtomicBool,
    pub(super) durations: [OnceLock<Histogram>; OPERATIONS],
}

impl AccountSeries {
    pub(super) fn new(name: &Arc<str>) -> Self {
        Self {
            name: Arc::clone(name),
            attempts: CounterGrid::default(),
            throttled: [const { AtomicU64::new(0) }; Throttling::ALL.len()],
            unread_submits: AtomicU64::new(0),
            errors: PairCounts::default(),
            clock_skew: AtomicI64::new(NO_SKEW),
            clocks_differ: AtomicBool::new(false),
            durations: [const { OnceLock::new() }; OPERATIONS],
        }
    }

    /// Starts one attempt to get an answer.
    pub fn start_attempt(&self, operation: Operation, now: Instant) -> UpstreamAttempt<'_> {
        UpstreamAttempt { account: self, operation, began: now, answer: None }
    }

    /// Counts an answer by which the upstream throttles the account.
    pub fn count_throttled(&self, kind: Throttling) {
        self.throttled[kind as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a submit that the account accepted with an answer that could not be read.
    pub fn count_unread_submit(&self) {
        self.unread_submits.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts an answer that is an error, by its code.
    pub fn count_error(&self, operation: Operation, code: &str) {
        self.errors.count(operation.name(), error_code::label(code));
    }

    /// Notes by how many milliseconds the upstream's clock is ahead of ours; below zero: behind. Returns true
    /// if the clocks have begun to differ by more than `most`, and false if they agree again.
    pub fn note_clock_skew(&self, milliseconds: i64, most: i64) -> Option<bool> {
        self.clock_skew.store(milliseconds.max(NO_SKEW + 1), Ordering::Relaxed);
        let (differed, difference) =
            (self.clocks_differ.load(Ordering::Relaxed), milliseconds.saturating_abs());
        // Dates have whole seconds: a difference of about `most` is told once, and not at each answer.
        let agrees_from = most - most / 4;
        let differ = if differed { difference > agrees_from } else { difference > most };
        (differ != differed).then(|| {
            self.clocks_differ.store(differ, Ordering::Relaxed);
            differ
        })
    }

    /// Seconds of [`AccountSeries::note_clock_skew`]; `None` before the first answer.
    pub(super) fn clock_skew(&self) -> Option<f64> {
        let milliseconds = self.clock_skew.load(Ordering::Relaxed);
        (milliseconds != NO_SKEW).then(|| milliseconds as f64 / 1_000.0)
    }

    /// Operation, code and count.
    pub(super) fn attempts(&self) -> impl Iterator<Item = (&'static str, String, u64)> {
        by_code(&self.attempts)
    }
}

/// One request to an account. The attempt is counted when it is dropped; without an answer by then, for example because
/// the client left, it counts with the code `none`.
#[derive(Debug)]
#[must_use]
pub struct UpstreamAttempt<'a> {
    account: &'a AccountSeries,
    operation: Operation,
    began: Instant,
    answer: Option<(StatusCode, Instant)>,
}

impl UpstreamAttempt<'_> {
    /// Ends the attempt with the head of an answer.
    pub fn answered(mut self, status: StatusCode, now: Instant) {
        self.answer = Some((status, now));
    }
}

impl Drop for UpstreamAttempt<'_> {
    fn drop(&mut self) {
        let (status, ended) =
            self.answer.map_or_else(|| (None, Instant::now()), |(code, at)| (Some(code), at));
        let row = self.operation as usize;
        self.account.attempts.count(row, StatusLabel::of(status).index());
        let make = || family::upstream_duration(&self.account.name, self.operation);
        let duration = self.account.durations[row].get_or_init(make);
        duration.observe(ended.saturating_duration_since(self.began).as_secs_f64());
    }
}

/// Series of one model, or pattern of models, that the configuration names; or of all other models.
#[derive(Debug)]
pub struct ModelSeries {
    pub(super) name: Arc<str>,
    /// Seconds from a task's submit to its end.
    pub task_durations: Histogram,
    pub(super) unread_uses: AtomicU64,
    pub(super) unpriced_uses: AtomicU64,
    /// Ends of tasks by status and code.
    pub(super) ends: PairCounts,
}

impl ModelSeries {
    pub(super) fn new(name: &Arc<str>) -> Self {
        Self {
            name: Arc::clone(name),
            task_durations: family::task_duration(name),
            unread_uses: AtomicU64::new(0),
            unpriced_uses: AtomicU64::new(0),
            ends: PairCounts::default(),
        }
    }

    /// Counts an entry of the ledger whose `usage` was not understood.
    pub fn count_unread_use(&self) {
        self.unread_uses.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts an entry of the ledger of which something has no price, of a tenant with prices.
    pub fn count_unpriced_use(&self) {
        self.unpriced_uses.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts the end of a task. Both texts come from closed sets.
    pub fn count_end(&self, status: &'static str, code: &'static str) {
        self.ends.count(status, code);
    }

    /// Value of the label.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }
}

fn by_code(
    grid: &CounterGrid<OPERATIONS, { StatusLabel::COUNT }>,
) -> impl Iterator<Item = (&'static str, String, u64)> {
    let named = |(operation, code, count): (usize, usize, u64)| {
        (Operation::ALL[operation].name(), StatusLabel::name(code), count)
    };
    grid.counted().map(named)
}

/// Series of one kind that are in use, by name.
#[derive(Debug)]
pub(super) struct SeriesByName<T>(Mutex<BTreeMap<Arc<str>, Weak<T>>>);

impl<T> Default for SeriesByName<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> SeriesByName<T> {
    /// Returns the series of this name, and makes it if it is not in use.
    pub(super) fn named(&self, name: &Arc<str>, make: impl FnOnce(&Arc<str>) -> T) -> Arc<T> {
        let mut series_by_name = self.0.lock();
        if let Some(series) = series_by_name.get(name).and_then(Weak::upgrade) {
            return series;
        }
        // Entries that a reload left unused may stay until the map doubles.
        if series_by_name.len().is_power_of_two() {
            series_by_name.retain(|_, series| series.strong_count() > 0);
        }
        let series = Arc::new(make(name));
        series_by_name.insert(Arc::clone(name), Arc::downgrade(&series));
        series
    }

    /// All series, in the order of their names.
    pub(super) fn all(&self) -> Vec<Arc<T>> {
        let mut series_by_name = self.0.lock();
        series_by_name.retain(|_, series| series.strong_count() > 0);
        series_by_name.values().filter_map(Weak::upgrade).collect()
    }

    /// Number of entries, unused ones included.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.lock().len()
    }
}

/// Stands for a clock skew that was never measured.
const NO_SKEW: i64 = i64::MIN;

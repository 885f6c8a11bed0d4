//! Housekeeping of the process, on one thread: expired records, deleted keys, idle limits, submits
//! whose answer is lost, budgets that run out, events for webhooks, last uses of keys.

use std::convert::Infallible;
use std::time::{Duration, Instant, SystemTime};

use tokio::time::{MissedTickBehavior, interval};

use super::budget_watch::BudgetWatch;
use super::deletion_date::DeletionDate;
use super::event_watch::EventWatch;
use super::key_uses::KeyUseWriter;
use crate::proxy::Shared;

/// Runs twice a second until it is dropped.
pub async fn run(shared: Shared) -> Infallible {
    let mut tick = interval(PERIOD);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut housekeeper = Housekeeper::new(shared, Instant::now());
    loop {
        tick.tick().await;
        housekeeper.turn(SystemTime::now(), Instant::now());
        housekeeper.shared.judge_lost_submits().await;
        housekeeper.key_uses.write(&housekeeper.shared, Instant::now()).await;
    }
}

/// State between two turns of the housekeeping.
pub struct Housekeeper {
    shared: Shared,
    deletion_date: DeletionDate,
    budget_watch: BudgetWatch,
    event_watch: EventWatch,
    key_uses: KeyUseWriter,
    next_look_at_budgets: Instant,
    /// Next deletion of expired records from memory.
    next_sweep: Instant,
    /// Next deletion of expired rows from the store.
    next_tidy: Instant,
}

impl Housekeeper {
    pub fn new(shared: Shared, now: Instant) -> Self {
        Self {
            shared,
            deletion_date: DeletionDate::new(now),
            budget_watch: BudgetWatch::default(),
            event_watch: EventWatch::new(now),
            key_uses: KeyUseWriter::new(now),
            next_look_at_budgets: now,
            next_sweep: now,
            next_tidy: now,
        }
    }

    /// Does what is due; `clock` is what the wall clock says.
    pub fn turn(&mut self, clock: SystemTime, now: Instant) {
        let date = self.deletion_date.read(clock, now);
        if let Some(date) = date {
            self.delete_expired(date, now);
        }
        for digest in self.shared.store.dropped_keys() {
            self.shared.keyring.remove(&digest);
        }
        self.shared.limits.sweep(date);
        if now >= self.next_look_at_budgets {
            self.next_look_at_budgets = now + BUDGET_PERIOD;
            self.budget_watch.look(&self.shared, clock);
            self.event_watch.look(&self.shared, clock, now);
        }
    }

    fn delete_expired(&mut self, date: SystemTime, now: Instant) {
        if now >= self.next_tidy {
            let period = if self.shared.store.has_replicas() { SHARED_TIDY_PERIOD } else { TIDY_PERIOD };
            self.next_tidy = now + period;
            self.shared.store.tidy(date);
        }
        if now >= self.next_sweep {
            let is_done = self.shared.hub.forget_expired(date, MOST_PER_SWEEP) < MOST_PER_SWEEP;
            self.next_sweep = if is_done { now + SWEEP_PERIOD } else { now };
            self.shared.uploads.forget_expired(date);
        }
    }
}

const PERIOD: Duration = Duration::from_millis(500);
/// Time between two looks at the budgets of all tenants.
const BUDGET_PERIOD: Duration = Duration::from_secs(5);
const TIDY_PERIOD: Duration = Duration::from_secs(600);
/// A replica that ended has left submits that nobody waits for; others see that when they tidy.
const SHARED_TIDY_PERIOD: Duration = Duration::from_secs(60);
/// A sweep looks at each tenant's oldest task.
const SWEEP_PERIOD: Duration = Duration::from_secs(60);
/// Tasks that one sweep forgets, in some milliseconds. Two sweeps a second keep up with more submits than a gateway has.
const MOST_PER_SWEEP: usize = 10_000;

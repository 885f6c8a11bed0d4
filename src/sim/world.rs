//! All that the simulator knows, shared by its connections.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use super::account::Accounts;
use super::errors::Refusal;
use super::fault::Script;
use super::journal::Journal;
use super::options::{Options, Throttle};
use super::signature::Secret;
use super::tasks::{Failure, Pace, Tasks};
use super::upload::Uploads;
use super::{oss, outcome};

pub(super) struct World {
    pub(super) options: Options,
    pub(super) accounts: Mutex<Accounts>,
    pub(super) tasks: Mutex<Tasks>,
    pub(super) uploads: Mutex<Uploads>,
    pub(super) script: Mutex<Script>,
    pub(super) journal: Journal,
    pub(super) secret: Secret,
    pub(super) open: Arc<AtomicUsize>,
    /// Connections ever taken.
    pub(super) accepted: AtomicU64,
    pub(super) oss_url: String,
    throttle: Mutex<Option<Throttle>>,
    failures: Mutex<Share>,
    throttled: Mutex<Share>,
    skew_millis: AtomicU64,
}

impl World {
    pub(super) fn new(options: Options, oss_address: SocketAddr) -> World {
        let pace = Pace {
            pending: options.pending(),
            run: options.run,
            jitter: options.run_jitter,
            lifetime: options.task_lifetime,
        };
        let mut script = Script::default();
        options.faults.iter().cloned().for_each(|fault| script.add(fault));
        let oss_url = options.oss_url.clone().unwrap_or_else(|| format!("http://{oss_address}"));
        World {
            accounts: Mutex::new(Accounts::new(&options.keys, &options.overdue)),
            tasks: Mutex::new(Tasks::new(pace)),
            uploads: Mutex::default(),
            script: Mutex::new(script),
            journal: Journal::new(options.journal),
            secret: Secret::random(),
            open: Arc::default(),
            accepted: AtomicU64::new(0),
            oss_url: oss_url.trim_end_matches('/').to_owned(),
            throttle: Mutex::new(options.throttle),
            failures: Mutex::default(),
            throttled: Mutex::default(),
            skew_millis: AtomicU64::new(0),
            options,
        }
    }

    pub(super) fn now(&self) -> SystemTime {
        SystemTime::now() + Duration::from_millis(self.skew_millis.load(Ordering::SeqCst))
    }

    pub(super) fn advance(&self, by: Duration) {
        self.skew_millis.fetch_add(by.as_millis() as u64, Ordering::SeqCst);
    }

    /// How the next task fails, if it is its turn.
    pub(super) fn next_failure(&self) -> Option<Failure> {
        let due = lock(&self.failures).take(self.options.failure_rate);
        due.then(|| Failure { code: outcome::FAILURE_CODE.into(), message: outcome::FAILURE_MESSAGE.into() })
    }

    pub(super) fn set_throttle(&self, throttle: Option<Throttle>) {
        *lock(&self.throttle) = throttle;
    }

    /// Refuses the share of inference calls that is to be throttled.
    pub(super) fn throttle(&self) -> Result<(), Refusal> {
        let Some(throttle) = *lock(&self.throttle) else { return Ok(()) };
        if lock(&self.throttled).take(throttle.rate) {
            return Err(Refusal::throttled(throttle.kind));
        }
        Ok(())
    }

    /// A signed URL for a result, good until the time given.
    pub(super) fn sign(&self, name: &str, until: SystemTime) -> String {
        oss::signed_url(&self.secret, &self.oss_url, name, until)
    }
}

/// Spreads a rate evenly: at 0.25 it takes every fourth.
#[derive(Default)]
struct Share(f64);

impl Share {
    fn take(&mut self, rate: f64) -> bool {
        self.0 += rate.clamp(0.0, 1.0);
        let due = self.0 >= 1.0;
        if due {
            self.0 -= 1.0;
        }
        due
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::Share;

    #[test]
    fn a_share_is_spread_evenly() {
        let mut share = Share::default();
        let taken: Vec<bool> = (0..8).map(|_| share.take(0.25)).collect();
        assert_eq!(taken, [false, false, false, true, false, false, false, true]);
        assert!(Share::default().take(1.0));
        assert!(!Share::default().take(0.0));
    }
}

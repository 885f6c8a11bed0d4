//! State of the simulator, shared by all its connections.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;

use super::account::SimulatedAccounts;
use super::bill::{self, SimulatedBill};
use super::errors::ErrorAnswer;
use super::even_share::EvenShare;
use super::fault::FaultScript;
use super::journal::Journal;
use super::options::{SimulatorOptions, ThrottledShare};
use super::signature::SigningSecret;
use super::tasks::{SimulatedFailure, SimulatedTasks, TaskTimes};
use super::upload::SimulatedUploads;
use super::{outcome, signature};

pub(super) struct SimulatorState {
    pub(super) options: SimulatorOptions,
    pub(super) accounts: Mutex<SimulatedAccounts>,
    pub(super) tasks: Mutex<SimulatedTasks>,
    pub(super) uploads: Mutex<SimulatedUploads>,
    pub(super) script: Mutex<FaultScript>,
    pub(super) journal: Journal,
    pub(super) bill: SimulatedBill,
    pub(super) secret: SigningSecret,
    pub(super) open: Arc<AtomicUsize>,
    /// Number of connections accepted since the start.
    pub(super) accepted: AtomicU64,
    pub(super) oss_url: String,
    throttle: Mutex<Option<ThrottledShare>>,
    failures: Mutex<EvenShare>,
    throttled: Mutex<EvenShare>,
    skew_millis: AtomicU64,
}

impl SimulatorState {
    pub(super) fn new(options: SimulatorOptions, oss_address: SocketAddr) -> SimulatorState {
        let pace = TaskTimes {
            pending: options.pending(),
            run: options.run,
            jitter: options.run_jitter,
            lifetime: options.task_lifetime,
        };
        let bill = SimulatedBill::new(bill::KEPT_BYTES);
        let mut script = FaultScript::default();
        options.faults.iter().cloned().for_each(|fault| script.add(fault));
        let oss_url = options.oss_url.clone().unwrap_or_else(|| format!("http://{oss_address}"));
        SimulatorState {
            accounts: Mutex::new(SimulatedAccounts::new(&options.keys, &options.overdue)),
            tasks: Mutex::new(SimulatedTasks::new(pace, bill.clone())),
            uploads: Mutex::default(),
            script: Mutex::new(script),
            journal: Journal::new(options.journal),
            bill,
            secret: SigningSecret::random(),
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

    /// Failure of the next task, if `failure_rate` makes this task fail.
    pub(super) fn next_failure(&self) -> Option<SimulatedFailure> {
        let due = self.failures.lock().take(self.options.failure_rate);
        due.then(|| SimulatedFailure {
            code: outcome::FAILURE_CODE.into(),
            message: outcome::FAILURE_MESSAGE.into(),
        })
    }

    pub(super) fn set_throttle(&self, throttle: Option<ThrottledShare>) {
        *self.throttle.lock() = throttle;
    }

    /// Refuses an inference call, if the throttled share includes this call.
    pub(super) fn throttle(&self) -> Result<(), ErrorAnswer> {
        let Some(throttle) = *self.throttle.lock() else { return Ok(()) };
        if self.throttled.lock().take(throttle.rate) {
            return Err(ErrorAnswer::throttled(throttle.kind));
        }
        Ok(())
    }

    /// A signed URL for a result, valid until the given time.
    pub(super) fn sign(&self, name: &str, until: SystemTime) -> String {
        signature::signed_url(&self.secret, &self.oss_url, name, until)
    }
}

//! The life of the asynchronous tasks.

use std::collections::HashMap;
use std::ops::Range;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use super::account::SimulatedCaller;
use super::bill::{BilledWork, SimulatedBill};
use super::consumption::Consumption;
use super::models::{Service, SimulatedFamily};
use super::queue::{QueueEvent, SimulatedQueue};
use super::task_request::TaskRequest;

/// The states a query may show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SimulatedStatus {
    Pending,
    Running,
    Suspended,
    Succeeded,
    Failed,
    Canceled,
    Unknown,
}

impl SimulatedStatus {
    const ALL: [SimulatedStatus; 7] = [
        SimulatedStatus::Pending,
        SimulatedStatus::Running,
        SimulatedStatus::Suspended,
        SimulatedStatus::Succeeded,
        SimulatedStatus::Failed,
        SimulatedStatus::Canceled,
        SimulatedStatus::Unknown,
    ];

    pub fn name(self) -> &'static str {
        match self {
            SimulatedStatus::Pending => "PENDING",
            SimulatedStatus::Running => "RUNNING",
            SimulatedStatus::Suspended => "SUSPENDED",
            SimulatedStatus::Succeeded => "SUCCEEDED",
            SimulatedStatus::Failed => "FAILED",
            SimulatedStatus::Canceled => "CANCELED",
            SimulatedStatus::Unknown => "UNKNOWN",
        }
    }

    pub(super) fn has_ended(self) -> bool {
        match self {
            SimulatedStatus::Succeeded
            | SimulatedStatus::Failed
            | SimulatedStatus::Canceled
            | SimulatedStatus::Unknown => true,
            SimulatedStatus::Pending | SimulatedStatus::Running | SimulatedStatus::Suspended => false,
        }
    }
}

impl FromStr for SimulatedStatus {
    type Err = ();

    fn from_str(text: &str) -> Result<SimulatedStatus, ()> {
        SimulatedStatus::ALL.into_iter().find(|status| status.name() == text).ok_or(())
    }
}

/// Why a task failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SimulatedFailure {
    pub(super) code: String,
    pub(super) message: String,
}

#[derive(Clone, Debug)]
pub(super) struct SimulatedTask {
    pub(super) id: String,
    pub(super) request_id: String,
    pub(super) caller: SimulatedCaller,
    pub(super) model: String,
    pub(super) family: SimulatedFamily,
    pub(super) service: Service,
    /// The body of the submit, with long strings cut.
    pub(super) body: Value,
    /// Consumption, if the task succeeds.
    pub(super) consumption: Consumption,
    pub(super) submitted: SystemTime,
    pub(super) started: Option<SystemTime>,
    pub(super) ended: Option<SystemTime>,
    pub(super) status: SimulatedStatus,
    /// The failure of a task that will fail or has failed.
    pub(super) failure: Option<SimulatedFailure>,
    /// Status that a test has fixed, whatever the clock says.
    pub(super) pinned: Option<SimulatedStatus>,
    /// Times at which a list and the answer to a query first showed that the task had ended.
    pub(super) listed: Option<SystemTime>,
    pub(super) answered: Option<SystemTime>,
}

impl SimulatedTask {
    pub(super) fn shown(&self) -> SimulatedStatus {
        self.pinned.unwrap_or(self.status)
    }

    pub(super) fn request(&self) -> TaskRequest<'_> {
        TaskRequest { family: self.family, model: &self.model, body: &self.body }
    }

    /// Ends the task, and writes its line of the bill. A status that a test has fixed is not billed.
    fn end(&mut self, status: SimulatedStatus, now: SystemTime, bill: &SimulatedBill) {
        self.status = status;
        self.ended = Some(now);
        let work = BilledWork {
            id: self.id.clone(),
            model: self.model.clone(),
            account: self.caller.account.clone(),
        };
        let used = (status == SimulatedStatus::Succeeded).then_some(&self.consumption);
        bill.write_task(&work, status.name(), used);
    }
}

/// Durations in the life of a task.
#[derive(Clone, Copy, Debug)]
pub(super) struct TaskTimes {
    pub(super) pending: Duration,
    pub(super) run: Duration,
    /// Share by which the time of a run may be shorter or longer.
    pub(super) jitter: f64,
    /// Time from the submit until the id turns UNKNOWN.
    pub(super) lifetime: Duration,
}

impl TaskTimes {
    /// Time that the Nth task runs. Multiples of the golden ratio spread evenly, for few tasks too.
    fn run_of(&self, number: u64) -> Duration {
        let place = (number as f64 * GOLDEN_RATIO).fract();
        self.run.mul_f64(1.0 + self.jitter.clamp(0.0, 1.0) * (2.0 * place - 1.0))
    }

    /// Time at which the id turns UNKNOWN and the results are deleted.
    pub(super) fn end_of_life(&self, task: &SimulatedTask) -> SystemTime {
        let lifetime = if task.family == SimulatedFamily::ThreeD {
            self.lifetime.min(THREE_D_LIFETIME)
        } else {
            self.lifetime
        };
        task.submitted + lifetime
    }
}

/// Why a task was not canceled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CancelRefusal {
    Unknown,
    NotPending,
}

/// The tasks that a list shows: those that were submitted from `start` to `end`, and of these the ones that `keeps`.
pub(super) struct SimulatedListing<'f> {
    pub(super) start: SystemTime,
    pub(super) end: SystemTime,
    /// `None`: all.
    pub(super) keeps: Option<&'f dyn Fn(&SimulatedTask) -> bool>,
}

/// All tasks of all accounts. Their states follow from the times given.
pub(super) struct SimulatedTasks {
    pace: TaskTimes,
    bill: SimulatedBill,
    by_id: HashMap<String, SimulatedTask>,
    /// Submits' times and ids by account, the oldest first.
    by_time: HashMap<String, Vec<(SystemTime, String)>>,
    /// Tasks that have not ended, by account and model.
    queues: HashMap<(String, String), SimulatedQueue>,
    /// Number of tasks that have begun to run.
    begun: u64,
    last_purge: SystemTime,
}

impl SimulatedTasks {
    pub(super) fn new(pace: TaskTimes, bill: SimulatedBill) -> SimulatedTasks {
        let last_purge = SystemTime::UNIX_EPOCH;
        let (by_id, by_time) = (HashMap::new(), HashMap::new());
        SimulatedTasks { pace, bill, by_id, by_time, queues: HashMap::new(), begun: 0, last_purge }
    }

    /// Adds a task. At most `running` tasks of its account and model run at a time.
    pub(super) fn submit(&mut self, task: SimulatedTask, running: usize) {
        self.purge(task.submitted);
        let queue = self.queues.entry(queue_of(&task)).or_insert_with(|| SimulatedQueue::new(running));
        queue.wait(task.id.clone(), task.submitted + self.pace.pending);
        let order = self.by_time.entry(task.caller.account.clone()).or_default();
        let place = (task.submitted, task.id.clone());
        order.insert(order.partition_point(|earlier| *earlier < place), place);
        self.by_id.insert(task.id.clone(), task);
    }

    /// A task as its account sees it now.
    pub(super) fn find(&mut self, id: &str, account: &str, now: SystemTime) -> Option<&SimulatedTask> {
        let task = self.by_id.get(id).filter(|task| task.caller.account == account)?;
        if self.pace.end_of_life(task) <= now {
            return None;
        }
        let queue = queue_of(task);
        self.advance(&queue, now);
        self.by_id.get(id)
    }

    /// A task as its account sees it now, for the answer to a query.
    pub(super) fn query(&mut self, id: &str, account: &str, now: SystemTime) -> Option<&SimulatedTask> {
        self.find(id, account, now)?;
        let task = self.by_id.get_mut(id)?;
        if task.shown().has_ended() {
            task.answered.get_or_insert(now);
        }
        Some(task)
    }

    /// Number of an account's tasks that a list shows, and one page of them, the newest first. A list of all reads no
    /// more than its page, as an account may have a million tasks.
    pub(super) fn list(
        &mut self,
        account: &str,
        now: SystemTime,
        listed: &SimulatedListing<'_>,
        page: Range<usize>,
    ) -> (usize, Vec<&SimulatedTask>) {
        let queues: Vec<_> = self.queues.keys().filter(|queue| queue.0 == account).cloned().collect();
        queues.iter().for_each(|queue| self.advance(queue, now));
        let (lifetime, order) =
            (self.pace.lifetime, self.by_time.get(account).map_or(&[][..], Vec::as_slice));
        let first = order.partition_point(|(at, _)| *at < listed.start || *at + lifetime <= now);
        let end = order.partition_point(|(at, _)| *at <= listed.end).max(first);
        let newest_first = order[first..end].iter().rev().map(|(_, id)| id);
        let (total, ids): (usize, Vec<&String>) = match listed.keeps {
            None => (end - first, newest_first.skip(page.start).take(page.len()).collect()),
            Some(keeps) => {
                let kept: Vec<_> = newest_first.filter(|id| self.by_id.get(*id).is_some_and(keeps)).collect();
                (kept.len(), kept.into_iter().skip(page.start).take(page.len()).collect())
            }
        };
        for id in &ids {
            if let Some(task) = self.by_id.get_mut(*id).filter(|task| task.shown().has_ended()) {
                task.listed.get_or_insert(now);
            }
        }
        (total, ids.into_iter().filter_map(|id| self.by_id.get(id)).collect())
    }

    pub(super) fn all(&mut self, now: SystemTime) -> Vec<SimulatedTask> {
        self.advance_all(now);
        let mut tasks: Vec<SimulatedTask> = self.by_id.values().cloned().collect();
        tasks.sort_by_key(|task| task.submitted);
        tasks
    }

    pub(super) fn cancel(&mut self, id: &str, account: &str, now: SystemTime) -> Result<(), CancelRefusal> {
        let task = self.find(id, account, now).ok_or(CancelRefusal::Unknown)?;
        if task.shown() != SimulatedStatus::Pending || task.status.has_ended() {
            return Err(CancelRefusal::NotPending);
        }
        self.end(id, SimulatedStatus::Canceled, now);
        Ok(())
    }

    /// Fixes the status of a task, or lets the task go on.
    pub(super) fn pin(&mut self, id: &str, status: Option<SimulatedStatus>) -> bool {
        let Some(task) = self.by_id.get_mut(id) else { return false };
        task.pinned = status;
        true
    }

    /// Ends a task at once, with a failure or without, and its status is no longer fixed. A task that has ended keeps
    /// its end.
    pub(super) fn finish(&mut self, id: &str, failure: Option<SimulatedFailure>, now: SystemTime) -> bool {
        let Some(queue) = self.by_id.get(id).map(queue_of) else { return false };
        self.advance(&queue, now);
        let Some(task) = self.by_id.get_mut(id) else { return false };
        task.pinned = None;
        if !task.status.has_ended() {
            let status = if failure.is_some() { SimulatedStatus::Failed } else { SimulatedStatus::Succeeded };
            task.failure = failure;
            task.started.get_or_insert(now);
            self.end(id, status, now);
        }
        true
    }

    /// The bill of all tasks that ended up to `now`, and of all calls.
    pub(super) fn bill(&mut self, now: SystemTime) -> String {
        self.advance_all(now);
        self.bill.page()
    }

    fn end(&mut self, id: &str, status: SimulatedStatus, now: SystemTime) {
        let Some(task) = self.by_id.get_mut(id) else { return };
        task.pinned = None;
        task.end(status, now, &self.bill);
        if let Some(queue) = self.queues.get_mut(&queue_of(task)) {
            queue.leave(id, now);
        }
    }

    fn advance_all(&mut self, now: SystemTime) {
        let queues: Vec<_> = self.queues.keys().cloned().collect();
        queues.iter().for_each(|queue| self.advance(queue, now));
    }

    /// Applies the events of a queue up to `now`, in the order of time.
    fn advance(&mut self, key: &(String, String), now: SystemTime) {
        let Some(queue) = self.queues.get_mut(key) else { return };
        while let Some(event) = queue.next_event(now) {
            match event {
                QueueEvent::Starts(id, at) => {
                    if let Some(task) = self.by_id.get_mut(&id) {
                        task.status = SimulatedStatus::Running;
                        task.started = Some(at);
                        queue.run(id, at + self.pace.run_of(self.begun));
                        self.begun += 1;
                    }
                }
                QueueEvent::Ends(id, at) => {
                    if let Some(task) = self.by_id.get_mut(&id) {
                        let has_failed = task.failure.is_some();
                        let status =
                            if has_failed { SimulatedStatus::Failed } else { SimulatedStatus::Succeeded };
                        task.end(status, at, &self.bill);
                    }
                }
            }
        }
    }

    /// Forgets expired tasks from time to time. Their ends are billed before, also where nobody asked for them.
    fn purge(&mut self, now: SystemTime) {
        if now < self.last_purge + Duration::from_secs(60) {
            return;
        }
        self.last_purge = now;
        self.advance_all(now);
        let pace = self.pace;
        self.by_id.retain(|_, task| pace.end_of_life(task) > now);
        self.by_time.values_mut().for_each(|order| order.retain(|(_, id)| self.by_id.contains_key(id)));
        for queue in self.queues.values_mut() {
            queue.forget(|id| !self.by_id.contains_key(id));
        }
    }
}

fn queue_of(task: &SimulatedTask) -> (String, String) {
    (task.caller.account.clone(), task.model.clone())
}

const GOLDEN_RATIO: f64 = 0.618_033_988_749_894_8;
const THREE_D_LIFETIME: Duration = Duration::from_secs(2 * 3600);

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use serde_json::json;

    pub(in crate::sim) fn at(seconds: f64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000) + Duration::from_secs_f64(seconds)
    }

    pub(in crate::sim) fn task(id: &str, model: &str, body: Value) -> SimulatedTask {
        let family = super::super::models::find(model).unwrap().family;
        SimulatedTask {
            id: id.into(),
            request_id: "r".into(),
            caller: SimulatedCaller { account: "main".into(), key: "sk-1".into() },
            model: model.into(),
            family,
            consumption: super::super::usage::consumption(TaskRequest { family, model, body: &body }),
            service: Service::VideoSynthesis,
            body,
            submitted: at(0.0),
            started: None,
            ended: None,
            status: SimulatedStatus::Pending,
            failure: None,
            pinned: None,
            listed: None,
            answered: None,
        }
    }

    fn tasks() -> SimulatedTasks {
        let seconds = Duration::from_secs;
        let (pending, run, lifetime) = (seconds(1), seconds(10), seconds(86_400));
        SimulatedTasks::new(TaskTimes { pending, run, jitter: 0.0, lifetime }, SimulatedBill::new(100_000))
    }

    fn status(tasks: &mut SimulatedTasks, id: &str, seconds: f64) -> Option<SimulatedStatus> {
        tasks.find(id, "main", at(seconds)).map(SimulatedTask::shown)
    }

    #[test]
    fn a_task_waits_runs_and_succeeds_then_is_forgotten() {
        let mut tasks = tasks();
        tasks.submit(task("a", "wan2.7-t2v", json!({})), 5);
        assert_eq!(status(&mut tasks, "a", 0.9), Some(SimulatedStatus::Pending));
        assert_eq!(status(&mut tasks, "a", 1.0), Some(SimulatedStatus::Running));
        assert_eq!(status(&mut tasks, "a", 11.0), Some(SimulatedStatus::Succeeded));
        assert_eq!(status(&mut tasks, "a", 86_400.0), None);
        assert!(tasks.find("a", "other", at(0.0)).is_none());
    }

    #[test]
    fn over_the_running_limit_a_task_waits_for_a_place() {
        let mut tasks = tasks();
        for id in ["a", "b", "c"] {
            tasks.submit(task(id, "wan2.7-t2v", json!({})), 2);
        }
        assert_eq!(status(&mut tasks, "c", 10.9), Some(SimulatedStatus::Pending));
        assert_eq!(status(&mut tasks, "c", 11.0), Some(SimulatedStatus::Running));
        let started = tasks.find("c", "main", at(30.0)).unwrap().started;
        assert_eq!(started, Some(at(11.0)));
        assert_eq!(status(&mut tasks, "c", 30.0), Some(SimulatedStatus::Succeeded));
    }

    #[test]
    fn only_a_pending_task_is_canceled() {
        let mut tasks = tasks();
        tasks.submit(task("a", "wan2.7-t2v", json!({})), 5);
        assert_eq!(tasks.cancel("a", "other", at(0.5)), Err(CancelRefusal::Unknown));
        assert_eq!(tasks.cancel("a", "main", at(0.5)), Ok(()));
        assert_eq!(tasks.cancel("a", "main", at(0.6)), Err(CancelRefusal::NotPending));
        assert_eq!(status(&mut tasks, "a", 50.0), Some(SimulatedStatus::Canceled));
    }

    #[test]
    fn a_pin_shows_and_lets_go() {
        let mut tasks = tasks();
        tasks.submit(task("a", "wan2.7-t2v", json!({})), 5);
        assert!(tasks.pin("a", Some(SimulatedStatus::Suspended)));
        assert_eq!(status(&mut tasks, "a", 50.0), Some(SimulatedStatus::Suspended));
        tasks.pin("a", None);
        assert_eq!(status(&mut tasks, "a", 50.0), Some(SimulatedStatus::Succeeded));
    }

    #[test]
    fn with_jitter_tasks_that_start_together_end_one_by_one() {
        let mut tasks = tasks();
        tasks.pace.jitter = 0.5;
        for number in 0..100 {
            tasks.submit(task(&number.to_string(), "wan2.7-t2v", json!({})), 100);
        }
        let ended = |tasks: &mut SimulatedTasks, seconds| {
            tasks.all(at(seconds)).iter().filter(|task| task.shown() == SimulatedStatus::Succeeded).count()
        };
        assert_eq!(ended(&mut tasks, 5.9), 0);
        assert!((48..=52).contains(&ended(&mut tasks, 11.0)));
        assert_eq!(ended(&mut tasks, 16.1), 100);
        let places: std::collections::BTreeSet<_> =
            tasks.all(at(17.0)).iter().filter_map(|task| task.ended).collect();
        assert_eq!(places.len(), 100);
    }

    fn listed<'f>(keeps: Option<&'f dyn Fn(&SimulatedTask) -> bool>) -> SimulatedListing<'f> {
        SimulatedListing { start: at(0.0), end: at(99.0), keeps }
    }

    #[test]
    fn a_page_of_the_list_is_the_newest_of_those_kept_and_notes_which_ends_it_showed() {
        let mut tasks = tasks();
        for number in 0..50_u32 {
            let mut task = task(&format!("{number:02}"), "wan2.7-t2v", json!({}));
            task.submitted = at(f64::from(number / 2));
            tasks.submit(task, 100);
        }
        let (total, page) = tasks.list("main", at(30.0), &listed(Some(&|task| task.id != "47")), 1..4);
        let ids: Vec<&str> = page.iter().map(|task| task.id.as_str()).collect();
        assert_eq!((total, ids), (49, vec!["48", "46", "45"]));
        let ended = listed(Some(&|task| task.shown().has_ended()));
        let (total, page) = tasks.list("main", at(31.0), &ended, 0..100);
        assert_eq!((total, page.len()), (42, 42));
        let some = SimulatedListing { start: at(3.0), end: at(5.0), keeps: None };
        let (total, page) = tasks.list("main", at(31.0), &some, 2..5);
        let ids: Vec<&str> = page.iter().map(|task| task.id.as_str()).collect();
        assert_eq!((total, ids), (6, vec!["09", "08", "07"]));
        assert_eq!(tasks.list("main", at(31.0), &listed(None), 60..70).1.len(), 0);
        assert_eq!(tasks.find("00", "main", at(31.0)).unwrap().listed, Some(at(31.0)));
        assert_eq!(tasks.find("49", "main", at(31.0)).unwrap().listed, None);
        assert_eq!(tasks.query("00", "main", at(32.0)).unwrap().answered, Some(at(32.0)));
        assert_eq!(tasks.query("00", "main", at(33.0)).unwrap().answered, Some(at(32.0)));
    }
}

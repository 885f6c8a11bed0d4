//! The end of a task, and its subscribers.

use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;

use super::mean_duration::MeanDurations;
use super::tracked_task::TaskAnswer;
use crate::dashscope::task::Status;
use crate::store::TaskRecord;
use crate::tasks::index::TaskIndex;
use crate::telemetry::metrics::Metrics;
use crate::tenant::directory::Directory;

/// A task has ended. Emitted once for each task, when its final answer comes.
#[derive(Debug)]
pub struct TaskEnded {
    pub record: Arc<TaskRecord>,
    /// `None` if it is too large to be held.
    pub answer: Option<Arc<TaskAnswer>>,
    /// End of the task by the upstream's clock, if its answer says.
    pub ended_at: Option<SystemTime>,
    pub learnt_at: SystemTime,
}

/// The reactions to the end of a task, in the order of [`TaskEndSubscribers::emit`].
#[derive(Debug)]
pub struct TaskEndSubscribers {
    pub(super) index: Arc<TaskIndex>,
    pub(super) mean_durations: MeanDurations,
    metrics: Arc<Metrics>,
    directory: Arc<ArcSwap<Directory>>,
}

impl TaskEndSubscribers {
    pub fn new(index: Arc<TaskIndex>, metrics: Arc<Metrics>, directory: Arc<ArcSwap<Directory>>) -> Self {
        Self { index, mean_durations: MeanDurations::default(), metrics, directory }
    }

    pub(super) fn emit(&self, ended: &TaskEnded) {
        // Slots come first: a client that learns of the end can submit the next task.
        self.index.free_slots(&ended.record);
        if ended.record.status.get() == Status::Succeeded
            && let Ok(took) = ended.ended_at().duration_since(ended.record.claimed_at())
        {
            self.mean_durations.add(&ended.record.facts.model, took);
        }
        self.measure(ended);
    }

    fn measure(&self, ended: &TaskEnded) {
        let seconds =
            |from: SystemTime, to: SystemTime| to.duration_since(from).unwrap_or_default().as_secs_f64();
        if let Some(at) = ended.ended_at {
            self.metrics.completion_lag.observe(seconds(at, ended.learnt_at));
        }
        let lasted = seconds(ended.record.claimed_at(), ended.ended_at());
        self.directory.load().model_series(&ended.record.facts.model).task_durations.observe(lasted);
    }
}

impl TaskEnded {
    /// End of the task by the upstream's clock, else by ours.
    fn ended_at(&self) -> SystemTime {
        self.ended_at.unwrap_or(self.learnt_at)
    }
}

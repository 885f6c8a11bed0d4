//! News of tasks from pages of an account's list.

use std::time::{Duration, Instant};

use super::account_poller::{AccountPoller, PageRequest};
use super::hub::{LONGEST_REST, PollHub, QueryOutcome, THROTTLED};
use crate::dashscope::task::Status;
use crate::dashscope::task_list::TaskPage;

impl PollHub {
    /// Takes in a page of a list that was asked for at `asked`.
    pub fn take_page(
        &self,
        poller: &AccountPoller,
        request: PageRequest,
        page: &TaskPage,
        asked: Instant,
        now: Instant,
    ) {
        let seen = poller.signals.since_origin(asked);
        for row in &page.data {
            let found = self.tracked.get(&row.task_id);
            let Some(task) = found.filter(|task| task.account() == poller.account()) else { continue };
            if row.status.is_final() || task.status().is_final() {
                poller.state().schedule.missing(&task, now);
            } else if task.status() == row.status {
                task.confirm(seen);
                self.tell_elsewhere(&task, now);
            } else {
                if task.is_news(seen) {
                    self.task_index().learn(&task.record, row.status);
                    task.set_answer(None, seen);
                    poller.state().schedule.sort(&task);
                }
                task.wake();
                self.tell_elsewhere(&task, now);
            }
        }
        let mut state = poller.state();
        let given = page.data.len();
        if request.number == 1 && page.total > given && given < request.size {
            state.page_size.shrink(given, now);
        }
        let began = poller.signals.since_origin(request.began);
        if state.scan(request.status).answered(request.began, page.total, page.size()) {
            state.page_size.grow(request.size, now);
            if request.status == Status::Running {
                poller.signals.set_scanned(began);
                state.schedule.miss_unheard(Status::Running, began, now);
                // Only this scan shows which of the tasks that are pending no longer have begun to run.
                if let Some((since, _)) = state.pending_scanned.take_if(|(_, over)| *over <= request.began) {
                    state.schedule.miss_unheard(Status::Pending, since, now);
                }
            } else {
                state.pending_scanned = Some((began, now));
            }
            drop(state);
            poller.signals.queries.notify_one();
        }
        poller.signals.lists.notify_one();
    }

    /// Notes that a page did not come. After a refusal as too large, smaller pages are asked for; else there is a pause.
    pub fn page_failed(
        &self,
        poller: &AccountPoller,
        request: PageRequest,
        outcome: &QueryOutcome,
        now: Instant,
    ) {
        poller.state().scan(request.status).failed(request.began);
        self.list_failed(poller, request.size, outcome, now);
        poller.signals.lists.notify_one();
    }

    /// Has lists rest, or pages be smaller, after one of so many tasks did not come.
    pub(super) fn list_failed(
        &self,
        poller: &AccountPoller,
        size: usize,
        outcome: &QueryOutcome,
        now: Instant,
    ) {
        let mut state = poller.state();
        match outcome {
            QueryOutcome::Throttled(rest) => {
                state.rest_lists(now + rest.unwrap_or(THROTTLED).min(LONGEST_REST));
            }
            QueryOutcome::Failed(fault) if fault.is_of_page_size() => state.halve_pages(size, now),
            QueryOutcome::Unreachable | QueryOutcome::Failed(_) | QueryOutcome::Known(..) => {
                state.rest_lists(now + AFTER_FAILURE);
            }
        }
        drop(state);
        if let QueryOutcome::Failed(fault) = outcome {
            self.note_fault(poller, fault, "list", now);
        }
    }
}

const AFTER_FAILURE: Duration = Duration::from_secs(1);

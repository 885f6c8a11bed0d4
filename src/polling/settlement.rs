//! Settlement of a task: its end and what it used, as the entry that the ledger keeps.

use std::sync::Arc;
use std::time::SystemTime;

use crate::dashscope::task::{NamedTask, Status};
use crate::dashscope::usage::{self, Reading};
use crate::polling::TaskAnswer;
use crate::store::{Entry, EntryFlags, EntrySource, LOST, Remark, TaskRecord};

/// The entry of a task whose end was just told, or that DashScope has forgotten; `None` if the task goes on, or its end
/// was known. An end without an answer had one that is too large to be held.
pub(super) fn entry(
    record: &TaskRecord,
    told: &NamedTask,
    answer: Option<&TaskAnswer>,
    is_forgotten: bool,
    now: SystemTime,
) -> Option<Arc<Entry>> {
    let is_lost = told.status == Status::Unknown && is_forgotten;
    if record.status.get().is_final() || !(told.status.is_final() || is_lost) {
        return None;
    }
    let reading = match answer {
        _ if is_lost => Reading::Unused,
        Some(answer) => usage::of_task(&answer.body),
        None => Reading::Unread { raw: None },
    };
    let (read, is_unread) = reading.into_use().unwrap_or_default();
    let charge = record.facts.terms.as_ref().map(|terms| terms.charge(&read.units, &read.class).0);
    // A use that was not understood is not free.
    let charge = charge.filter(|_| !is_unread || !read.units.is_empty());
    Some(Arc::new(Entry {
        source: EntrySource::Task(record.id().into()),
        at: now,
        tenant: Arc::clone(&record.facts.tenant),
        key_id: Arc::clone(&record.facts.key_id),
        account: Arc::clone(&record.facts.account),
        model: record.facts.model.clone(),
        mount: Arc::clone(&record.facts.mount),
        operation: Entry::task_operation(record.asked().is_some()).into(),
        submitted_at: record.claimed_at(),
        status: if is_lost { LOST } else { told.status.name() }.into(),
        units: read.units,
        class: read.class,
        usage: read.raw,
        flags: EntryFlags { is_unread, ..EntryFlags::default() },
        charge: charge.unwrap_or_default(),
        remark: Remark::default(),
    }))
}

//! Tasks, newest first, without their request fields.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hyper::StatusCode;
use serde_json::{Value, json};

use super::Admin;
use super::name_page::PageQuery;
use super::problem::Problem;
use super::response::{AdminResponse, answer, moment};
use crate::dashscope::task::Status;
use crate::store::{FormerNames, TaskRecord};
use crate::tasks::pager::{NewestQuery, TaskPosition};

impl Admin {
    pub(super) async fn list_tasks(&self, query: &str) -> Result<AdminResponse, Problem> {
        let query = PageQuery::parse(query, &["tenant", "status"])?;
        let status = query.status.as_deref().map(status).transpose()?;
        let wrong = || Problem::BadField("after", "must be the `next` of the page before".into());
        let after = if query.after.is_empty() { None } else { Some(place(&query.after).ok_or_else(wrong)?) };
        let wanted = NewestQuery { tenant: query.tenant.as_deref(), status, after, limit: query.limit };
        let (tasks, next) = self.shared.hub.task_index().newest(&wanted).await;
        let next = next.map(|TaskPosition(at, id)| format!("{}-{id}", since_1970(at).as_millis()));
        let names = self.shared.store.tenant_names().load();
        let tasks: Vec<Value> = tasks.iter().map(|task| describe(task, &names)).collect();
        Ok(answer(StatusCode::OK, &json!({ "tasks": tasks, "next": next })))
    }
}

fn describe(task: &TaskRecord, names: &FormerNames) -> Value {
    json!({
        "id": &*task.id, "tenant": &*names.current(&task.tenant), "key_id": &*task.key_id, "account": &*task.account,
        "model": &*task.model, "mount": &*task.mount, "status": task.status.get().name(),
        "claimed_at": moment(task.claimed_at),
    })
}

fn status(name: &str) -> Result<Status, Problem> {
    let known = Status::from_name(name);
    if known.name() == name {
        return Ok(known);
    }
    let problem = "must be PENDING, RUNNING, SUSPENDED, SUCCEEDED, FAILED, CANCELED or UNKNOWN";
    Err(Problem::BadField("status", problem.into()))
}

/// Parses the `next` of the page before.
fn place(text: &str) -> Option<TaskPosition> {
    let (millis, id) = text.split_once('-')?;
    let at = UNIX_EPOCH.checked_add(Duration::from_millis(millis.parse().ok()?))?;
    Some(TaskPosition(at, id.into()))
}

fn since_1970(time: SystemTime) -> Duration {
    time.duration_since(UNIX_EPOCH).unwrap_or_default()
}

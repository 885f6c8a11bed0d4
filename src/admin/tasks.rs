//! Tasks, newest first, without their request fields.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hyper::StatusCode;
use serde_json::{Value, json};

use super::Admin;
use super::name_page::{USUAL, page_limit};
use super::problem::Problem;
use super::response::{AdminResponse, answer, moment};
use crate::dashscope::task::Status;
use crate::reports::query::{parameters, read_moment};
use crate::store::{FormerNames, RequestIds, TaskRecord};
use crate::tasks::pager::{NewestQuery, TaskPosition};
use crate::usage::Zone;

impl Admin {
    pub(super) async fn list_tasks(&self, query: &str) -> Result<AdminResponse, Problem> {
        let query = TasksQuery::parse(query, self.shared.store.zone())?;
        if let Some(request) = query.request_id.clone() {
            return self.list_tasks_of(request, &query).await;
        }
        let (tasks, next) = self.shared.hub.task_index().newest(&query.wanted()).await;
        let next = next.map(|TaskPosition(at, id)| format!("{}-{id}", since_1970(at).as_millis()));
        Ok(self.show_tasks(&tasks, next))
    }

    /// Lists the tasks that a request has submitted, by our id of it or by DashScope's.
    async fn list_tasks_of(&self, request: String, query: &TasksQuery) -> Result<AdminResponse, Problem> {
        let ids = self.read_ledger(move |store| store.tasks_of_request(&request)).await?;
        let index = self.shared.hub.task_index();
        let tasks = ids.iter().filter_map(|id| index.task(id));
        let names = self.shared.store.tenant_names().load();
        let tasks: Vec<_> = tasks.filter(|task| query.lets_through(task, &names)).collect();
        Ok(self.show_tasks(&tasks, None))
    }

    fn show_tasks(&self, tasks: &[Arc<TaskRecord>], next: Option<String>) -> AdminResponse {
        let names = self.shared.store.tenant_names().load();
        let tasks: Vec<Value> = tasks.iter().map(|task| describe(task, &names)).collect();
        answer(StatusCode::OK, &json!({ "tasks": tasks, "next": next }))
    }
}

/// The tasks that are meant, and the page of them.
#[derive(Debug)]
struct TasksQuery {
    tenant: Option<String>,
    key: Option<String>,
    model: Option<String>,
    status: Option<Status>,
    /// Tasks of one request alone.
    request_id: Option<String>,
    from: Option<SystemTime>,
    to: Option<SystemTime>,
    after: Option<TaskPosition>,
    limit: usize,
}

impl TasksQuery {
    fn wanted(&self) -> NewestQuery<'_> {
        NewestQuery {
            tenant: self.tenant.as_deref(),
            key: self.key.as_deref(),
            model: self.model.as_deref(),
            status: self.status,
            since: self.from,
            until: self.to,
            after: self.after.clone(),
            limit: self.limit,
        }
    }

    /// True for a task that all filters let through. A request has few tasks, so they are not paged.
    fn lets_through(&self, task: &TaskRecord, names: &FormerNames) -> bool {
        let is_tenants = self.tenant.as_ref().is_none_or(|name| *names.current(&task.facts.tenant) == **name);
        is_tenants && self.wanted().wants(task)
    }

    fn parse(query: &str, zone: Zone) -> Result<Self, Problem> {
        let mut parsed = Self {
            tenant: None,
            key: None,
            model: None,
            status: None,
            request_id: None,
            from: None,
            to: None,
            after: None,
            limit: USUAL,
        };
        for (name, value) in parameters(query) {
            match name {
                "tenant" => parsed.tenant = Some(value.into()),
                "key" => parsed.key = Some(value.into()),
                "model" => parsed.model = Some(value.into()),
                "status" => parsed.status = Some(status(&value)?),
                "request_id" => parsed.request_id = Some(request_id(&value)?.to_owned()),
                "from" => parsed.from = Some(read_moment("from", &value, zone)?),
                "to" => parsed.to = Some(read_moment("to", &value, zone)?),
                "after" if value.is_empty() => {}
                "after" => {
                    let problem = "must be the `next` of the page before";
                    parsed.after = Some(place(&value).ok_or(Problem::BadField("after", problem.into()))?);
                }
                "limit" => parsed.limit = page_limit(&value)?,
                _ => {
                    let names = "takes after, limit, tenant, key, model, status, request_id, from, to";
                    return Err(Problem::BadField("query", names.into()));
                }
            }
        }
        Ok(parsed)
    }
}

/// Checks the id of a request.
fn request_id(text: &str) -> Result<&str, Problem> {
    let problem =
        "must be the id of a request, as the field x-request-id of its answer or the access log has it";
    if RequestIds::is_id(text) { Ok(text) } else { Err(Problem::BadField("request_id", problem.into())) }
}

fn describe(task: &TaskRecord, names: &FormerNames) -> Value {
    json!({
        "id": &*task.id(), "tenant": &*names.current(&task.facts.tenant), "key_id": &*task.facts.key_id, "account": &*task.facts.account,
        "model": &*task.facts.model, "mount": &*task.facts.mount, "status": task.status.get().name(),
        "claimed_at": moment(task.claimed_at()),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_read_strictly() {
        let query =
            "tenant=one&key=k&model=wan%2A&status=FAILED&from=2026-12-01&to=2026-12-02&limit=7&after=5-t-1";
        let query = TasksQuery::parse(query, Zone::CHINA).expect("a query");
        assert_eq!(
            (query.model.as_deref(), query.status, query.limit),
            (Some("wan*"), Some(Status::Failed), 7)
        );
        let day = Duration::from_secs(86_400);
        assert_eq!(query.from.map(|from| from + day), query.to);
        let position = TaskPosition(UNIX_EPOCH + Duration::from_millis(5), "t-1".into());
        assert_eq!(query.after, Some(position));
        for wrong in [
            "status=failed",
            "from=x",
            "limit=0",
            "limit=1001",
            "after=x",
            "page=1",
            "key_id=k",
            "request_id=",
            "request_id=a%20b",
        ] {
            let parsed = TasksQuery::parse(wrong, Zone::CHINA);
            assert!(matches!(parsed, Err(Problem::BadField(..))), "{wrong}");
        }
    }
}

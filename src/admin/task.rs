//! One task by its id: its owner, what is known of it and since when, its end, and what it used and cost.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hyper::StatusCode;
use serde_json::{Value, json};

use super::Admin;
use super::audit::AuditEntry;
use super::problem::Problem;
use super::response::{AdminResponse, answer};
use crate::dashscope::headers::REQUEST_ID;
use crate::dashscope::task_report::TaskReport;
use crate::store::{Entry, EntrySource, RequestIds, Store, TaskRecord, WantedSource};
use crate::telemetry::metrics::PollServed;
use crate::usage::Amount;

/// All that is known of a task.
struct KnownTask {
    /// `None` for a task of more than two days ago.
    record: Option<Arc<TaskRecord>>,
    settled: Option<SettledTask>,
    /// DashScope's report of the task's end.
    end: Option<TaskReport>,
    /// Ids of the request that submitted it.
    request: Option<RequestIds>,
    /// Id of the answer that told the end.
    upstream_request_id: Option<String>,
    /// Time since the known status was surely true; `None` if DashScope was not asked since the start.
    age: Option<Duration>,
}

/// A task's entry in the ledger.
struct SettledTask {
    entry: Entry,
    /// The entry's amount with all its corrections.
    cost: Option<Amount>,
}

impl Admin {
    pub(super) async fn show_task(&self, id: &str) -> Result<AdminResponse, Problem> {
        Ok(answer(StatusCode::OK, &self.describe_task(id).await?))
    }

    /// Asks DashScope for the task now, within the budget of its account, and shows what is known then.
    pub(super) async fn refresh_task(
        &self,
        id: &str,
        entry: &mut AuditEntry,
    ) -> Result<AdminResponse, Problem> {
        let record = self.task_record(id).await?.ok_or_else(|| Problem::NoSuchTask(id.to_owned()))?;
        entry.task = Some(format!("{}/{id}", record.facts.account));
        let (hub, now) = (&self.shared.hub, Instant::now());
        let is_configured = self.shared.directory.load().account_index(&record.facts.account).is_some();
        let tracked = hub.tracked_task(&record.id(), &record.facts.tenant, now, SystemTime::now());
        let polled = match tracked.filter(|_| is_configured) {
            Some(task) => hub.refresh(&task, now).await,
            None => None,
        };
        let is_refreshed = polled.is_some_and(|polled| polled.served == PollServed::Upstream);
        let mut shown = self.describe_task(id).await?;
        shown["refreshed"] = is_refreshed.into();
        Ok(answer(StatusCode::OK, &shown))
    }

    /// The record of a task, which another replica may just have made.
    async fn task_record(&self, id: &str) -> Result<Option<Arc<TaskRecord>>, Problem> {
        let index = self.shared.hub.task_index();
        if let Some(record) = index.task(id) {
            return Ok(Some(record));
        }
        self.shared.store.catch_up().await.map_err(Problem::Unreadable)?;
        Ok(index.task(id))
    }

    async fn describe_task(&self, id: &str) -> Result<Value, Problem> {
        let record = self.task_record(id).await?;
        let settled = self.settled_task(id, record.as_deref()).await?;
        let request = self.request_of(record.as_deref()).await?;
        if record.is_none() && settled.is_none() {
            return Err(Problem::NoSuchTask(id.to_owned()));
        }
        let told = self.shared.hub.told_end(id).await;
        let end = told.as_ref().and_then(|told| TaskReport::read(&told.body));
        let upstream_request_id = told.as_ref().and_then(|told| told.headers.get(REQUEST_ID)?.to_str().ok());
        let upstream_request_id = upstream_request_id.map(str::to_owned);
        let age = self.shared.hub.news_age(id, Instant::now());
        let known = KnownTask { record, settled, end, request, upstream_request_id, age };
        let names = self.shared.store.tenant_names().load();
        let currency = Arc::clone(&self.shared.directory.load().settings.usage.currency);
        Ok(known.describe(id, |tenant| names.current(tenant), &currency, SystemTime::now()))
    }

    /// The ids of the request that submitted a task of the last two days.
    async fn request_of(&self, record: Option<&TaskRecord>) -> Result<Option<RequestIds>, Problem> {
        let Some(record) = record else { return Ok(None) };
        let (id, claimed_at) = (record.id(), record.claimed_at());
        self.read_ledger(move |store| store.request_of_task(&id, claimed_at)).await
    }

    /// The task's entry in the ledger. For a task without a record all of the ledger is read, as for a report.
    async fn settled_task(
        &self,
        id: &str,
        record: Option<&TaskRecord>,
    ) -> Result<Option<SettledTask>, Problem> {
        let wanted = WantedSource::Task(id.into());
        let from = record.and_then(|record| record.claimed_at().checked_sub(DAY)).unwrap_or(UNIX_EPOCH);
        let settled = [from, SystemTime::now() + DAY];
        let account = record.map(|record| Arc::clone(&record.facts.account));
        let read = move |store: Store| {
            let mut found: Option<SettledTask> = None;
            store.entries_about(&wanted, settled, |entry| {
                match &mut found {
                    // Corrections come behind what they correct.
                    Some(found) => {
                        let more = entry.charge.amount;
                        found.cost = found
                            .cost
                            .map_or(more, |cost| Some(more.map_or(cost, |more| cost.saturating_add(more))));
                    }
                    None if is_end_of(&entry, account.as_deref()) => {
                        found = Some(SettledTask { cost: entry.charge.amount, entry });
                    }
                    None => {}
                }
                ControlFlow::Continue(())
            })?;
            Ok(found)
        };
        if record.is_some() { self.read_ledger(read).await } else { self.scan(read).await }
    }
}

fn is_end_of(entry: &Entry, account: Option<&str>) -> bool {
    matches!(entry.source, EntrySource::Task(_)) && account.is_none_or(|account| *entry.account == *account)
}

impl KnownTask {
    fn describe(
        &self,
        id: &str,
        current: impl Fn(&Arc<str>) -> Arc<str>,
        currency: &str,
        now: SystemTime,
    ) -> Value {
        let entry = self.settled.as_ref().map(|settled| &settled.entry);
        let record = self.record.as_deref();
        let report = self.end.as_ref();
        let ended = report.and_then(|report| report.ended).or(entry.map(|entry| entry.at));
        let known_at = match self.age {
            Some(age) => now.checked_sub(age),
            None => entry.map(|entry| entry.at),
        };
        let error = report.filter(|report| report.code.is_some() || report.message.is_some());
        let error = error.map(|report| json!({ "code": report.code, "message": report.message }));
        let status = entry.map(|entry| entry.status.to_string());
        let usage = entry.and_then(|entry| serde_json::from_str::<Value>(&entry.usage).ok());
        let name = |of_record: fn(&TaskRecord) -> &str, of_entry: fn(&Entry) -> &str| {
            record.map(of_record).or(entry.map(of_entry))
        };
        let tenant = record.map(|record| &record.facts.tenant).or(entry.map(|entry| &entry.tenant));
        let request = self.request.as_ref();
        let submit_request_id = request.and_then(|request| request.upstream.as_deref());
        let submitted_at = record.map(|record| record.claimed_at()).or(entry.map(|entry| entry.submitted_at));
        json!({
            "task_id": id,
            "tenant": tenant.map(|tenant| current(tenant).to_string()),
            "key_id": name(|record| &record.facts.key_id, |entry| &entry.key_id),
            "account": name(|record| &record.facts.account, |entry| &entry.account),
            "model": name(|record| &record.facts.model, |entry| &entry.model),
            "mount": name(|record| &record.facts.mount, |entry| &entry.mount),
            "status": status.or(record.map(|record| record.status.get().name().to_owned())),
            "submitted_at": submitted_at.map(moment),
            "known_at": known_at.map(moment),
            "ended_at": ended.map(moment),
            "error": error,
            "request_id": request.map(|request| &*request.own),
            "submit_request_id": submit_request_id,
            "upstream_request_id": self.upstream_request_id.as_deref().or(submit_request_id),
            "usage": usage,
            "cost": self.settled.as_ref().and_then(|settled| settled.cost).map(|cost| cost.to_string()),
            "currency": currency,
        })
    }
}

/// Time in RFC 3339, to the millisecond.
fn moment(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}

const DAY: Duration = Duration::from_secs(24 * 3600);

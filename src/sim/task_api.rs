//! Query, list and cancel: open to every key of a task's account.

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::account::{MeteredCall, SimulatedCaller};
use super::call::SimulatedCall;
use super::errors::{ErrorAnswer, ErrorCause};
use super::outcome;
use super::pattern::matches;
use super::reply::SimulatedReply;
use super::state::SimulatorState;
use super::tasks::{CancelRefusal, SimulatedListing, SimulatedStatus, SimulatedTask};

pub(super) fn query(
    state: &SimulatorState,
    call: &SimulatedCall,
    caller: &SimulatedCaller,
    id: &str,
) -> Result<SimulatedReply, ErrorAnswer> {
    meter(state, call, caller, MeteredCall::Query)?;
    let mut tasks = state.tasks.lock();
    let answer = match tasks.query(id, &caller.account, call.now) {
        None => json!({"request_id": call.request_id, "output": outcome::unknown(id)}),
        Some(task) => {
            let until = task.ended.unwrap_or(call.now) + state.options.task_lifetime;
            let mut answer = outcome::answer(task, &|name| state.sign(name, until));
            answer.insert("request_id".into(), call.request_id.clone().into());
            answer.into()
        }
    };
    Ok(SimulatedReply::json(200, &answer))
}

pub(super) fn cancel(
    state: &SimulatorState,
    call: &SimulatedCall,
    caller: &SimulatedCaller,
    id: &str,
) -> Result<SimulatedReply, ErrorAnswer> {
    meter(state, call, caller, MeteredCall::Cancel)?;
    match state.tasks.lock().cancel(id, &caller.account, call.now) {
        Ok(()) => Ok(SimulatedReply::json(200, &json!({"request_id": call.request_id}))),
        Err(CancelRefusal::Unknown | CancelRefusal::NotPending) => Err(ErrorAnswer::new(
            ErrorCause::UnsupportedOperation,
            "Failed to cancel the task, please confirm if the task is in PENDING status.",
        )),
    }
}

pub(super) fn list(
    state: &SimulatorState,
    call: &SimulatedCall,
    caller: &SimulatedCaller,
) -> Result<SimulatedReply, ErrorAnswer> {
    meter(state, call, caller, MeteredCall::List)?;
    let filter = TaskListFilter::of(call)?;
    let page_no = call.number("page_no").unwrap_or(1).max(1);
    let most = state.options.page_size_max.max(1);
    let page_size = call.number("page_size").unwrap_or(10).clamp(1, most);
    let skipped = (page_no - 1).saturating_mul(page_size) as usize;
    let page = skipped..skipped.saturating_add(page_size as usize);
    let mut tasks = state.tasks.lock();
    let keeps = |task: &SimulatedTask| filter.keeps(task);
    let listed =
        SimulatedListing { start: filter.start, end: filter.end, keeps: filter.selects().then_some(&keeps) };
    let (total, shown) = tasks.list(&caller.account, call.now, &listed, page);
    let data: Vec<Value> = shown.into_iter().map(row).collect();
    Ok(SimulatedReply::json(
        200,
        &json!({
            "total": total,
            "data": data,
            "total_page": (total as u64).div_ceil(page_size),
            "page_no": page_no,
            "page_size": page_size,
            "request_id": call.request_id,
        }),
    ))
}

fn meter(
    state: &SimulatorState,
    call: &SimulatedCall,
    caller: &SimulatedCaller,
    metered: MeteredCall,
) -> Result<(), ErrorAnswer> {
    state.accounts.lock().meter(&caller.account, metered, state.options.query_qps, call.now)
}

struct TaskListFilter {
    task_id: Option<String>,
    model_name: Option<String>,
    status: Option<SimulatedStatus>,
    api_key_id: Option<String>,
    region: Option<String>,
    start: SystemTime,
    end: SystemTime,
}

impl TaskListFilter {
    fn of(call: &SimulatedCall) -> Result<TaskListFilter, ErrorAnswer> {
        let text = |name: &str| call.parameter(name).filter(|value| !value.is_empty()).map(str::to_owned);
        let time = |name: &str| {
            let parsed = text(name).map(|value| parse_time(&value));
            let wrong = || ErrorAnswer::parameter(format!("{name} must be written as YYYYMMDDhhmmss."));
            parsed.map(|at| at.ok_or_else(wrong)).transpose()
        };
        let status = text("status").map(|value| {
            value.parse().map_err(|()| ErrorAnswer::parameter(format!("status {value} is not valid.")))
        });
        let end = time("end_time")?.unwrap_or(call.now + Duration::from_secs(1));
        let start = time("start_time")?.unwrap_or(end - DAY);
        if end.duration_since(start).is_ok_and(|span| span > DAY) {
            return Err(ErrorAnswer::parameter("The time range must not be longer than 24 hours."));
        }
        Ok(TaskListFilter {
            task_id: text("task_id"),
            model_name: text("model_name"),
            status: status.transpose()?,
            api_key_id: text("api_key_id"),
            region: text("region"),
            start,
            end,
        })
    }

    /// True if it keeps only some of the tasks of its time.
    fn selects(&self) -> bool {
        let Self { task_id, model_name, status, api_key_id, region, start: _, end: _ } = self;
        status.is_some() || [task_id, model_name, api_key_id, region].into_iter().any(Option::is_some)
    }

    fn keeps(&self, task: &SimulatedTask) -> bool {
        let same =
            |wanted: &Option<String>, value: &str| wanted.as_ref().is_none_or(|text| matches(text, value));
        self.status.is_none_or(|status| status == task.shown())
            && same(&self.task_id, &task.id)
            && same(&self.model_name, &task.model)
            && same(&self.region, REGION)
            && (self.api_key_id.is_none() || same(&self.api_key_id, &key_id(&task.caller.key)))
    }
}

fn row(task: &SimulatedTask) -> Value {
    let mut row = json!({
        "api_key_id": key_id(&task.caller.key),
        "caller_parent_id": uid(&task.caller.account),
        "caller_uid": uid(&task.caller.account),
        "gmt_create": millis(task.submitted),
        "model_name": task.model,
        "region": REGION,
        "request_id": task.request_id,
        "start_time": millis(task.started.unwrap_or(task.submitted)),
        "status": task.shown().name(),
        "task_id": task.id,
        "user_api_unique_key": format!("apikey:v1:{}:{}", task.service.key(), task.model),
    });
    if let Some(ended) = task.ended {
        row["end_time"] = millis(ended).into();
    }
    row
}

fn millis(at: SystemTime) -> u64 {
    at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}

/// `YYYYMMDDhhmmss` in UTC+8.
fn parse_time(text: &str) -> Option<SystemTime> {
    if text.len() != 14 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let [year, month, day] = [&text[..4], &text[4..6], &text[6..8]];
    let [hour, minute, second] = [&text[8..10], &text[10..12], &text[12..]];
    let written = format!("{year}-{month}-{day}T{hour}:{minute}:{second}Z");
    Some(humantime::parse_rfc3339(&written).ok()? - Duration::from_secs(8 * 3600))
}

/// A stable number in place of a name.
fn number(name: &str) -> u64 {
    name.bytes().fold(7, |number: u64, byte| number.wrapping_mul(131).wrapping_add(u64::from(byte)))
}

pub(super) fn uid(account: &str) -> String {
    format!("1{:015}", number(account) % 1_000_000_000_000_000)
}

pub(super) fn key_id(key: &str) -> String {
    format!("{}", number(key) % 10_000_000)
}

const DAY: Duration = Duration::from_secs(24 * 3600);
const REGION: &str = "cn-beijing";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn list_times_are_read_in_utc_8() {
        let at = parse_time("19700101080001").unwrap();
        assert_eq!(at, SystemTime::UNIX_EPOCH + Duration::from_secs(1));
        assert_eq!(parse_time("1970-01-01"), None);
        assert_eq!(parse_time("19701301080001"), None);
    }
}

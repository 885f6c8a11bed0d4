//! Payloads: the JSON that endpoints get.

use std::time::SystemTime;

use serde_json::{Map, Value, json};

use crate::config::EventType;
use crate::dashscope::task::Status;
use crate::reports::report::decimal;
use crate::store::{BudgetEvent, EndReport, Entry, EntrySource, TenantEvent};

/// The payload of an event. `output` is there for endpoints that ask for it: null where it was too long to be told.
pub(super) fn payload(event: &TenantEvent, tenant: &str, currency: &str, includes_output: bool) -> Vec<u8> {
    let mut data = match event {
        TenantEvent::TaskEnded { entry, report } => ended_task(event.event_type(), entry, report, currency),
        TenantEvent::Budget(budget) => budget_data(budget, currency),
        TenantEvent::KeyExpiring { key_id, expires, at: _ } => {
            json!({ "key_id": &**key_id, "expires_at": moment(*expires) })
        }
        TenantEvent::Test { at: _ } => json!({}),
    };
    data["tenant"] = tenant.into();
    if includes_output && let TenantEvent::TaskEnded { entry: _, report } = event {
        let output = report.output.as_deref().and_then(|output| serde_json::from_str(output).ok());
        data["output"] = output.unwrap_or(Value::Null);
    }
    let kind = event.event_type().name();
    json!({ "type": kind, "timestamp": moment(event.at()), "data": data }).to_string().into_bytes()
}

fn ended_task(kind: EventType, entry: &Entry, report: &EndReport, currency: &str) -> Value {
    let units = entry.units.iter().map(|(unit, sum)| (unit.label().to_owned(), decimal(sum.into()).into()));
    let task_id = if let EntrySource::Task(id) = &entry.source { Some(&**id) } else { None };
    let error = json!({ "code": &*report.code, "message": &*report.message });
    let has_error = !(report.code.is_empty() && report.message.is_empty());
    json!({
        "task_id": task_id,
        "key_id": &*entry.key_id,
        "model": &*entry.model,
        // The status has the name that a poll tells.
        "status": if kind == EventType::TaskLost { Status::Unknown.name() } else { &entry.status },
        "submitted_at": moment(entry.submitted_at),
        "ended_at": report.ended_at.map(moment),
        "request_id": Some(&*report.request_id).filter(|id| !id.is_empty()),
        "error": has_error.then_some(error),
        "units": units.collect::<Map<String, Value>>(),
        "cost": entry.charge.amount.map(|amount| json!({ "amount": amount.to_string(), "currency": currency })),
    })
}

fn budget_data(event: &BudgetEvent, currency: &str) -> Value {
    let BudgetEvent { is_spent: _, period, amount, spent, held, renews_at, at: _ } = event;
    json!({
        "period": &**period,
        "amount": amount.to_string(),
        "spent": spent.to_string(),
        "held": held.to_string(),
        "currency": currency,
        "renews_at": renews_at.map(moment),
    })
}

fn moment(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}

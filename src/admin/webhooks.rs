//! Webhooks: deliveries with what became of them, a test of a tenant's endpoints, and deliveries that begin anew.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use hyper::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::Admin;
use super::audit::AuditEntry;
use super::body;
use super::name_page::PageQuery;
use super::problem::Problem;
use super::response::{AdminResponse, answer, moment};
use crate::config::WebhookUrl;
use crate::store::{
    Announcement, Change, DeliveryChange, DeliveryQuery, DeliveryRecord, DeliveryState, Outcome, TenantEvent,
    delivery_id,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TestedTenant {
    tenant: String,
}

impl Admin {
    /// Lists deliveries, newest first.
    pub(super) async fn list_deliveries(&self, query: &str) -> Result<AdminResponse, Problem> {
        let query = PageQuery::parse(query, &["tenant", "state"])?;
        let wrong = || Problem::BadField("after", "must be the `next` of the page before".into());
        let after = if query.after.is_empty() { None } else { Some(place(&query.after).ok_or_else(wrong)?) };
        let wanted = DeliveryQuery {
            tenant: query.tenant.as_deref().map(Box::from),
            state: query.state.as_deref().map(state).transpose()?,
            after,
            // One more shows that there is a next page.
            limit: query.limit + 1,
        };
        let store = self.shared.store.clone();
        let read = tokio::task::spawn_blocking(move || store.deliveries(&wanted)).await;
        let mut found = read.map_err(|_| Problem::Panicked)?.map_err(Problem::Unreadable)?;
        let has_more = found.len() > query.limit;
        found.truncate(query.limit);
        let last = found.last().filter(|_| has_more);
        let next = last.map(|last| format!("{}-{}", since_1970(last.created_at).as_millis(), last.id));
        let deliveries: Vec<Value> = found.iter().map(describe).collect();
        Ok(answer(StatusCode::OK, &json!({ "deliveries": deliveries, "next": next })))
    }

    /// Begins a delivery anew, delivered or not.
    pub(super) async fn redeliver(&self, id: &str, entry: &mut AuditEntry) -> Result<AdminResponse, Problem> {
        let change = Change::Deliver(DeliveryChange::Redeliver { id: id.into() });
        if self.shared.store.commit(change).await.map_err(Problem::Unassured)? != Outcome::Made {
            return Err(Problem::NoSuchDelivery(id.to_owned()));
        }
        entry.delivery = Some(id.to_owned());
        Ok(answer(StatusCode::OK, &json!({ "id": id })))
    }

    /// Sends an event of the type `webhook.test` to all endpoints of a tenant.
    pub(super) async fn test_webhooks(
        &self,
        body: Result<Bytes, Problem>,
        entry: &mut AuditEntry,
    ) -> Result<AdminResponse, Problem> {
        let TestedTenant { tenant } = body::parse(&body?)?;
        let directory = self.shared.directory.load_full();
        let known = directory.tenant(&tenant).filter(|known| *known.name == *tenant);
        let known = known.ok_or_else(|| Problem::UnknownTenant(tenant.clone()))?;
        if known.webhooks.endpoints.is_empty() {
            return Err(Problem::BadField("tenant", "has no `webhooks` in the configuration".into()));
        }
        entry.tenant = Some(tenant);
        let now = SystemTime::now();
        let name = format!("webhook.test {}", Uuid::new_v4());
        let urls = known.webhooks.endpoints.iter().map(|endpoint| &endpoint.url.text);
        let ids: Vec<String> = urls.map(|url| delivery_id(&name, url)).collect();
        let announcement = Announcement {
            name: name.into(),
            until: now,
            tenant: Arc::clone(&known.name),
            event: TenantEvent::Test { at: now },
        };
        let change = Change::Deliver(DeliveryChange::Announce(announcement));
        self.shared.store.commit(change).await.map_err(Problem::Unassured)?;
        Ok(answer(StatusCode::OK, &json!({ "deliveries": ids })))
    }
}

/// A delivery without its payload. The query of its URL may be a secret.
fn describe(delivery: &DeliveryRecord) -> Value {
    let url = WebhookUrl::parse(&delivery.url).map(|url| url.to_string());
    let is_waiting = delivery.state == DeliveryState::Waiting;
    // A delivery that was never tried has no time of its next try: it is due.
    let due_at = Some(delivery.due_at).filter(|due_at| is_waiting && *due_at > UNIX_EPOCH);
    json!({
        "id": &*delivery.id, "tenant": &*delivery.tenant, "url": url.ok(), "own": delivery.is_own,
        "event": &*delivery.event, "state": delivery.state.name(), "tries": delivery.tries,
        "created_at": moment(delivery.created_at), "due_at": due_at.map(moment),
        "ended_at": delivery.ended_at.map(moment), "status": delivery.status,
        "problem": Some(&*delivery.problem).filter(|problem| !problem.is_empty()),
    })
}

fn state(name: &str) -> Result<DeliveryState, Problem> {
    let known = DeliveryState::ALL.into_iter().find(|state| state.name() == name);
    known.ok_or_else(|| Problem::BadField("state", "must be waiting, delivered or given_up".into()))
}

/// Parses the `next` of the page before.
fn place(text: &str) -> Option<(i64, Box<str>)> {
    let (millis, id) = text.split_once('-')?;
    Some((millis.parse().ok()?, id.into()))
}

fn since_1970(time: SystemTime) -> Duration {
    time.duration_since(UNIX_EPOCH).unwrap_or_default()
}

//! Audit: each change that an operator asks for is a line of the log and a row of the store. A refused sign-in is a line of the
//! log alone, as anybody can make it. Both have the target `audit`.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hyper::StatusCode;
use serde_json::{Map, Value, json};

use super::Admin;
use super::name_page::{USUAL, page_limit};
use super::problem::Problem;
use super::response::{AdminResponse, answer};
use super::token::TokenHolder;
use crate::reports::query::parameters;
use crate::store::{AuditQuery, AuditRecord, Change, CommitFault, Store, StoreHealth};

/// One requested change. [`AuditEntry::end`] writes its row, and the drop writes its line, however the change ended.
pub(super) struct AuditEntry {
    /// `None` for a request that changes nothing: it has no row and no line.
    action: Option<&'static str>,
    peer: SocketAddr,
    holder: TokenHolder,
    /// The store that keeps the row, until the row is written.
    store: Option<Store>,
    /// The key's id, set once the text is known to be an id and not a secret.
    pub key_id: Option<String>,
    /// The tenant, set once the text is known to be a tenant's name.
    pub tenant: Option<String>,
    /// Account and id of a task, set once it is known to be one.
    pub task: Option<String>,
    /// The id of a webhook's delivery, set once it is known to be one.
    pub delivery: Option<String>,
    /// End of the key, or of its old secret.
    pub until: Option<String>,
    /// The label of the entry.
    pub entry: Option<String>,
    pub amount: Option<String>,
    /// Nothing was to be changed.
    pub is_dry_run: bool,
    outcome: &'static str,
    /// The change may have been made all the same.
    is_unclear: bool,
}

impl AuditEntry {
    pub(super) fn new(
        action: Option<&'static str>,
        peer: SocketAddr,
        holder: TokenHolder,
        store: Store,
    ) -> Self {
        Self {
            action,
            peer,
            holder,
            store: action.map(|_| store),
            key_id: None,
            tenant: None,
            task: None,
            delivery: None,
            until: None,
            entry: None,
            amount: None,
            is_dry_run: false,
            outcome: "failed inside",
            is_unclear: true,
        }
    }

    /// Sets the outcome, writes the row, and passes the result on. The row comes after the change: only a crash between the
    /// two leaves a change without one.
    pub(super) async fn end(
        mut self,
        result: Result<AdminResponse, Problem>,
    ) -> Result<AdminResponse, Problem> {
        self.outcome = result.as_ref().map_or_else(Problem::code, |_| "done");
        self.is_unclear = result.as_ref().is_err_and(Problem::is_unclear);
        if let Some(store) = self.store.take_if(|store| store.health() == StoreHealth::Writable) {
            let change = Change::Audit(self.record(&store).into());
            if let Err(fault) = store.commit(change.clone()).await {
                tracing::error!(target: "audit", action = self.action, %fault, "the audit has no durable row of this yet");
                if let CommitFault::NotMade(_) = fault {
                    store.defer(change);
                }
            }
        }
        result
    }

    fn effect(&self) -> &'static str {
        if self.is_dry_run {
            "tried"
        } else if self.is_done() {
            "changed"
        } else if self.is_unclear {
            "perhaps changed"
        } else {
            "not changed"
        }
    }

    fn is_done(&self) -> bool {
        self.outcome == "done"
    }

    /// Kind and name of the thing that was to be changed: the first one in this list that is known.
    fn object(&self) -> String {
        let named = [
            ("delivery", &self.delivery),
            ("task", &self.task),
            ("key", &self.key_id),
            ("tenant", &self.tenant),
        ];
        let named = named.into_iter().find_map(|(kind, name)| Some(format!("{kind}/{}", name.as_ref()?)));
        named.unwrap_or_else(|| match self.action {
            Some("reload") => "config".to_owned(),
            Some("rotate_tokens") => "browser_tokens".to_owned(),
            Some("reprice") => "ledger".to_owned(),
            _ => String::new(),
        })
    }

    fn record(&self, store: &Store) -> AuditRecord {
        let details = [
            ("key_id", &self.key_id),
            ("tenant", &self.tenant),
            ("task", &self.task),
            ("delivery", &self.delivery),
            ("until", &self.until),
            ("entry", &self.entry),
            ("amount", &self.amount),
        ];
        let details =
            details.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value.clone()?.into())));
        AuditRecord {
            at: store.now(),
            by: self.holder.name.as_deref().map(Box::from),
            token: self.holder.token.as_str().into(),
            peer: self.peer.to_string().into(),
            action: self.action.unwrap_or_default().into(),
            object: self.object().into(),
            outcome: self.outcome.into(),
            effect: self.effect().into(),
            detail: Value::Object(details.collect::<Map<_, _>>()).to_string().into(),
            replica: store.replica_name().unwrap_or_default().into(),
        }
    }
}

impl Drop for AuditEntry {
    fn drop(&mut self) {
        let Some(action) = self.action else { return };
        if let Some(store) = self.store.take() {
            // The store can't be written just now, or this change has panicked.
            store.defer(Change::Audit(self.record(&store).into()));
        }
        let effect = self.effect();
        let is_done = self.is_done();
        let Self { peer, holder, key_id, tenant, task, delivery, until, entry, amount, outcome, .. } = self;
        let (by, token) = (holder.name.as_deref(), &*holder.token);
        let (key_id, tenant, until) = (key_id.as_deref(), tenant.as_deref(), until.as_deref());
        let (task, delivery) = (task.as_deref(), delivery.as_deref());
        let (entry, amount) = (entry.as_deref(), amount.as_deref());
        if is_done {
            tracing::info!(
                target: "audit", action, key_id, tenant, task, delivery, until, entry, amount, outcome, by, %peer, token, "{effect}"
            );
        } else {
            tracing::warn!(
                target: "audit", action, key_id, tenant, task, delivery, until, entry, amount, outcome, by, %peer, token, "{effect}"
            );
        }
    }
}

impl Admin {
    /// Lists rows of the audit, newest first.
    pub(super) async fn list_audit(&self, query: &str) -> Result<AdminResponse, Problem> {
        let mut query = parse(query)?;
        let limit = query.limit;
        // One row more shows that there is a next page.
        query.limit += 1;
        let mut rows = self.read_ledger(move |store| store.audit(&query)).await?;
        let has_more = rows.len() > limit;
        rows.truncate(limit);
        let next = rows.last().filter(|_| has_more).map(|(number, _)| number.to_string());
        let rows: Vec<Value> = rows.iter().map(|(_, record)| describe(record)).collect();
        Ok(answer(StatusCode::OK, &json!({ "audit": rows, "next": next })))
    }
}

fn parse(query: &str) -> Result<AuditQuery, Problem> {
    let mut parsed = AuditQuery { limit: USUAL, ..AuditQuery::default() };
    for (name, value) in parameters(query) {
        match name {
            "by" => parsed.by = Some((*value).into()),
            "object" => parsed.object = Some((*value).into()),
            "after" if value.is_empty() => {}
            "after" => {
                let wrong = || Problem::BadField("after", "must be the `next` of the page before".into());
                parsed.after = Some(value.parse().map_err(|_| wrong())?);
            }
            "limit" => parsed.limit = page_limit(&value)?,
            _ => return Err(Problem::BadField("query", "takes after, limit, by, object".into())),
        }
    }
    Ok(parsed)
}

fn describe(record: &AuditRecord) -> Value {
    let AuditRecord { at, by, token, peer, action, object, outcome, effect, detail, replica } = record;
    let given = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    json!({
        "at": humantime::format_rfc3339_millis(*at).to_string(), "by": by, "action": action, "object": given(object),
        "outcome": outcome, "effect": effect, "detail": serde_json::from_str::<Value>(detail).unwrap_or_default(),
        "peer": given(peer), "token": given(token), "replica": given(replica),
    })
}

/// Refused sign-ins, by token or certificate: logged while they are few, counted while they are many.
#[derive(Debug)]
pub struct Refusals(RefCell<RefusalWindow>);

#[derive(Debug)]
struct RefusalWindow {
    left: u32,
    since: Option<Instant>,
    silenced: u64,
}

impl Default for Refusals {
    fn default() -> Self {
        Self(RefCell::new(RefusalWindow { left: MOST_LOGGED, since: None, silenced: 0 }))
    }
}

impl Refusals {
    pub(super) fn log(&self, peer: SocketAddr, problem: &Problem, now: Instant) {
        if self.0.borrow_mut().take(now) {
            tracing::warn!(target: "audit", action = "sign_in", outcome = problem.code(), %peer, "refused");
        }
    }

    /// Logs the number of refusals that were not logged, once a period is over. To be called once a second.
    pub(super) fn log_silenced(&self, now: Instant) {
        let silenced = self.0.borrow_mut().renew(now);
        if silenced > 0 {
            tracing::warn!(target: "audit", action = "sign_in", silenced, "more were refused than are told here");
        }
    }
}

impl RefusalWindow {
    fn take(&mut self, now: Instant) -> bool {
        self.since.get_or_insert(now);
        if self.left == 0 {
            self.silenced += 1;
            return false;
        }
        self.left -= 1;
        true
    }

    /// The number of refusals that were not logged in a period that is over.
    fn renew(&mut self, now: Instant) -> u64 {
        if self.since.is_none_or(|since| now.duration_since(since) < PERIOD) {
            return 0;
        }
        (self.left, self.since) = (MOST_LOGGED, None);
        std::mem::take(&mut self.silenced)
    }
}

/// Refusals logged in one period.
const MOST_LOGGED: u32 = 10;
const PERIOD: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_told_by_its_number() {
        let refusals = Refusals::default();
        let mut window = refusals.0.borrow_mut();
        let began = Instant::now();
        assert_eq!((0..1000).filter(|_| window.take(began)).count(), MOST_LOGGED as usize);
        assert_eq!(window.renew(began + PERIOD / 2), 0);
        let next = began + PERIOD;
        assert_eq!(window.renew(next), 1000 - u64::from(MOST_LOGGED));
        assert_eq!(window.renew(next), 0);
        assert!(window.take(next));
        assert_eq!(window.renew(next + PERIOD), 0, "none was silenced");
    }
}

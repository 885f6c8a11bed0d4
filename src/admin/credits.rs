//! Credits and corrections: money that an operator enters for a tenant. An id counts once.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use hyper::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::task::spawn_blocking;

use super::Admin;
use super::audit::AuditEntry;
use super::body;
use super::name_page::PageQuery;
use super::problem::Problem;
use super::response::{AdminResponse, answer, moment};
use crate::dashscope::usage::Units;
use crate::store::{
    Change, Entry, EntryFlags, EntrySource, OperatorKind, Outcome, REPRICED, Remark, Store, StoreFault,
    WantedSource,
};
use crate::usage::{Amount, Charge};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MoneyRequest {
    id: String,
    amount: String,
    note: String,
    /// The label of the entry that is corrected.
    corrects: Option<String>,
}

impl Admin {
    pub(super) async fn enter_money(
        &self,
        kind: OperatorKind,
        tenant: &str,
        body: Result<Bytes, Problem>,
        audit: &mut AuditEntry,
    ) -> Result<AdminResponse, Problem> {
        let asked: MoneyRequest = body::parse(&body?)?;
        let entry = entry(kind, tenant, &asked, self.shared.store.now())?;
        audit.entry = Some(entry.source.label(""));
        audit.amount = entry.charge.amount.map(Amount::short);
        self.check_corrected(kind, tenant, &asked).await?;
        let _turn = self.changing.lock().await;
        self.check_tenant(tenant)?;
        audit.tenant = Some(tenant.to_owned());
        let entry = Arc::new(entry);
        let entered = self.shared.store.commit(Change::Enter(Arc::clone(&entry))).await;
        if entered.map_err(Problem::NotEntered)? == Outcome::Made {
            return Ok(answer(StatusCode::CREATED, &self.with_money(tenant, describe(&entry))));
        }
        let id = asked.id.clone();
        let standing = self.read_ledger(move |store| store.operator_entry(kind, &id)).await?;
        let standing = standing.filter(|standing| {
            standing.tenant == entry.tenant
                && standing.charge.amount == entry.charge.amount
                && standing.remark.corrects == entry.remark.corrects
        });
        match standing {
            Some(standing) => Ok(answer(StatusCode::OK, &self.with_money(tenant, describe(&standing)))),
            None => Err(Problem::IdTaken(format!(
                "`{}` was entered already, with another amount or for another tenant: choose another id",
                asked.id
            ))),
        }
    }

    pub(super) async fn list_money(
        &self,
        kind: OperatorKind,
        tenant: &str,
        query: &str,
    ) -> Result<AdminResponse, Problem> {
        let PageQuery { after, limit, .. } = PageQuery::parse(query, &[])?;
        let wrong = || Problem::BadField("after", "must be the `next` of the page before".into());
        let after = if after.is_empty() { 0 } else { after.parse().map_err(|_| wrong())? };
        self.check_tenant(tenant)?;
        let name = tenant.to_owned();
        // One more than the page takes shows that there is a next page.
        let mut page =
            self.read_ledger(move |store| store.operator_entries(kind, &name, after, limit + 1)).await?;
        let has_more = page.len() > limit;
        page.truncate(limit);
        let next = page.last().filter(|_| has_more).map(|(number, _)| number.to_string());
        let entries: Vec<Value> = page.iter().map(|(_, entry)| describe(entry)).collect();
        let list = match kind {
            OperatorKind::Credit => "credits",
            OperatorKind::Correction => "corrections",
        };
        Ok(answer(StatusCode::OK, &self.with_money(tenant, json!({ list: entries, "next": next }))))
    }

    /// Checks that the entry which a correction names is the tenant's. A correction that was made before is not judged
    /// again, as the entry may have gone since.
    async fn check_corrected(
        &self,
        kind: OperatorKind,
        tenant: &str,
        asked: &MoneyRequest,
    ) -> Result<(), Problem> {
        let Some(label) = asked.corrects.clone() else { return Ok(()) };
        self.check_tenant(tenant)?;
        let id = asked.id.clone();
        if self.read_ledger(move |store| store.operator_entry(kind, &id)).await?.is_some() {
            return Ok(());
        }
        let (named, tenant) = (label.clone(), tenant.to_owned());
        let is_there = self.scan(move |store| has_entry(&store, &named, &tenant)).await?;
        if is_there { Ok(()) } else { Err(Problem::NoSuchEntry(label)) }
    }

    fn check_tenant(&self, tenant: &str) -> Result<(), Problem> {
        let is_known = self.shared.directory.load().has_tenant(tenant);
        if is_known { Ok(()) } else { Err(Problem::NoSuchTenant(tenant.to_owned())) }
    }

    /// Reads entries on a blocking thread.
    pub(super) async fn read_ledger<T: Send + 'static>(
        &self,
        read: impl FnOnce(Store) -> Result<T, StoreFault> + Send + 'static,
    ) -> Result<T, Problem> {
        let store = self.shared.store.clone();
        let read = spawn_blocking(move || read(store)).await;
        read.map_err(|_| Problem::Panicked)?.map_err(Problem::Unreadable)
    }

    /// Adds what the tenant has, spent and holds to an answer.
    fn with_money(&self, tenant: &str, mut shown: Value) -> Value {
        let standing = self.shared.store.standing(tenant);
        shown["balance"] = standing.balance().to_string().into();
        shown["spent"] = standing.total_spent().to_string().into();
        shown["held"] = standing.held.to_string().into();
        shown["currency"] = (*self.shared.directory.load().settings.usage.currency).into();
        shown
    }
}

/// The entry that a body asks for.
fn entry(kind: OperatorKind, tenant: &str, asked: &MoneyRequest, now: SystemTime) -> Result<Entry, Problem> {
    let MoneyRequest { id, amount, note, corrects } = asked;
    let (id, amount) = (checked_id(id)?, checked_amount(amount)?);
    let note = note.trim();
    let is_note = (1..=MOST_NOTE).contains(&note.chars().count()) && !note.contains(char::is_control);
    if !is_note {
        let problem = format!("must have 1 to {MOST_NOTE} characters, and no line ends");
        return Err(Problem::BadField("note", problem.into()));
    }
    let (operation, corrects) = match (kind, corrects) {
        (OperatorKind::Credit, None) => ("credit", ""),
        (OperatorKind::Credit, Some(_)) => {
            return Err(Problem::BadField("corrects", "is for corrections".into()));
        }
        (OperatorKind::Correction, corrects) => {
            ("correction", corrects.as_deref().map_or(Ok(""), checked_source)?)
        }
    };
    Ok(Entry {
        source: kind.source(id.into()),
        at: now,
        tenant: tenant.into(),
        key_id: Arc::default(),
        account: Arc::default(),
        model: Box::default(),
        mount: Arc::default(),
        operation: operation.into(),
        submitted_at: now,
        status: Box::default(),
        units: Units::default(),
        class: Box::default(),
        usage: Box::default(),
        flags: EntryFlags::default(),
        charge: Charge { amount: Some(amount), ..Charge::default() },
        remark: Remark { corrects: corrects.into(), note: note.into() },
    })
}

/// Checks an id. Logs show it, so it must not be a secret.
fn checked_id(id: &str) -> Result<&str, Problem> {
    let is_printable = id.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_printable || !(1..=MOST_ID).contains(&id.len()) || id.starts_with("sk-") {
        let problem = format!(
            "must have 1 to {MOST_ID} printable ASCII characters without blanks, and not begin with sk-"
        );
        return Err(Problem::BadField("id", problem.into()));
    }
    if id.starts_with(REPRICED) {
        let problem =
            format!("begins with {REPRICED}, as those of `dashgate usage reprice` do: choose another");
        return Err(Problem::BadField("id", problem.into()));
    }
    Ok(id)
}

fn checked_amount(text: &str) -> Result<Amount, Problem> {
    let is_fine = |amount: &Amount| *amount != Amount::ZERO && amount.nanos().unsigned_abs() <= MOST_NANOS;
    Amount::from_text(text).filter(is_fine).ok_or_else(|| {
        let problem = "must be text like \"100.00\" or \"-0.5\", with up to nine decimals, not 0, and 100000000 at most";
        Problem::BadField("amount", problem.into())
    })
}

/// Checks that a text can be the label of an entry.
fn checked_source(label: &str) -> Result<&str, Problem> {
    let is_printable = label.len() <= MOST_SOURCE && label.bytes().all(|byte| byte.is_ascii_graphic());
    if is_printable && EntrySource::of_label(label).is_some() {
        return Ok(label);
    }
    Err(Problem::BadField("corrects", "must be the `source` of an entry, like \"task:main/0f4c\"".into()))
}

/// True if the tenant has the entry. An entry of a use is sought in the whole ledger.
fn has_entry(store: &Store, label: &str, tenant: &str) -> Result<bool, StoreFault> {
    let of_operator = |kind, id: &str| {
        let found = store.operator_entry(kind, id)?;
        Ok(found.is_some_and(|entry| *entry.tenant == *tenant))
    };
    let wanted = match EntrySource::of_label(label) {
        None => return Ok(false),
        Some((_, EntrySource::Credit(id))) => return of_operator(OperatorKind::Credit, &id),
        Some((_, EntrySource::Correction(id))) => return of_operator(OperatorKind::Correction, &id),
        Some((_, EntrySource::Task(id))) => WantedSource::Task((*id).into()),
        Some((_, EntrySource::Call(id))) => WantedSource::Request((*id).into()),
        Some((_, EntrySource::Socket(id))) => {
            WantedSource::Request(id.rsplit_once('/').map_or(&*id, |(request, _)| request).into())
        }
    };
    let mut is_there = false;
    store.entries_about(&wanted, [SystemTime::UNIX_EPOCH, store.now() + DAY], |entry| {
        is_there = *entry.tenant == *tenant && entry.source.label(&entry.account) == label;
        if is_there { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    Ok(is_there)
}

fn describe(entry: &Entry) -> Value {
    let amount = entry.charge.amount.unwrap_or_default();
    let mut shown = json!({
        "tenant": &*entry.tenant, "amount": amount.to_string(), "note": &*entry.remark.note,
        "at": moment(entry.at),
    });
    match &entry.source {
        EntrySource::Correction(id) => {
            let corrects = &*entry.remark.corrects;
            shown["id"] = (**id).into();
            shown["corrects"] = if corrects.is_empty() { Value::Null } else { corrects.into() };
        }
        EntrySource::Credit(id) | EntrySource::Task(id) | EntrySource::Call(id) | EntrySource::Socket(id) => {
            shown["id"] = (**id).into()
        }
    }
    shown
}

const MOST_ID: usize = 128;
/// Entries may bear later times than now, after a clock that was set back.
const DAY: Duration = Duration::from_secs(86_400);
/// Characters of a note.
const MOST_NOTE: usize = 500;
const MOST_SOURCE: usize = 512;
/// A hundred million: sums of many such amounts are still amounts.
const MOST_NANOS: u64 = 100_000_000_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn problem_of(
        kind: OperatorKind,
        [id, amount, note]: [&str; 3],
        corrects: Option<&str>,
    ) -> Option<String> {
        let [id, amount, note] = [id, amount, note].map(str::to_owned);
        let asked = MoneyRequest { id, amount, note, corrects: corrects.map(str::to_owned) };
        match entry(kind, "one", &asked, SystemTime::UNIX_EPOCH) {
            Ok(_) => None,
            Err(Problem::BadField(field, _)) => Some(field.to_owned()),
            Err(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_entered_is_checked_field_by_field() {
        let credit = |given: [&str; 3]| problem_of(OperatorKind::Credit, given, None);
        let (long, note) = ("i".repeat(129), "é".repeat(500));
        assert_eq!(credit(["inv:1/2026", "-0.000000001", &note]), None);
        for (given, field) in [
            (["", "1", "n"], "id"),
            (["a b", "1", "n"], "id"),
            (["é", "1", "n"], "id"),
            ([&*long, "1", "n"], "id"),
            (["sk-dg-secret", "1", "n"], "id"),
            (["reprice:call:r1/0", "1", "n"], "id"),
            (["a", "0.000", "n"], "amount"),
            (["a", "1e3", "n"], "amount"),
            (["a", "100000000.000000001", "n"], "amount"),
            (["a", "-100000001", "n"], "amount"),
            (["a", "1", " "], "note"),
            (["a", "1", "two\nlines"], "note"),
            (["a", "1", &*format!("{note}é")], "note"),
        ] {
            assert_eq!(credit(given).as_deref(), Some(field), "{given:?}");
        }
        let fine = ["a", "1", "n"];
        assert_eq!(problem_of(OperatorKind::Credit, fine, Some("call:r1")).as_deref(), Some("corrects"));
        assert_eq!(problem_of(OperatorKind::Correction, fine, Some("task:main/t1")), None);
        for wrong in ["", "call:", "r1", "video:r1", "call:a b"] {
            let found = problem_of(OperatorKind::Correction, fine, Some(wrong));
            assert_eq!(found.as_deref(), Some("corrects"), "{wrong}");
        }
    }
}

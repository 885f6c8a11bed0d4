//! Past uses by today's prices: an entry whose amount would be another gets a correction of the difference.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use futures_util::future::join_all;
use hyper::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::task::spawn_blocking;

use crate::admin::Admin;
use crate::admin::audit::AuditEntry;
use crate::admin::body;
use crate::admin::problem::Problem;
use crate::admin::response::{AdminResponse, answer};
use crate::config::Billing;
use crate::dashscope::usage::Units;
use crate::reports::query::read_moment;
use crate::reports::report::amount_text;
use crate::store::{
    Change, CommitFault, CorrectedEntry, Entry, EntryFlags, EntrySource, LOST, LedgerPlace, Outcome,
    REPRICED, Remark,
};
use crate::tenant::directory::Directory;
use crate::usage::Charge;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RepriceRequest {
    from: String,
    to: String,
    tenant: Option<String>,
    #[serde(default)]
    dry_run: bool,
    /// The `next` of the answer before.
    after: Option<String>,
}

/// Sums of the entries that were looked at.
#[derive(Debug, Default)]
struct Repriced {
    entries: u64,
    /// Entries that today's lists have no price for; they keep their amounts.
    unpriced: u64,
    corrections: u64,
    /// Sum of the corrections, in billionths.
    amount: i128,
}

/// An entry by today's prices.
#[derive(Debug)]
enum NewPrice {
    Same,
    None,
    Other(Arc<Entry>),
}

impl Admin {
    /// Corrects entries, for some seconds; the answer says where to go on.
    pub(in crate::admin) async fn reprice(
        &self,
        body: Result<Bytes, Problem>,
        audit: &mut AuditEntry,
    ) -> Result<AdminResponse, Problem> {
        let RepriceRequest { from, to, tenant, dry_run, after } = body::parse(&body?)?;
        audit.is_dry_run = dry_run;
        let zone = self.shared.store.zone();
        let settled = [read_moment("from", &from, zone)?, read_moment("to", &to, zone)?];
        if settled[0] >= settled[1] {
            return Err(Problem::BadField("to", "must be later than `from`, and is not part of it".into()));
        }
        let wrong = || Problem::BadField("after", "must be the `next` of the answer before".into());
        let mut place = match after.as_deref() {
            Some(text) => Some(LedgerPlace::from_text(text).ok_or_else(wrong)?),
            None => None,
        };
        let directory = self.shared.directory.load_full();
        if let Some(name) = tenant.as_ref().filter(|name| !directory.has_tenant(name)) {
            return Err(Problem::UnknownTenant(name.clone()));
        }
        audit.tenant.clone_from(&tenant);
        let _scan = Arc::clone(&self.scans).try_acquire_owned().map_err(|_| Problem::ReportsBusy)?;
        let (mut repriced, began) = (Repriced::default(), Instant::now());
        let next = loop {
            // No correction is made between the reading of a batch and its end.
            let _turn = self.changing.lock().await;
            let store = self.shared.store.clone();
            let read = spawn_blocking(move || store.corrected_entries(settled, place, BATCH)).await;
            let batch = read.map_err(|_| Problem::Panicked)?.map_err(|fault| {
                if repriced.corrections > 0 && !dry_run {
                    Problem::RepricedInPart(fault)
                } else {
                    Problem::Unreadable(fault)
                }
            })?;
            let wanted =
                batch.iter().filter(|one| tenant.as_deref().is_none_or(|name| *one.entry.tenant == *name));
            let corrections = repriced.look_at(wanted, &directory, self.shared.store.now());
            self.correct(corrections, dry_run, &mut repriced).await?;
            place = batch.last().map(|one| one.place).or(place);
            if batch.len() < BATCH {
                break None;
            }
            if began.elapsed() >= PATIENCE {
                break place;
            }
        };
        audit.amount = Some(amount_text(repriced.amount));
        Ok(answer(StatusCode::OK, &repriced.to_json(next)))
    }

    /// Makes corrections, and adds them up; a dry run only adds them up.
    async fn correct(
        &self,
        corrections: Vec<Arc<Entry>>,
        dry_run: bool,
        repriced: &mut Repriced,
    ) -> Result<(), Problem> {
        let mut fault = None;
        let made: Vec<bool> = if dry_run {
            vec![true; corrections.len()]
        } else {
            let commits =
                corrections.iter().map(|entry| self.shared.store.commit(Change::Enter(Arc::clone(entry))));
            let outcomes = join_all(commits).await.into_iter().map(|outcome| match outcome {
                Ok(outcome) => outcome == Outcome::Made,
                Err(CommitFault::NotMade(cause) | CommitFault::Unclear(cause)) => {
                    fault = Some(cause);
                    false
                }
            });
            outcomes.collect()
        };
        for (entry, _) in corrections.iter().zip(made).filter(|(_, made)| *made) {
            repriced.corrections += 1;
            repriced.amount += i128::from(entry.charge.amount.unwrap_or_default().nanos());
        }
        fault.map_or(Ok(()), |fault| Err(Problem::RepricedInPart(fault)))
    }
}

impl Repriced {
    /// The corrections of some entries. Entries of tenants that are not configured any more are left out.
    fn look_at<'e>(
        &mut self,
        entries: impl Iterator<Item = &'e CorrectedEntry>,
        directory: &Directory,
        now: SystemTime,
    ) -> Vec<Arc<Entry>> {
        let mut corrections = Vec::new();
        for one in entries {
            let is_use = !one.entry.units.is_empty() && *one.entry.status != *LOST;
            let Some(tenant) = directory.tenant(&one.entry.tenant).filter(|_| is_use) else { continue };
            self.entries += 1;
            match new_price(one, &tenant.billing, now) {
                NewPrice::Same => {}
                NewPrice::None => self.unpriced += 1,
                NewPrice::Other(correction) => corrections.push(correction),
            }
        }
        corrections
    }

    fn to_json(&self, next: Option<LedgerPlace>) -> Value {
        json!({
            "entries": self.entries, "unpriced": self.unpriced, "corrections": self.corrections,
            "amount": amount_text(self.amount), "next": next.map(|place| place.to_string()),
        })
    }
}

/// Compares an entry's amount and its corrections with what it would cost by the prices of its submit.
fn new_price(one: &CorrectedEntry, billing: &Billing, now: SystemTime) -> NewPrice {
    let CorrectedEntry { entry, corrections, corrected, .. } = one;
    let terms = billing.terms(&entry.model, entry.submitted_at);
    let charge = terms.map(|terms| terms.charge(&entry.units, &entry.class).0).unwrap_or_default();
    let Some(due) = charge.amount else { return NewPrice::None };
    let charged = entry.charge.amount.unwrap_or_default().saturating_add(*corrected);
    if due == charged {
        return NewPrice::Same;
    }
    let label = entry.source.label(&entry.account);
    // The number tells apart the corrections of an entry, as a price may change and change back.
    let id = format!("{REPRICED}{label}/{}", corrections + 1);
    NewPrice::Other(Arc::new(Entry {
        source: EntrySource::Correction(id.into()),
        at: now,
        tenant: Arc::clone(&entry.tenant),
        key_id: Arc::clone(&entry.key_id),
        account: Arc::clone(&entry.account),
        model: entry.model.clone(),
        mount: Arc::clone(&entry.mount),
        operation: "correction".into(),
        submitted_at: now,
        status: Box::default(),
        units: Units::default(),
        class: entry.class.clone(),
        usage: Box::default(),
        flags: EntryFlags::default(),
        charge: Charge { amount: Some(due.saturating_sub(charged)), ..charge },
        remark: Remark {
            corrects: label.into(),
            note: format!("{} became {} by new prices", charged.short(), due.short()).into(),
        },
    }))
}

/// Entries that are read at a time, with up to 2 KiB of `usage` each. Their corrections fit the store's queue.
const BATCH: usize = 512;
/// Time after which an answer is given, so that clients need not be patient.
const PATIENCE: Duration = Duration::from_secs(8);

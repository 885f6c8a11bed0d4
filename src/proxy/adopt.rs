//! Adopt: gives a task that no client was told of to the tenant that submitted it, and frees submits that made no task.
//!
//! A client whose answer was lost sends its submit again with the same `Idempotency-Key`, and gets the answer of the
//! adopted task; or a fresh try, once two scans of the account's list have shown that no task was made.

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use serde_json::json;

use super::respond;
use super::shared::Shared;
use super::videos;
use crate::config::{Dialect, Mount};
use crate::dashscope::task::Status;
use crate::polling::{Intent, Orphan, Verdict, judge, only_fitting};
use crate::store::{Change, CommitFault, FirstAnswer, LostSubmit, Outcome, StoreFault, TaskRecord};
use crate::tenant::directory::Directory;
use crate::unified::StatusSpelling;

/// Owner of a task, named by an operator.
#[derive(Debug, Clone)]
pub struct NamedOwner {
    pub tenant: Arc<str>,
    pub key_id: Arc<str>,
}

/// Outcome of an assignment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Assigned {
    Done,
    /// The task is no orphan of the account.
    NoOrphan,
    /// The task has an owner.
    Owned,
}

/// Why it is not known that a task was assigned, or why it was not.
#[derive(Debug)]
pub enum AssignFault {
    /// The lost submits can't be read, one of which may have made the task. Nothing was changed.
    Unreadable(StoreFault),
    Commit(CommitFault),
}

impl Shared {
    /// Judges each submit whose answer is lost, once a search for orphans has ended since the last call.
    pub async fn judge_lost_submits(&self) {
        let directory = self.directory.load_full();
        let is_exclusive = |account: &str| {
            let index = directory.account_index(account);
            index.is_some_and(|index| directory.accounts[index].is_exclusive)
        };
        let Some(searched) = self.hub.take_searched(is_exclusive) else { return };
        let lost = match self.lost_submits().await {
            Ok(lost) => lost,
            Err(fault) => {
                tracing::error!(%fault, "submits whose answer is lost can't be read, and stay as they are");
                return;
            }
        };
        let min_age = directory.settings.poll.orphans.min_age;
        let intents: Vec<Intent> = lost.iter().map(intent).collect();
        let mut waiting = Vec::new();
        for (lost, intent) in lost.iter().zip(&intents) {
            let is_over = match judge(intent, &intents, &searched, min_age) {
                Verdict::Adopt(orphan) => self.adopt(&directory, &orphan, lost).await,
                Verdict::Release => self.release(lost).await,
                Verdict::Wait => false,
            };
            if is_over {
                self.hub.clear_attempt(&intent.attempt);
            } else {
                waiting.push(intent);
            }
        }
        self.hub.note_verdicts(&searched, waiting.into_iter(), min_age);
    }

    /// Gives an orphan to an owner whom the operator names. If it fits one lost submit of the tenant, and no other, the
    /// submit gets its answer.
    ///
    /// # Errors
    /// `Unreadable`, or why the change was not written in time.
    pub async fn assign(
        &self,
        account: &Arc<str>,
        task_id: &str,
        owner: NamedOwner,
    ) -> Result<Assigned, AssignFault> {
        let Some(orphan) = self.hub.orphan(account, task_id) else {
            let is_owned = self.hub.task_index().task(task_id).is_some();
            return Ok(if is_owned { Assigned::Owned } else { Assigned::NoOrphan });
        };
        let directory = self.directory.load_full();
        let lost = self.lost_submits().await.map_err(AssignFault::Unreadable)?;
        let own: Vec<(&LostSubmit, Intent)> = lost.iter().map(|lost| (lost, intent(lost))).collect();
        let own = own.iter().filter(|(_, intent)| intent.tenant == owner.tenant);
        let only = only_fitting(account, &orphan, own.clone().map(|(_, intent)| intent));
        let fitting = only.and_then(|only| own.clone().find(|(_, intent)| intent.attempt == only.attempt));
        let fitting = fitting.map(|(lost, _)| *lost);
        let task = task(&directory, account, &orphan, &owner, fitting);
        let answer = fitting.and_then(|lost| self.answer(&directory, lost, &task));
        let change = Change::Adopt { task, answer, at: SystemTime::now() };
        let made = self.store.commit(change).await.map_err(AssignFault::Commit)?;
        if made != Outcome::Made {
            return Ok(Assigned::Owned);
        }
        if let Some(lost) = fitting {
            self.hub.clear_attempt(&lost.submit.attempt);
        }
        Ok(Assigned::Done)
    }

    /// Reads the lost submits, on a thread that may block.
    async fn lost_submits(&self) -> Result<Vec<LostSubmit>, StoreFault> {
        let store = self.store.clone();
        let read = tokio::task::spawn_blocking(move || {
            let mut lost = Vec::new();
            store.lost_submits(|submit| lost.push(submit)).map(|()| lost)
        });
        // A panic of the reader is this one's, too.
        read.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
    }

    /// Returns true if the task is the submit's from now on.
    async fn adopt(&self, directory: &Directory, orphan: &Orphan, lost: &LostSubmit) -> bool {
        let Some(sent) = &lost.sent else { return false };
        let owner = NamedOwner { tenant: Arc::clone(&lost.submit.tenant), key_id: Arc::clone(&sent.key_id) };
        let task = task(directory, &sent.account, orphan, &owner, Some(lost));
        let Some(answer) = self.answer(directory, lost, &task) else { return false };
        let change = Change::Adopt { task: Arc::clone(&task), answer: Some(answer), at: SystemTime::now() };
        let (account, task_id, tenant, key_id) = (&*task.account, &*task.id, &*task.tenant, &*task.key_id);
        match self.store.commit(change).await {
            Ok(Outcome::Made) => {
                tracing::info!(
                    account,
                    task_id,
                    tenant,
                    key_id,
                    "a task whose answer was lost is given to its tenant"
                );
                true
            }
            Ok(Outcome::NotMade | Outcome::Earlier(_) | Outcome::Exhausted(_)) => false,
            Err(fault) => {
                tracing::error!(account, task_id, tenant, %fault, "a task whose answer was lost has no owner yet");
                false
            }
        }
    }

    /// Returns true if the key of the submit is free.
    async fn release(&self, lost: &LostSubmit) -> bool {
        let tenant = &*lost.submit.tenant;
        match self.store.commit(Change::Release(Arc::clone(&lost.submit))).await {
            Ok(_) => {
                tracing::info!(
                    tenant,
                    "a submit whose answer was lost has made no task, and may be sent again"
                );
                true
            }
            Err(fault) => {
                tracing::error!(tenant, %fault, "a submit that made no task can't be sent again yet");
                false
            }
        }
    }

    /// The answer that the client gets who sends a submit again; `None` if it is not known what the submit asked for.
    fn answer(
        &self,
        directory: &Directory,
        lost: &LostSubmit,
        task: &TaskRecord,
    ) -> Option<Arc<FirstAnswer>> {
        let sent = lost.sent.as_ref()?;
        let body = if sent.asked.is_some() {
            let mount = mount(directory, &sent.mount);
            let spelling = mount.map_or(StatusSpelling::Openai, |mount| mount.video_statuses);
            videos::respond::created_before(&self.hub, spelling, task).into_body()
        } else {
            submit_answer(&task.id)
        };
        let (submit, fingerprint) = (Arc::clone(&lost.submit), sent.fingerprint?);
        Some(Arc::new(FirstAnswer { submit, fingerprint, body: str::from_utf8(&body).ok()?.into() }))
    }
}

/// The answer to a native submit, in DashScope's shape.
fn submit_answer(task_id: &str) -> Bytes {
    let output = json!({ "task_id": task_id, "task_status": Status::Pending.name() });
    json!({ "request_id": respond::new_request_id(), "output": output }).to_string().into()
}

/// The record of an orphan that gets an owner. `lost`: the submit that made it, if that is known.
fn task(
    directory: &Directory,
    account: &Arc<str>,
    orphan: &Orphan,
    owner: &NamedOwner,
    lost: Option<&LostSubmit>,
) -> Arc<TaskRecord> {
    let sent = lost.and_then(|lost| lost.sent.as_ref());
    let usual = || {
        let native = directory.mounts.iter().find(|mount| mount.dialect == Dialect::Native);
        native.or(directory.mounts.first())
    };
    let (prefix, asked) = match sent {
        Some(sent) => (Arc::clone(&sent.mount), sent.asked.clone()),
        None => {
            let mount = usual();
            let is_unified = mount.is_some_and(|mount| mount.dialect == Dialect::Unified);
            let prefix = mount.map_or_else(|| "/".into(), |mount| Arc::clone(&mount.prefix));
            (prefix, is_unified.then(Arc::default))
        }
    };
    let tenant = directory.tenants().iter().find(|tenant| tenant.name == owner.tenant);
    let submitted_at = sent.map_or(orphan.created, |sent| sent.sent_at);
    let terms = tenant.and_then(|tenant| tenant.billing.terms(&orphan.model, submitted_at));
    Arc::new(TaskRecord {
        id: Arc::clone(&orphan.task_id),
        tenant: Arc::clone(&owner.tenant),
        key_id: Arc::clone(&owner.key_id),
        account: Arc::clone(account),
        model: orphan.model.clone(),
        mount: prefix,
        claimed_at: orphan.created,
        // A task has ended once its final answer is held, which a query brings.
        status: if orphan.status.is_final() { Status::Pending } else { orphan.status }.into(),
        asked,
        hidden: false.into(),
        terms,
    })
}

fn mount<'d>(directory: &'d Directory, prefix: &str) -> Option<&'d Mount> {
    directory.mounts.iter().find(|mount| *mount.prefix == *prefix)
}

/// The lost submit as the search for its task sees it.
fn intent(lost: &LostSubmit) -> Intent {
    let LostSubmit { submit, sent, lost_at } = lost;
    let sent = sent.as_ref();
    Intent {
        tenant: Arc::clone(&submit.tenant),
        key_id: sent.map_or_else(Arc::default, |sent| Arc::clone(&sent.key_id)),
        account: sent.map(|sent| Arc::clone(&sent.account)),
        model: sent.map_or_else(Box::default, |sent| sent.model.clone()),
        sent_at: sent.map_or(submit.began_at, |sent| sent.sent_at),
        lost_at: *lost_at,
        attempt: submit.attempt.clone(),
        is_answerable: sent.is_some_and(|sent| sent.fingerprint.is_some()),
    }
}

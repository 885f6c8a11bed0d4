//! Adopt: gives a task that no client was told of to the tenant that submitted it, and frees submits that made no task.
//!
//! A client whose answer was lost sends its submit again with the same `Idempotency-Key`, and gets the answer of the
//! adopted task; or a fresh try, once two scans of the account's list have shown that no task was made.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use serde_json::json;

use super::respond;
use super::shared::Shared;
use super::videos;
use crate::config::{Dialect, Mount};
use crate::dashscope::task::Status;
use crate::polling::{Intent, Orphan, SearchedAccount, Verdict, judge, may_be};
use crate::store::{
    Adoption, Change, CommitFault, FirstAnswer, LostSubmit, OpenHold, Outcome, RunningSubmit, SentRequest,
    Store, StoreFault, TaskFields, TaskRecord,
};
use crate::tasks::index::TaskIndex;
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

/// A submit that stands durably, and of which it is not known whether it has made a task.
struct OpenSubmit {
    intent: Intent,
    /// Present where the submit has an `Idempotency-Key`.
    keyed: Option<LostSubmit>,
    /// The money that is held for it.
    hold: Option<Arc<str>>,
    /// The prefix of the mount that it came by, if that is known.
    mount: Option<Arc<str>>,
}

/// Submits that stand durably.
struct OpenSubmits {
    open: Vec<OpenSubmit>,
    /// Submits that run, of all replicas. One process knows its own without the store.
    running: Vec<RunningIntent>,
}

/// A submit that stands durably, and whose answer may come.
struct RunningIntent {
    attempt: Box<str>,
    /// `None` if it is not known where the submit was sent.
    account: Option<Arc<str>>,
    /// Empty if it is not known.
    model: Box<str>,
    sent_at: SystemTime,
}

impl RunningIntent {
    fn keyed(submit: RunningSubmit) -> Self {
        let RunningSubmit { attempt, began_at } = submit;
        Self { attempt, account: None, model: Box::default(), sent_at: began_at }
    }

    fn held(hold: &OpenHold) -> Self {
        Self {
            attempt: hold.attempt().unwrap_or(&hold.id).into(),
            account: Some(Arc::clone(&hold.account)),
            model: hold.model.clone(),
            sent_at: hold.made_at,
        }
    }
}

impl Shared {
    /// Judges each submit whose answer is lost, once a search for orphans has ended since the last call.
    pub async fn judge_lost_submits(&self) {
        let directory = self.directory.load_full();
        let is_exclusive = |account: &str| {
            let index = directory.account_index(account);
            index.is_some_and(|index| directory.accounts[index].is_exclusive)
        };
        if let Some(findings) = self.hub.findings_to_ask(is_exclusive, Instant::now()) {
            self.ask_others(findings).await;
        }
        // Claims of other replicas must be known here; where they can't be read, the next look comes soon.
        if !self.hub.has_searched(Instant::now()) || self.store.catch_up().await.is_err() {
            return;
        }
        let Some(mut searched) = self.hub.take_searched(is_exclusive, Instant::now()) else { return };
        let OpenSubmits { open, running } = match self.open_submits().await {
            Ok(open) => open,
            Err(fault) => {
                tracing::error!(%fault, "submits whose answer is lost can't be read, and stay as they are");
                return;
            }
        };
        note_running(&mut searched, &running);
        let min_age = directory.settings.poll.orphans.min_age;
        let intents: Vec<Intent> = open.iter().map(|submit| submit.intent.clone()).collect();
        let mut waiting = Vec::new();
        for submit in &open {
            let intent = &submit.intent;
            let is_over = match judge(intent, &intents, &searched, min_age) {
                Verdict::Adopt(orphan) => self.adopt(&directory, &orphan, submit).await,
                Verdict::Release => self.release(submit).await,
                Verdict::Wait => false,
            };
            if is_over {
                self.hub.clear_attempt(&intent.attempt);
            } else {
                waiting.push(intent);
            }
        }
        self.hub.note_verdicts(&searched, waiting.into_iter(), min_age);
        self.tell_orphans(&searched).await;
    }

    /// Asks the other replicas about what searches have shown, with the submits that stand durably now.
    async fn ask_others(&self, mut findings: Vec<SearchedAccount>) {
        match self.open_submits().await {
            Ok(OpenSubmits { open, running }) => {
                note_running(&mut findings, &running);
                for search in &mut findings {
                    open.iter().for_each(|submit| search.note_lost(&submit.intent));
                }
                self.hub.ask_others(findings, Instant::now());
            }
            Err(fault) => {
                tracing::error!(%fault, "submits whose answer is lost can't be read, and wait for the next search");
            }
        }
    }

    /// Gives an orphan to an owner whom the operator names. If it fits one lost submit of the tenant, and no other, the
    /// submit gets its answer; the keys of several that fit stay taken.
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
        let open = self.open_submits().await.map_err(AssignFault::Unreadable)?.open;
        let fits = |submit: &&OpenSubmit| {
            let names = self.store.tenant_names();
            names.is_same(&submit.intent.tenant, &owner.tenant) && may_be(&submit.intent, account, &orphan)
        };
        let fitting: Vec<&OpenSubmit> = open.iter().filter(fits).collect();
        let only = if let [only] = fitting[..] { Some(only) } else { None };
        let mut adoption = self.adoption(&directory, account, &orphan, &owner, only);
        if only.is_none() {
            // Nobody can tell which of them made the task, and none may make a second one.
            let keyed = fitting.iter().filter_map(|submit| submit.keyed.as_ref());
            adoption.unanswered = keyed.map(|lost| Arc::clone(&lost.submit)).collect();
        }
        let made = self.store.commit(Change::Adopt(adoption.into())).await.map_err(AssignFault::Commit)?;
        if made != Outcome::Made {
            return Ok(Assigned::Owned);
        }
        for submit in fitting.iter().filter(|submit| only.is_some() || submit.keyed.is_some()) {
            self.hub.clear_attempt(&submit.intent.attempt);
        }
        Ok(Assigned::Done)
    }

    /// Has the accounts' lists be searched soon for the tasks of submits that an earlier process has lost. Blocks.
    pub fn search_for_lost_submits(&self) {
        let open = match read_open(&self.store) {
            Ok(open) => open,
            Err(fault) => {
                tracing::error!(%fault, "submits whose answer is lost can't be read, and are looked for later");
                return;
            }
        };
        let is_of = |account: &Arc<str>| {
            open.open.iter().any(|submit| submit.intent.account.as_ref().is_none_or(|own| own == account))
        };
        let directory = self.directory.load();
        for account in directory.accounts.iter().filter(|account| is_of(&account.name)) {
            self.hub.search_soon(&account.name, Instant::now());
        }
    }

    /// Reads the open submits, on a thread that may block.
    async fn open_submits(&self) -> Result<OpenSubmits, StoreFault> {
        let store = self.store.clone();
        let read = tokio::task::spawn_blocking(move || read_open(&store));
        // A panic of the reader is this one's, too.
        read.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
    }

    /// Returns true if the task is the submit's from now on.
    async fn adopt(&self, directory: &Directory, orphan: &Orphan, submit: &OpenSubmit) -> bool {
        let OpenSubmit { intent, keyed, .. } = submit;
        let Some(account) = &intent.account else { return false };
        let owner = NamedOwner { tenant: Arc::clone(&intent.tenant), key_id: Arc::clone(&intent.key_id) };
        let adoption = self.adoption(directory, account, orphan, &owner, Some(submit));
        if adoption.answer.is_none() && keyed.is_some() {
            return false;
        }
        let (task_id, tenant, key_id) = (&*orphan.task_id, &*owner.tenant, &*owner.key_id);
        match self.store.commit(Change::Adopt(adoption.into())).await {
            Ok(Outcome::Made) => {
                tracing::info!(
                    account = &**account,
                    task_id,
                    tenant,
                    key_id,
                    "a task whose answer was lost is given to its tenant"
                );
                true
            }
            Ok(
                Outcome::NotMade
                | Outcome::Earlier(_)
                | Outcome::Exhausted(_)
                | Outcome::NoSlot(_)
                | Outcome::Leased(_),
            ) => false,
            Err(fault) => {
                tracing::error!(task_id, tenant, %fault, "a task whose answer was lost has no owner yet");
                false
            }
        }
    }

    /// Frees the key of a submit that has made no task, and the money that is held for it; true if that is done.
    async fn release(&self, submit: &OpenSubmit) -> bool {
        let tenant = &submit.intent.tenant;
        let freed = submit
            .hold
            .as_ref()
            .map(|hold| Change::Free { hold: Arc::clone(hold), tenant: Arc::clone(tenant) });
        let released = submit.keyed.as_ref().map(|lost| Change::Release(Arc::clone(&lost.submit)));
        // The money first: once the key is free, nothing names the hold.
        for change in freed.into_iter().chain(released) {
            if let Err(fault) = self.store.commit(change).await {
                tracing::error!(tenant = &**tenant, %fault, "a submit that made no task can't be freed yet");
                return false;
            }
        }
        tracing::info!(tenant = &**tenant, "a submit whose answer was lost has made no task, and is freed");
        true
    }

    /// An orphan with its new owner. `submit`: the one that made it, if that is known.
    fn adoption(
        &self,
        directory: &Directory,
        account: &Arc<str>,
        orphan: &Orphan,
        owner: &NamedOwner,
        submit: Option<&OpenSubmit>,
    ) -> Adoption {
        let task = task(self.hub.task_index(), directory, account, orphan, owner, submit);
        let lost = submit.and_then(|submit| submit.keyed.as_ref());
        let answer = lost.and_then(|lost| self.answer(directory, lost, &task));
        let hold = submit.and_then(|submit| submit.hold.clone());
        let unanswered = lost.filter(|_| answer.is_none()).map(|lost| Arc::clone(&lost.submit));
        let unanswered = unanswered.into_iter().collect();
        Adoption { task, answer, unanswered, hold, at: SystemTime::now() }
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
            submit_answer(&task.id())
        };
        let (submit, fingerprint) = (Arc::clone(&lost.submit), sent.fingerprint?);
        Some(Arc::new(FirstAnswer { submit, fingerprint, body: str::from_utf8(&body).ok()?.into() }))
    }
}

impl OpenSubmit {
    /// A submit with a key. `hold`: the money for it, which tells where it went if the submit itself does not.
    fn keyed(lost: LostSubmit, hold: Option<OpenHold>) -> Self {
        let (submit, sent, hold) = (&lost.submit, lost.sent.as_ref(), hold.as_ref());
        let of = |of_sent: fn(&SentRequest) -> &Arc<str>, of_hold: fn(&OpenHold) -> &Arc<str>| {
            sent.map(of_sent).or(hold.map(of_hold)).cloned()
        };
        let model = sent.map(|sent| &sent.model).filter(|model| !model.is_empty());
        let sent_at = sent.map(|sent| sent.sent_at).or(hold.map(|hold| hold.made_at));
        let intent = Intent {
            tenant: Arc::clone(&submit.tenant),
            key_id: of(|sent| &sent.key_id, |hold| &hold.key_id).unwrap_or_default(),
            account: of(|sent| &sent.account, |hold| &hold.account),
            model: model.or(hold.map(|hold| &hold.model)).cloned().unwrap_or_default(),
            sent_at: sent_at.unwrap_or(submit.began_at),
            lost_at: lost.lost_at,
            attempt: submit.attempt.clone(),
            is_answerable: sent.is_some_and(|sent| sent.fingerprint.is_some()),
        };
        let mount = of(|sent| &sent.mount, |hold| &hold.mount);
        let hold = hold.map(|hold| Arc::clone(&hold.id)).or_else(|| sent?.hold.clone());
        Self { intent, hold, mount, keyed: Some(lost) }
    }

    /// `None` for a submit that runs.
    fn held(hold: OpenHold) -> Option<Self> {
        let intent = Intent {
            tenant: hold.tenant,
            key_id: hold.key_id,
            account: Some(hold.account),
            model: hold.model,
            sent_at: hold.made_at,
            lost_at: hold.lost_at?,
            attempt: (&*hold.id).into(),
            is_answerable: true,
        };
        Some(Self { intent, keyed: None, hold: Some(hold.id), mount: Some(hold.mount) })
    }
}

fn note_running(searched: &mut [SearchedAccount], running: &[RunningIntent]) {
    for search in searched {
        for RunningIntent { attempt, account, model, sent_at } in running {
            search.note_running(attempt, account.as_deref(), model, *sent_at);
        }
    }
}

/// Reads the open submits. Blocks.
fn read_open(store: &Store) -> Result<OpenSubmits, StoreFault> {
    let mut running = Vec::new();
    if store.has_replicas() {
        // Before the lost ones: a submit that is lost meanwhile is one of either.
        running.extend(store.running_submits()?.into_iter().map(RunningIntent::keyed));
    }
    let (mut open, mut holds) = (Vec::new(), store.open_holds()?);
    if store.has_replicas() {
        running.extend(holds.iter().filter(|hold| hold.lost_at.is_none()).map(RunningIntent::held));
    }
    store.lost_submits(|lost| {
        let attempt = &*lost.submit.attempt;
        let own = holds.iter().position(|hold| hold.attempt() == Some(attempt));
        let hold = own.map(|own| holds.swap_remove(own));
        open.push(OpenSubmit::keyed(lost, hold));
    })?;
    open.extend(holds.into_iter().filter_map(OpenSubmit::held));
    Ok(OpenSubmits { open, running })
}

/// The answer to a native submit, in DashScope's shape.
fn submit_answer(task_id: &str) -> Bytes {
    let output = json!({ "task_id": task_id, "task_status": Status::Pending.name() });
    json!({ "request_id": respond::new_request_id(), "output": output }).to_string().into()
}

/// The record of an orphan that gets an owner. `submit`: the one that made it, if that is known.
fn task(
    index: &TaskIndex,
    directory: &Directory,
    account: &Arc<str>,
    orphan: &Orphan,
    owner: &NamedOwner,
    submit: Option<&OpenSubmit>,
) -> Arc<TaskRecord> {
    let sent = submit.and_then(|submit| submit.keyed.as_ref()?.sent.as_ref());
    let native = directory.mounts.iter().find(|mount| mount.dialect == Dialect::Native);
    let usual = || native.or(directory.mounts.first()).map(|mount| Arc::clone(&mount.prefix));
    let prefix = submit.and_then(|submit| submit.mount.clone()).or_else(usual);
    let prefix = prefix.unwrap_or_else(|| "/".into());
    let is_unified = mount(directory, &prefix).is_some_and(|mount| mount.dialect == Dialect::Unified);
    let asked = sent.map_or_else(|| is_unified.then(Arc::default), |sent| sent.asked.clone());
    let tenant = directory.tenant(&owner.tenant);
    let submitted_at = submit.map_or(orphan.created, |submit| submit.intent.sent_at);
    let terms = tenant.and_then(|tenant| tenant.billing.terms(&orphan.model, submitted_at));
    let fields = TaskFields {
        id: Arc::clone(&orphan.task_id),
        tenant: Arc::clone(&owner.tenant),
        key_id: Arc::clone(&owner.key_id),
        account: Arc::clone(account),
        model: orphan.model.clone(),
        mount: prefix,
        claimed_at: orphan.created,
        // A task has ended once its final answer is held, which a query brings.
        status: if orphan.status.is_final() { Status::Pending } else { orphan.status },
        asked,
        hidden: false,
        terms,
        webhook: sent.and_then(|sent| sent.webhook.clone()),
    };
    index.sharing(fields.into())
}

fn mount<'d>(directory: &'d Directory, prefix: &str) -> Option<&'d Mount> {
    directory.mounts.iter().find(|mount| *mount.prefix == *prefix)
}

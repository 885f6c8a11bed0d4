//! Claim: records which tenant owns the task of a submit, before the client sees a byte of the answer.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use hyper::Response;
use hyper::header::CONTENT_ENCODING;
use uuid::Uuid;

use super::exchange::Exchange;
use super::held_money::HeldMoney;
use super::rejection::Rejection;
use super::videos;
use super::worker::Proxy;
use crate::account::Account;
use crate::config::Dialect;
use crate::dashscope::headers::REQUEST_ID;
use crate::dashscope::submit_answer::SubmitAnswer;
use crate::dashscope::task::Status;
use crate::store::{Change, CommitFault, FirstAnswer, RequestIds, TaskFields, TaskRecord};
use crate::tasks::index::TaskIndex;
use crate::unified::RequestedVideo;
use crate::upstream::{self, ANSWER_BYTES, Download};

impl Proxy {
    /// Reads the answer to a submit, and claims the task that it names for its tenant. The claim is durable when this
    /// returns, unless the store fails. Returns the text of the answer, if it was read whole, and the task.
    ///
    /// # Errors
    /// `UpstreamLost` or `UpstreamTimeout` if the answer broke off. A task that its beginning names is claimed all the
    /// same. `TaskUnrecorded` if other replicas can't be told of the task: they would say that there is none.
    pub(super) async fn claim(
        &self,
        exchange: &Rc<Exchange>,
        response: &mut Response<Download>,
        asked: Option<Arc<RequestedVideo>>,
        webhook: Option<Arc<str>>,
    ) -> Result<(Option<Bytes>, Option<Arc<TaskRecord>>), Rejection> {
        if !response.status().is_success() {
            return Ok((upstream::read_ahead(response, ANSWER_BYTES).await?, None));
        }
        let read = upstream::read_far_ahead(response, &self.shared.buffer_budget).await;
        let answer = match &read {
            Ok(Some(text)) => SubmitAnswer::read(text),
            Ok(None) | Err(_) => SubmitAnswer::read(&upstream::beginning(response)),
        };
        let request = request_ids(exchange, response, &answer);
        let mut claimed = None;
        let mut is_told = true;
        for id in &answer.task_ids {
            let index = self.shared.hub.task_index();
            let task = new_task(index, exchange, id, answer.status, asked.clone(), webhook.clone());
            let text = read.as_ref().ok().and_then(Option::as_ref).filter(|_| claimed.is_none());
            let kept = text.and_then(|text| self.answer_to_keep(exchange, response, text, &task));
            is_told &= self.claim_task(exchange, Arc::clone(&task), answer.status, kept, &request).await;
            claimed.get_or_insert(task);
        }
        if claimed.is_some() {
            // After the claim: until then the task would look like another submit's.
            exchange.settle_submit();
        } else {
            self.note_unclaimed(exchange, response, answer.is_readable);
        }
        if is_told { Ok((read?, claimed)) } else { Err(Rejection::TaskUnrecorded) }
    }

    /// Claims a task. Returns false if there are other replicas that can't be told of it.
    async fn claim_task(
        &self,
        exchange: &Exchange,
        task: Arc<TaskRecord>,
        status: Option<Status>,
        answer: Option<Arc<FirstAnswer>>,
        request: &RequestIds,
    ) -> bool {
        exchange.note_task(task.id());
        if let Some(slot) = exchange.admitted.borrow_mut().task.take() {
            self.shared.limits.task_reserved(&task.id().into(), task.claimed_at(), slot);
        }
        let hold = exchange.held_money.take().map(HeldMoney::leave_to_task);
        let request = Some(Box::new(request.clone()));
        let claim = Change::Claim { task: Arc::clone(&task), answer, hold, request };
        let mut is_told = true;
        if let Err(fault) = self.shared.store.commit(claim.clone()).await {
            // The task is paid for, so the client gets its id all the same, unless another replica may be asked for it. If the
            // gateway crashes before the claim is durable, the task has no owner.
            let is_refused = fault.fault().cause.is_of_change();
            is_told = !self.shared.store.has_replicas() || is_refused;
            tracing::error!(task_id = &*task.id(), tenant = &*task.facts.tenant, %fault, "a task's owner is not durable yet");
            // A refused claim would be refused again.
            if let CommitFault::NotMade(_) = fault
                && !is_refused
            {
                self.shared.store.defer(claim);
            }
        }
        if status.is_some_and(Status::is_final) {
            self.shared.hub.task_index().free_slot_of(&task.id());
            self.shared.hub.invalidate(&task.id(), Instant::now());
        }
        is_told
    }

    /// The answer as the client gets it, for a submit that may be sent again.
    fn answer_to_keep(
        &self,
        exchange: &Exchange,
        response: &Response<Download>,
        text: &Bytes,
        task: &TaskRecord,
    ) -> Option<Arc<FirstAnswer>> {
        let key = exchange.held_key.get()?;
        let mount = exchange.route().mount(exchange.directory());
        let text = text.clone();
        let body = match mount.dialect {
            Dialect::Native => text,
            Dialect::Unified => {
                let (hub, statuses) = (&self.shared.hub, mount.video_statuses);
                videos::respond::created(hub, statuses, response, Some(text), Some(task)).into_body()
            }
        };
        key.answer(exchange.uploaded(), &body)
    }

    /// Notes an accepted submit whose answer names no task. If the answer could not be read, a task may run that nobody
    /// owns, so its slot stays taken for as long as a task lives.
    fn note_unclaimed(&self, exchange: &Exchange, response: &Response<Download>, is_readable: bool) {
        let account = account(exchange);
        if is_readable {
            exchange.free_slot();
            tracing::warn!(account = &*account.name, "the answer to a submit names no task; it has no owner");
            return;
        }
        if let Some(slot) = exchange.admitted.borrow_mut().task.take() {
            let unknown = Arc::from(format!("unread-{}", Uuid::new_v4()));
            self.shared.limits.task_reserved(&unknown, SystemTime::now(), slot);
        }
        account.series.count_unread_submit();
        let codings = response.headers().get_all(CONTENT_ENCODING);
        let codings: Vec<_> =
            codings.iter().map(|coding| coding.as_bytes().escape_ascii().to_string()).collect();
        tracing::error!(
            account = &*account.name,
            status = response.status().as_u16(),
            coding = codings.join(", "),
            bytes = response.body().bytes_ahead(),
            "the answer to a submit can't be read: if it names a task, that task has no owner, and no client can poll it"
        );
    }
}

/// Our id of the request, and DashScope's, which the client gets in the answer's head or body.
fn request_ids(exchange: &Exchange, response: &Response<Download>, answer: &SubmitAnswer) -> RequestIds {
    let in_head = response.headers().get(REQUEST_ID).and_then(|id| id.to_str().ok());
    let told = in_head.or(answer.request_id.as_deref());
    RequestIds {
        own: exchange.own_id().to_string().into(),
        upstream: told.filter(|id| RequestIds::is_id(id)).map(Box::from),
    }
}

fn new_task(
    index: &TaskIndex,
    exchange: &Exchange,
    id: &Arc<str>,
    status: Option<Status>,
    asked: Option<Arc<RequestedVideo>>,
    webhook: Option<Arc<str>>,
) -> Arc<TaskRecord> {
    let (permit, directory) = (exchange.permit(), exchange.directory());
    let status = status.unwrap_or(Status::Unknown);
    let (model, now) = (exchange.model.get().cloned().unwrap_or_default(), SystemTime::now());
    let terms = permit.tenant().billing.terms(&model, now);
    let fields = TaskFields {
        id: Arc::clone(id),
        tenant: Arc::clone(&permit.tenant().name),
        key_id: permit.caller().key_id().into(),
        account: Arc::clone(&account(exchange).name),
        model,
        mount: Arc::clone(&exchange.route().mount(directory).prefix),
        claimed_at: now,
        // A task has ended once its final answer is held, which a query brings.
        status: if status.is_final() { Status::Pending } else { status },
        asked,
        hidden: false,
        terms,
        webhook,
    };
    index.sharing(fields.into())
}

/// The account to which the submit was sent.
fn account(exchange: &Exchange) -> &Account {
    &exchange.directory().accounts[exchange.account.get().unwrap_or_default()]
}

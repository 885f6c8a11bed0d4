//! Claim: records which tenant owns the task of a submit, before the client sees a byte of the answer.

use std::sync::Arc;
use std::time::SystemTime;

use super::exchange::Exchange;
use crate::dashscope::task::NamedTask;
use crate::store::{Store, TaskRecord};
use crate::unified::RequestedVideo;

/// Claims the new task of a submit for its tenant. The claim is durable when this returns, unless the store fails.
pub(super) async fn claim(
    store: &Store,
    exchange: &Exchange,
    named: NamedTask,
    asked: Option<Arc<RequestedVideo>>,
) -> Arc<TaskRecord> {
    let (permit, directory) = (exchange.permit(), exchange.directory());
    let task = Arc::new(TaskRecord {
        id: named.task_id,
        tenant: Arc::clone(&permit.tenant().name),
        key_id: permit.caller().key_id().into(),
        account: Arc::clone(&directory.accounts[exchange.account.get().unwrap_or_default()].name),
        model: exchange.model.get().cloned().unwrap_or_default(),
        mount: Arc::clone(&exchange.route().mount(directory).prefix),
        claimed_at: SystemTime::now(),
        status: named.status.into(),
        asked,
        hidden: false.into(),
    });
    if let Err(fault) = store.claim(Arc::clone(&task)).await {
        // The task is paid for, so the client gets its id all the same. If the gateway crashes before the claim is
        // durable, the task has no owner.
        tracing::error!(task_id = &*task.id, tenant = &*permit.tenant().name, %fault, "a task's owner is not durable yet");
    }
    task
}

//! A call that makes a task. Once sent it is paid for, so its answer is read to the end even if the client leaves.

use std::rc::Rc;
use std::time::SystemTime;

use hyper::{Response, StatusCode};
use tokio::sync::oneshot;

use super::detach::DetachOnDrop;
use super::observe::{self, Observed};
use super::passage::Passage;
use super::rejection::Rejection;
use super::worker::Proxy;
use super::{claim, videos};
use crate::config::Dialect;
use crate::dashscope::task;
use crate::upstream::{self, ANSWER_BYTES};

impl Proxy {
    /// Sends a submit, claims its task, and answers the client.
    pub(super) async fn submit(
        self: &Rc<Self>,
        mut passage: Box<Passage>,
    ) -> Result<Response<Observed>, Rejection> {
        let proxy = Rc::clone(self);
        // The sender is dropped with this future, when the client leaves.
        let (_present, client) = oneshot::channel();
        let work = async move {
            let (exchange, asked) = (Rc::clone(&passage.exchange), passage.asked.take());
            let mut response = proxy.send(passage, Some(client)).await?;
            let text = upstream::read_ahead(&mut response, ANSWER_BYTES).await?;
            let accepted = text.as_ref().filter(|_| response.status() == StatusCode::OK);
            let named = accepted.and_then(|text| task::read(text));
            let account = exchange.account.get().unwrap_or_default();
            let mount = exchange.route().mount(exchange.directory());
            let claimed = match named {
                Some(named) => {
                    exchange.note_task(&named.task_id);
                    let slot = exchange.admitted.borrow_mut().task.take();
                    if let Some(slot) = slot {
                        proxy.shared.limits.task_reserved(&named.task_id, SystemTime::now(), slot);
                    }
                    Some(claim::claim(&proxy.shared.store, &exchange, named, asked).await)
                }
                None if response.status() == StatusCode::OK => {
                    tracing::warn!(account, "the answer to a submit names no task; it has no owner");
                    None
                }
                None => None,
            };
            exchange.start.take();
            Ok(match mount.dialect {
                Dialect::Native => observe::stream(response, &exchange),
                Dialect::Unified => {
                    let created = videos::respond::created(
                        &proxy.shared.hub,
                        mount.video_statuses,
                        &response,
                        text,
                        claimed.as_deref(),
                    );
                    observe::whole(created, &exchange)
                }
            })
        };
        // If `work` panicked, the request may have been sent.
        DetachOnDrop::new(work, &self.running).await.unwrap_or(Err(Rejection::UpstreamLost))
    }
}

//! A call that makes a task. Once sent it is paid for, so its answer is read to the end even if the client leaves.

use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;

use hyper::Response;
use tokio::sync::oneshot;

use super::detach::DetachOnDrop;
use super::observe::{self, Observed};
use super::passage::Passage;
use super::rejection::Rejection;
use super::videos;
use super::worker::Proxy;
use crate::config::Dialect;
use crate::unified::RequestedVideo;

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
            if let Some(key) = exchange.held_key.get() {
                key.note_asked(asked.as_ref(), passage.webhook.as_ref());
            }
            let made = proxy.make(passage, asked, client).await;
            // Also where the client has left, who may come again.
            exchange.conclude(&made);
            made
        };
        // If `work` panicked, the request may have been sent.
        DetachOnDrop::new(work, &self.running).await.unwrap_or(Err(Rejection::UpstreamLost))
    }

    /// Sends a submit, and claims its task.
    async fn make(
        &self,
        mut passage: Box<Passage>,
        asked: Option<Arc<RequestedVideo>>,
        client: oneshot::Receiver<Infallible>,
    ) -> Result<Response<Observed>, Rejection> {
        let exchange = Rc::clone(&passage.exchange);
        let webhook = passage.webhook.take();
        let mut response = self.send(passage, Some(client)).await?;
        let (text, claimed) = self.claim(&exchange, &mut response, asked, webhook).await?;
        exchange.start.take();
        let mount = exchange.route().mount(exchange.directory());
        Ok(match mount.dialect {
            Dialect::Native => observe::stream(response, &exchange),
            Dialect::Unified => {
                let created = videos::respond::created(
                    &self.shared.hub,
                    mount.video_statuses,
                    &response,
                    text,
                    claimed.as_deref(),
                );
                observe::whole(created, &exchange)
            }
        })
    }
}

//! State that the stages of one worker use.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Shared;
use super::exchange::recorder::Recorder;
use super::exchange::revoke::LiveExchanges;
use super::reading_on::ReadingOn;
use crate::telemetry::traces::Tracer;
use crate::upstream::Upstream;

/// One worker's share of the gateway.
pub struct Proxy {
    pub shared: Shared,
    pub recorder: Rc<Recorder>,
    pub upstream: Upstream,
    pub draining: CancellationToken,
    /// Others accept new connections: each connection of this process closes after its answer.
    pub parting: Cell<bool>,
    /// Work that may run longer than its connection: submits, which are read to their end, and tunnels.
    pub running: TaskTracker,
    /// Exchanges that end when their key is revoked or expires.
    pub live: Rc<LiveExchanges>,
}

impl Proxy {
    pub fn new(shared: Shared, tracer: Option<Tracer>) -> Self {
        let (metrics, lines) = (Arc::clone(&shared.metrics), shared.access_log.writer());
        let running = TaskTracker::new();
        let reading_on = ReadingOn::new(running.clone());
        Self {
            recorder: Rc::new(Recorder::new(metrics, lines, tracer, shared.store.clone(), reading_on)),
            upstream: Upstream::new(Arc::clone(&shared.directory.load().settings.proxies)),
            shared,
            draining: CancellationToken::new(),
            parting: Cell::new(false),
            running,
            live: Rc::default(),
        }
    }
}

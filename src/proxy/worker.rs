//! State that the stages of one worker use.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::exchange::LiveExchanges;
use super::exchange::recorder::Recorder;
use crate::account::AccountRegistry;
use crate::account::uploads::UploadDirectories;
use crate::limits::{self, AuthFailures};
use crate::polling::hub::PollHub;
use crate::tenant::directory::Directory;
use crate::tenant::keyring::Keyring;
use crate::upstream::{BufferBudget, Upstream};

/// One worker's share of the gateway.
pub struct Proxy {
    pub directory: Arc<ArcSwap<Directory>>,
    pub keyring: Arc<Keyring>,
    pub hub: Arc<PollHub>,
    pub accounts: Arc<AccountRegistry>,
    pub uploads: Arc<UploadDirectories>,
    pub limits: Arc<limits::Registry>,
    pub auth_failures: Arc<AuthFailures>,
    /// Memory for bodies that are read before they are sent.
    pub buffer_budget: Arc<BufferBudget>,
    pub recorder: Rc<Recorder>,
    pub upstream: Upstream,
    pub draining: CancellationToken,
    /// Another process accepts new connections: each connection of this process is told to close after its answer.
    pub parting: Cell<bool>,
    /// Work that may run longer than its connection: submits, which are read to their end, and tunnels.
    pub running: TaskTracker,
    /// Exchanges that end when their key is revoked or expires.
    pub live: Rc<LiveExchanges>,
}

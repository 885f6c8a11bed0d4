//! Connections to DashScope and to object storage: one pool per worker and account or storage host, HTTP/1.1 only.

mod body_digest;
mod buffer_budget;
mod download;
mod late_model;
mod patience;
mod pool;
mod send;
mod storage;
mod trailer_filter;
mod unread;
mod upload;
mod whole_answer;

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hyper::header::HeaderValue;
use tokio::time::Instant;

pub use buffer_budget::{BudgetShare, BufferBudget};
pub use download::{ANSWER_BYTES, Download, DownloadFault, beginning, read_ahead, read_far_ahead};
pub use send::{SendFault, Target};
pub use storage::StorageUrl;
pub use trailer_filter::FieldFilter;
pub use unread::{LONGEST_DISCARD, Remainder, discard};
pub use upload::{BEGINNING_BYTES, Keep, Progress, Upload, UploadFault};
pub use whole_answer::{AnswerText, ReadBounds, ReadFault, read_whole};

use crate::account::{Account, Address};
pub use crate::net::dial::ConnectFault;
use crate::net::dial::Dialer;
use crate::net::egress_proxy::EnvironmentProxies;
use crate::telemetry::log_throttle::LogThrottle;
use pool::{Connection, ConnectionPool};
use storage::StorageOrigin;

/// One worker's connections to every account and storage host.
#[derive(Default)]
pub struct Upstream {
    /// Keyed by the memory address of the `Address`. The key stays unique because the pool holds a weak reference to
    /// the `Address`, so its memory is not used again.
    pools: RefCell<HashMap<*const Address, Rc<ConnectionPool>, foldhash::fast::RandomState>>,
    storage: RefCell<HashMap<StorageOrigin, Rc<ConnectionPool>, foldhash::fast::RandomState>>,
    dialer: Rc<Dialer>,
    /// Proxies on the way to storage.
    proxies: Arc<EnvironmentProxies>,
    reports: LogThrottle,
}

impl Upstream {
    /// No connections yet. `proxies` are on the way to storage; an account names its own.
    pub fn new(proxies: Arc<EnvironmentProxies>) -> Self {
        Self { proxies, ..Self::default() }
    }

    /// Takes a connection to the account, for one request.
    ///
    /// # Errors
    /// The [`ConnectFault`]; nothing was sent.
    async fn connection(&self, account: &Account, patience: Duration) -> Result<Connection, ConnectFault> {
        let pool = self.pool(&account.address)?;
        pool.connection(patience).await
    }

    fn pool(&self, address: &Arc<Address>) -> Result<Rc<ConnectionPool>, ConnectFault> {
        let place = Arc::as_ptr(address);
        if let Some(pool) = self.pools.borrow().get(&place) {
            return Ok(Rc::clone(pool));
        }
        let pool = ConnectionPool::new(address, Rc::clone(&self.dialer))
            .map_err(|error| ConnectFault::Tls(std::io::Error::other(error)))?;
        self.pools.borrow_mut().insert(place, Rc::clone(&pool));
        Ok(pool)
    }

    /// Reports that a connection to the host failed by a fault of our own. Every request meets such a fault, so not
    /// each has a line.
    pub fn report_local_fault(&self, host: &HeaderValue, fault: &ConnectFault) {
        if self.reports.lets_through(Instant::now()) {
            tracing::error!(?host, problem = %fault, "the gateway can't connect; nothing is held against the upstream");
        }
    }

    /// Closes connections that have been idle for too long, and connections to addresses that a reload took away.
    pub fn sweep(&self) {
        let now = Instant::now();
        self.pools.borrow_mut().retain(|_, pool| {
            pool.sweep(now);
            !pool.is_forgotten()
        });
        self.storage.borrow_mut().retain(|_, pool| {
            pool.sweep(now);
            pool.has_idle()
        });
    }
}

//! Connections to DashScope: one pool per worker and account, HTTP/1.1 only.

mod connect;
mod download;
mod pool;
mod room;
mod screen;
mod tls;
mod upload;

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

pub use connect::ConnectFault;
pub use download::{Download, DownloadFault};
pub use pool::Connection;
pub use room::Room;
pub use screen::Strip;
pub use upload::{Keep, Progress, Upload, UploadFault};

use crate::account::Account;
use connect::Endpoint;
use pool::Pool;

/// One worker's connections to every account.
pub struct Upstream {
    pools: RefCell<HashMap<Arc<str>, Rc<Pool>, foldhash::fast::RandomState>>,
    connect_patience: Duration,
}

impl Upstream {
    pub fn new(connect_patience: Duration) -> Self {
        Self { pools: RefCell::default(), connect_patience }
    }

    /// A connection to the account, for one request.
    ///
    /// # Errors
    /// Why there is none; nothing was sent.
    pub async fn connection(&self, account: &Account) -> Result<Connection, ConnectFault> {
        let pool = self.pool(account)?;
        pool.connection().await
    }

    fn pool(&self, account: &Account) -> Result<Rc<Pool>, ConnectFault> {
        if let Some(pool) = self.pools.borrow().get(&account.name) {
            return Ok(Rc::clone(pool));
        }
        let endpoint =
            Endpoint::new(account).map_err(|error| ConnectFault::Tls(std::io::Error::other(error)))?;
        let pool = Pool::new(endpoint, self.connect_patience);
        self.pools.borrow_mut().insert(Arc::clone(&account.name), Rc::clone(&pool));
        Ok(pool)
    }

    /// Closes what has been idle for too long.
    pub fn sweep(&self) {
        let now = Instant::now();
        self.pools.borrow().values().for_each(|pool| pool.sweep(now));
    }
}

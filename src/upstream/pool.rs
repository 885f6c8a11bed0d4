//! Connections that one worker keeps between requests to one address.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::time::Duration;

use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::upload::Upload;
use crate::account::Address;
use crate::net::dial::{AddressRule, ConnectFault, Destination, Dialer};
use crate::net::spurious_wakes::WakeFiltered;
use crate::net::{ServerTls, client_config};

/// Idle connections of one worker to one address.
pub(super) struct ConnectionPool {
    address: Weak<Address>,
    destination: Destination,
    dialer: Rc<Dialer>,
    /// Ordered by last use, newest at the back. Requests take from the back, so connections that are not needed grow
    /// old at the front and are closed.
    idle: RefCell<VecDeque<IdleConnection>>,
    open: Rc<Cell<usize>>,
}

struct IdleConnection {
    link: OpenConnection,
    since: Instant,
}

impl ConnectionPool {
    /// Pool of an account.
    ///
    /// # Errors
    /// A fault of the address.
    pub(super) fn new(address: &Arc<Address>, dialer: Rc<Dialer>) -> Result<Rc<Self>, rustls::Error> {
        let url = &address.base_url;
        let destination = Destination {
            host: url.host.as_str().into(),
            port: url.port,
            tls: tls(url.tls, &url.host, address.ca_pem.as_deref())?,
            proxy: address.proxy.clone(),
            rule: AddressRule::Any,
        };
        Ok(Self::with(Arc::downgrade(address), destination, dialer))
    }

    /// Pool of a host that belongs to no account.
    pub(super) fn to(destination: Destination, dialer: Rc<Dialer>) -> Rc<Self> {
        Self::with(Weak::new(), destination, dialer)
    }

    fn with(address: Weak<Address>, destination: Destination, dialer: Rc<Dialer>) -> Rc<Self> {
        Rc::new(Self { address, destination, dialer, idle: RefCell::default(), open: Rc::default() })
    }

    pub(super) fn has_idle(&self) -> bool {
        !self.idle.borrow().is_empty()
    }

    /// True if no directory, and no request that has begun, knows the address any more.
    pub(super) fn is_forgotten(&self) -> bool {
        self.address.strong_count() == 0
    }

    /// Takes a connection for one request: an idle one, else a new one.
    ///
    /// # Errors
    /// The [`ConnectFault`] of a new one.
    pub(super) async fn connection(self: &Rc<Self>, patience: Duration) -> Result<Connection, ConnectFault> {
        while let Some(mut link) = self.take_idle() {
            if link.sender.ready().await.is_ok() {
                return Ok(Connection { link: Some(link), pool: Rc::clone(self), reused: true });
            }
        }
        let link = Box::pin(self.open(patience)).await?;
        Ok(Connection { link: Some(link), pool: Rc::clone(self), reused: false })
    }

    fn take_idle(&self) -> Option<OpenConnection> {
        let mut idle = self.idle.borrow_mut();
        let now = Instant::now();
        while let Some(IdleConnection { link, since }) = idle.pop_back() {
            if !link.sender.is_closed() && now - since < MOST_IDLE {
                return Some(link);
            }
        }
        None
    }

    async fn open(&self, patience: Duration) -> Result<OpenConnection, ConnectFault> {
        if self.open.get() >= MOST_OPEN {
            return Err(ConnectFault::Full);
        }
        let count = OpenCount::new(&self.open);
        let stream = self.dialer.connect(&self.destination, patience).await?;
        let (sender, connection) = http1::Builder::new()
            .handshake::<_, Upload>(TokioIo::new(stream))
            .await
            .map_err(|error| ConnectFault::Refused(std::io::Error::other(error)))?;
        let task = tokio::task::spawn_local(async move {
            // The error goes to the request on the connection.
            let _ = WakeFiltered::new(connection.with_upgrades()).await;
            drop(count);
        });
        Ok(OpenConnection { sender, task: task.abort_handle() })
    }

    /// Closes connections that have been idle for too long: the upstream would close them, possibly just when a request
    /// is sent.
    pub(super) fn sweep(&self, now: Instant) {
        let mut idle = self.idle.borrow_mut();
        while idle.front().is_some_and(|idle| now - idle.since >= MOST_IDLE || idle.link.sender.is_closed()) {
            idle.pop_front();
        }
    }

    fn keep(&self, link: OpenConnection) {
        let mut idle = self.idle.borrow_mut();
        if idle.len() < MOST_KEPT && !link.sender.is_closed() {
            idle.push_back(IdleConnection { link, since: Instant::now() });
        }
    }
}

/// The verification of the host's certificate, if it has one.
///
/// # Errors
/// A fault of the certificates or the host's name.
pub(super) fn tls(
    is_tls: bool,
    host: &str,
    ca_pem: Option<&[u8]>,
) -> Result<Option<ServerTls>, rustls::Error> {
    if !is_tls {
        return Ok(None);
    }
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| rustls::Error::General(format!("{host} is not a host's name")))?;
    Ok(Some((client_config(ca_pem, None)?, name)))
}

/// One connection and the task that drives it.
struct OpenConnection {
    sender: SendRequest<Upload>,
    task: AbortHandle,
}

/// A connection that one request has for itself. If dropped, it is closed, even while an exchange runs on it;
/// [`Connection::release`] keeps it.
pub(super) struct Connection {
    link: Option<OpenConnection>,
    pool: Rc<ConnectionPool>,
    reused: bool,
}

impl Connection {
    /// True if the connection carried a request before: only then may a request of which nothing was written be sent
    /// again.
    pub(super) fn is_reused(&self) -> bool {
        self.reused
    }

    /// # Panics
    /// Never: the link is only taken by [`Connection::release`] and [`Connection::detach`], which consume.
    pub(super) fn sender(&mut self) -> &mut SendRequest<Upload> {
        &mut self.link.as_mut().expect("a connection has its link until it is consumed").sender
    }

    /// Keeps the connection: both messages have ended.
    pub(super) fn release(mut self) {
        if let Some(link) = self.link.take() {
            self.pool.keep(link);
        }
    }

    /// Gives the connection up to a tunnel: its task ends by itself.
    pub(super) fn detach(mut self) {
        self.link = None;
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(link) = &self.link {
            link.task.abort();
        }
    }
}

/// Counts one open connection for as long as it lives.
struct OpenCount(Rc<Cell<usize>>);

impl OpenCount {
    fn new(open: &Rc<Cell<usize>>) -> Self {
        open.set(open.get() + 1);
        Self(Rc::clone(open))
    }
}

impl Drop for OpenCount {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// Alibaba's load balancers close an idle connection after 15 s; this is shorter.
const MOST_IDLE: Duration = Duration::from_secs(12);
const MOST_KEPT: usize = 512;
const MOST_OPEN: usize = 8192;

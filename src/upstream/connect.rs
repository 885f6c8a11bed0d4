//! From a base URL to an open connection.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::account::Address;
use crate::stream::{Stream, client_config};

/// Where an account's connections go, and how.
#[derive(Clone)]
pub(super) struct Endpoint {
    host: Box<str>,
    port: u16,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
}

/// Why there is no connection; nothing was sent.
#[derive(Debug)]
pub enum ConnectFault {
    Address(io::Error),
    Refused(io::Error),
    Tls(io::Error),
    Timeout,
    /// The worker has as many connections to the account as it may.
    Full,
}

impl ConnectFault {
    /// For the operator's log.
    pub fn problem(&self) -> String {
        match self {
            ConnectFault::Address(error) => format!("the host's address was not found: {error}"),
            ConnectFault::Refused(error) => format!("no connection: {error}"),
            ConnectFault::Tls(error) => format!("TLS failed: {error}"),
            ConnectFault::Timeout => "no connection within timeouts.connect".to_owned(),
            ConnectFault::Full => "too many connections are open already".to_owned(),
        }
    }
}

impl Endpoint {
    /// # Errors
    /// What is wrong with its certificates or its host's name.
    pub(super) fn new(address: &Address) -> Result<Self, rustls::Error> {
        let url = &address.base_url;
        let tls = if url.tls {
            let name = ServerName::try_from(url.host.clone())
                .map_err(|_| rustls::Error::General(format!("{} is not a host's name", url.host)))?;
            Some((client_config(address.ca_pem.as_deref(), None)?, name))
        } else {
            None
        };
        Ok(Self { host: url.host.as_str().into(), port: url.port, tls })
    }

    /// Connects, and shakes hands where the account has TLS.
    ///
    /// # Errors
    /// The [`ConnectFault`]; nothing of any request was sent.
    pub(super) async fn connect(&self, patience: Duration) -> Result<Stream, ConnectFault> {
        tokio::time::timeout(patience, self.reach()).await.unwrap_or(Err(ConnectFault::Timeout))
    }

    async fn reach(&self) -> Result<Stream, ConnectFault> {
        let addresses =
            tokio::net::lookup_host((&*self.host, self.port)).await.map_err(ConnectFault::Address)?;
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for address in addresses {
            match TcpStream::connect(address).await {
                Ok(stream) => return self.dress(stream).await,
                Err(error) => last = error,
            }
        }
        Err(ConnectFault::Refused(last))
    }

    async fn dress(&self, stream: TcpStream) -> Result<Stream, ConnectFault> {
        stream.set_nodelay(true).map_err(ConnectFault::Refused)?;
        let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 2);
        SockRef::from(&stream).set_tcp_keepalive(&keepalive).map_err(ConnectFault::Refused)?;
        match &self.tls {
            None => Ok(Stream::Plain(stream)),
            Some((config, name)) => TlsConnector::from(Arc::clone(config))
                .connect(name.clone(), stream)
                .await
                .map(|stream| Stream::Tls(Box::new(stream.into())))
                .map_err(ConnectFault::Tls),
        }
    }
}

/// A peer that vanished without a word is noticed by the kernel's probes.
const KEEPALIVE: Duration = Duration::from_secs(60);

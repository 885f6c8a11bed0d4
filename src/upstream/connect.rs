//! Connecting: from a base URL to an open connection.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::account::Address;
use crate::net::client_config;
use crate::net::public_address;
use crate::net::stream::Stream;

/// Opens connections to one host.
#[derive(Clone)]
pub(super) struct Connector {
    host: Box<str>,
    port: u16,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    rule: AddressRule,
}

/// Addresses that a host's name may lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AddressRule {
    Any,
    PublicOnly,
}

/// Why there is no connection; nothing was sent.
#[derive(Debug)]
pub enum ConnectFault {
    Address(io::Error),
    /// The host's name leads to this address, which is not public.
    Forbidden(IpAddr),
    Refused(io::Error),
    Tls(io::Error),
    Timeout,
    /// The worker has as many connections to the account as it may.
    Full,
}

impl ConnectFault {
    /// Text for the operator's log.
    pub fn problem(&self) -> String {
        match self {
            ConnectFault::Address(error) => format!("the host's address was not found: {error}"),
            ConnectFault::Forbidden(ip) => format!("the host leads to {ip}, which is not public"),
            ConnectFault::Refused(error) => format!("no connection: {error}"),
            ConnectFault::Tls(error) => format!("TLS failed: {error}"),
            ConnectFault::Timeout => "no connection within timeouts.connect".to_owned(),
            ConnectFault::Full => "too many connections are open already".to_owned(),
        }
    }
}

impl Connector {
    /// Connector of an account.
    ///
    /// # Errors
    /// A fault of the account's certificates or its host's name.
    pub(super) fn new(address: &Address) -> Result<Self, rustls::Error> {
        let url = &address.base_url;
        Self::to(url.tls, &url.host, url.port, address.ca_pem.as_deref(), AddressRule::Any)
    }

    /// Connector of any host.
    ///
    /// # Errors
    /// A fault of the certificates or the host's name.
    pub(super) fn to(
        tls: bool,
        host: &str,
        port: u16,
        ca_pem: Option<&[u8]>,
        rule: AddressRule,
    ) -> Result<Self, rustls::Error> {
        let tls = if tls {
            let name = ServerName::try_from(host.to_owned())
                .map_err(|_| rustls::Error::General(format!("{host} is not a host's name")))?;
            Some((client_config(ca_pem, None)?, name))
        } else {
            None
        };
        Ok(Self { host: host.into(), port, tls, rule })
    }

    /// Connects, and shakes hands if the host has TLS.
    ///
    /// # Errors
    /// The [`ConnectFault`]; nothing of any request was sent.
    pub(super) async fn connect(&self, patience: Duration) -> Result<Stream, ConnectFault> {
        tokio::time::timeout(patience, self.dial()).await.unwrap_or(Err(ConnectFault::Timeout))
    }

    async fn dial(&self) -> Result<Stream, ConnectFault> {
        let lookup = tokio::net::lookup_host((&*self.host, self.port));
        let addresses = self.allowed(lookup.await.map_err(ConnectFault::Address)?)?;
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for address in addresses {
            match TcpStream::connect(address).await {
                Ok(stream) => return self.handshake(stream).await,
                Err(error) => last = error,
            }
        }
        Err(ConnectFault::Refused(last))
    }

    /// Checks the addresses before one is connected to. The name is not looked up again, so it can't lead elsewhere by
    /// then.
    fn allowed(&self, found: impl Iterator<Item = SocketAddr>) -> Result<Vec<SocketAddr>, ConnectFault> {
        let found = found.collect();
        match self.rule {
            AddressRule::Any => Ok(found),
            AddressRule::PublicOnly => public_address::all_public(found).map_err(ConnectFault::Forbidden),
        }
    }

    async fn handshake(&self, stream: TcpStream) -> Result<Stream, ConnectFault> {
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

/// Time after which the kernel's probes notice a peer that vanished.
const KEEPALIVE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    /// A name that answers with another address each time can't pass the check with one and be connected to with
    /// another: there is one lookup.
    #[test]
    fn what_is_connected_to_was_looked_at() {
        let addresses = |list: &[&str]| {
            list.iter().map(|ip| SocketAddr::new(ip.parse().expect("an address"), 443)).collect::<Vec<_>>()
        };
        let connector =
            |rule| Connector::to(true, "rebinding.example", 443, None, rule).expect("a connector");
        let public = addresses(&["47.95.1.1", "2400:3200::1"]);
        let inside = addresses(&["47.95.1.1", "127.0.0.1"]);
        let allowed = |rule, found: &[SocketAddr]| connector(rule).allowed(found.iter().copied());
        assert_eq!(allowed(AddressRule::PublicOnly, &public).ok(), Some(public));
        assert!(
            matches!(allowed(AddressRule::PublicOnly, &inside), Err(ConnectFault::Forbidden(ip)) if ip.is_loopback())
        );
        assert_eq!(allowed(AddressRule::Any, &inside).ok(), Some(inside));
    }

    /// The name is resolved by the system's own resolver; a forbidden address is not connected to.
    #[tokio::test]
    async fn a_name_that_leads_inside_is_not_connected_to() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("non-blocking");
        let port = listener.local_addr().expect("an address").port();
        for (rule, connects) in [(AddressRule::PublicOnly, false), (AddressRule::Any, true)] {
            let connector = Connector::to(false, "localhost", port, None, rule).expect("a connector");
            let connected = connector.connect(Duration::from_secs(9)).await;
            assert_eq!((connected.is_ok(), listener.accept().is_ok()), (connects, connects));
        }
    }
}

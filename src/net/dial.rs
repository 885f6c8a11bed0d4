//! Dialling: from a host's name to an open connection, direct or through a proxy.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;

use super::descriptors;
use super::egress_proxy::{EgressProxy, TunnelFault};
use super::public_address;
use super::race::{SlowAddresses, in_order, race};
use super::resolve::{LookupFault, Resolver};
use super::stream::{Stream, set_options};
use super::trust::ServerTls;

/// A host to connect to.
#[derive(Clone)]
pub struct Destination {
    /// A name or an address, without brackets.
    pub host: Box<str>,
    pub port: u16,
    /// `None` for cleartext.
    pub tls: Option<ServerTls>,
    pub proxy: Option<Arc<EgressProxy>>,
    pub rule: AddressRule,
}

/// Addresses that a host's name may lead to. A proxy looks the name up itself, by rules of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressRule {
    Any,
    PublicOnly,
}

/// Why there is no connection; nothing was sent.
#[derive(Debug)]
pub enum ConnectFault {
    Address(LookupFault),
    /// The host's name leads to this address, which is not public.
    Forbidden(IpAddr),
    Refused(io::Error),
    Tls(io::Error),
    Timeout,
    /// The proxy opened no tunnel to the host.
    Tunnel(TunnelFault),
    /// The fault lies with the proxy, or behind it.
    Proxied {
        proxy: Arc<EgressProxy>,
        fault: Box<ConnectFault>,
    },
    /// The worker has as many connections to the account as it may.
    Full,
    /// The process has no descriptors left.
    NoDescriptors,
}

impl ConnectFault {
    /// True if the fault is the gateway's own, and says nothing of the host or the way to it.
    pub fn is_local(&self) -> bool {
        matches!(self, ConnectFault::Full | ConnectFault::NoDescriptors)
    }

    fn of(error: io::Error, other: impl FnOnce(io::Error) -> Self) -> Self {
        if descriptors::ran_out(&error) { ConnectFault::NoDescriptors } else { other(error) }
    }
}

impl fmt::Display for ConnectFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConnectFault::Address(fault) => write!(f, "the host's address was not found: {fault}"),
            ConnectFault::Forbidden(ip) => write!(f, "the host leads to {ip}, which is not public"),
            ConnectFault::Refused(error) => write!(f, "no connection: {error}"),
            ConnectFault::Tls(error) => write!(f, "TLS failed: {error}"),
            ConnectFault::Timeout => f.write_str("no connection within timeouts.connect"),
            ConnectFault::Tunnel(fault) => fault.fmt(f),
            ConnectFault::Proxied { proxy, fault } => write!(f, "through the proxy {proxy}: {fault}"),
            ConnectFault::Full => f.write_str("too many connections are open already"),
            ConnectFault::NoDescriptors => f.write_str(
                "the gateway has no file descriptors left; raise its limit (LimitNOFILE, ulimit -n)",
            ),
        }
    }
}

/// Opens connections, and remembers which addresses were slow.
#[derive(Default)]
pub struct Dialer {
    resolver: Resolver,
    slow: SlowAddresses,
}

impl Dialer {
    /// Connects within `patience`, and shakes hands if the host has TLS.
    ///
    /// # Errors
    /// The [`ConnectFault`]; nothing of any request was sent.
    pub async fn connect(&self, to: &Destination, patience: Duration) -> Result<Stream, ConnectFault> {
        let deadline = Instant::now() + patience;
        let connected = timeout_at(deadline, self.dial(to, deadline)).await;
        connected.unwrap_or(Err(ConnectFault::Timeout)).map_err(|fault| match &to.proxy {
            Some(proxy) if !fault.is_local() => {
                ConnectFault::Proxied { proxy: Arc::clone(proxy), fault: fault.into() }
            }
            Some(_) | None => fault,
        })
    }

    async fn dial(&self, to: &Destination, deadline: Instant) -> Result<Stream, ConnectFault> {
        let mut left = self.addresses(to, deadline).await?;
        loop {
            let (stream, address) = race(&mut left, &self.slow, TcpStream::connect)
                .await
                .map_err(|error| ConnectFault::of(error, ConnectFault::Refused))?;
            // While other addresses are left, this one has half of the time to prove that a server is behind it.
            let now = Instant::now();
            let limit = if left.is_empty() { deadline } else { now + (deadline - now) / 2 };
            match timeout_at(limit, greet(stream, to)).await {
                Ok(Err(ConnectFault::Tls(_))) | Err(_) if !left.is_empty() => {
                    self.slow.note(address, Instant::now());
                }
                Ok(greeted) => return greeted,
                Err(_) => return Err(ConnectFault::Timeout),
            }
        }
    }

    /// Checks the addresses before one is connected to. The name is not looked up again, so it can't lead elsewhere by
    /// then.
    async fn addresses(
        &self,
        to: &Destination,
        deadline: Instant,
    ) -> Result<VecDeque<SocketAddr>, ConnectFault> {
        let (host, port) = match &to.proxy {
            Some(proxy) => (&proxy.host, proxy.port),
            None => (&to.host, to.port),
        };
        let late = LookupFault { problem: "no answer within timeouts.connect".into(), is_local: false };
        let found = timeout_at(deadline, self.resolver.addresses(host, port)).await.unwrap_or(Err(late));
        let found = found.map_err(|fault| match fault.is_local {
            true => ConnectFault::NoDescriptors,
            false => ConnectFault::Address(fault),
        })?;
        Ok(in_order(&to.allowed(found)?, &self.slow, Instant::now()))
    }
}

impl Destination {
    fn allowed(&self, found: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, ConnectFault> {
        match (self.rule, &self.proxy) {
            (AddressRule::Any, _) => Ok(found),
            (AddressRule::PublicOnly, None) => {
                public_address::all_public(found).map_err(ConnectFault::Forbidden)
            }
            (AddressRule::PublicOnly, Some(_)) => match self.host.parse() {
                Ok(ip) => public_address::all_public(vec![SocketAddr::new(ip, self.port)])
                    .map(|_| found)
                    .map_err(ConnectFault::Forbidden),
                Err(_) => Ok(found),
            },
        }
    }
}

/// Opens the tunnel of a proxy, and shakes hands.
async fn greet(mut stream: TcpStream, to: &Destination) -> Result<Stream, ConnectFault> {
    set_options(&stream, UNACKNOWLEDGED).map_err(ConnectFault::Refused)?;
    if let Some(proxy) = &to.proxy {
        proxy.open_tunnel(&mut stream, &to.host, to.port).await.map_err(ConnectFault::Tunnel)?;
    }
    match &to.tls {
        None => Ok(Stream::Plain(stream)),
        Some((config, name)) => TlsConnector::from(Arc::clone(config))
            .connect(name.clone(), stream)
            .await
            .map(|stream| Stream::Tls(Box::new(stream.into())))
            .map_err(ConnectFault::Tls),
    }
}

/// Longest time without an acknowledgement of what was sent: an upstream that vanished is noticed by then.
const UNACKNOWLEDGED: Duration = Duration::from_secs(120);

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    fn to(host: &str, port: u16, rule: AddressRule) -> Destination {
        Destination { host: host.into(), port, tls: None, proxy: None, rule }
    }

    /// A name that answers with another address each time can't pass the check with one and be connected to with
    /// another: there is one lookup.
    #[test]
    fn what_is_connected_to_was_looked_at() {
        let addresses = |list: &[&str]| {
            list.iter().map(|ip| SocketAddr::new(ip.parse().expect("an address"), 443)).collect::<Vec<_>>()
        };
        let public = addresses(&["47.95.1.1", "2400:3200::1"]);
        let inside = addresses(&["47.95.1.1", "127.0.0.1"]);
        let allowed =
            |rule, found: &[SocketAddr]| to("rebinding.example", 443, rule).allowed(found.to_owned());
        assert_eq!(allowed(AddressRule::PublicOnly, &public).ok(), Some(public));
        assert!(
            matches!(allowed(AddressRule::PublicOnly, &inside), Err(ConnectFault::Forbidden(ip)) if ip.is_loopback())
        );
        assert_eq!(allowed(AddressRule::Any, &inside).ok(), Some(inside));
    }

    /// The proxy may be inside; an address that is written in the URL may not, even through it.
    #[test]
    fn a_proxy_is_no_way_around_the_check_of_a_written_address() {
        let proxy = EgressProxy::parse("http://10.0.0.1:3128").map(Arc::new).ok();
        let found = vec![SocketAddr::from(([10, 0, 0, 1], 3128))];
        for (host, passes) in [("a.oss.example", true), ("8.8.8.8", true), ("169.254.169.254", false)] {
            let to = Destination { proxy: proxy.clone(), ..to(host, 443, AddressRule::PublicOnly) };
            assert_eq!(to.allowed(found.clone()).is_ok(), passes, "{host}");
        }
    }

    /// The name is resolved by the system's own resolver; a forbidden address is not connected to.
    #[tokio::test]
    async fn a_name_that_leads_inside_is_not_connected_to() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("non-blocking");
        let port = listener.local_addr().expect("an address").port();
        for (rule, connects) in [(AddressRule::PublicOnly, false), (AddressRule::Any, true)] {
            let connected =
                Dialer::default().connect(&to("localhost", port, rule), Duration::from_secs(9)).await;
            assert_eq!((connected.is_ok(), listener.accept().is_ok()), (connects, connects));
        }
    }

    /// A host whose first address accepts connections and says nothing: the second one is used, and used first from
    /// then on.
    #[tokio::test]
    async fn an_address_without_a_server_behind_it_is_left_for_another() {
        let (silent, speaking) = loop {
            let silent = TcpListener::bind("127.0.0.2:0").await.expect("a port");
            let port = silent.local_addr().expect("an address").port();
            if let Ok(speaking) = TcpListener::bind(("127.0.0.1", port)).await {
                break (silent, speaking);
            }
        };
        let port = silent.local_addr().expect("an address").port();
        let proxy = format!("http://two.test:{port}");
        let proxy = EgressProxy::parse(&proxy).map(Arc::new).ok();
        let to = Destination { proxy, ..to("dashscope.test", 443, AddressRule::Any) };
        let addresses = ["127.0.0.2", "127.0.0.1"].map(|ip| ip.parse().expect("an address"));
        let resolver = Resolver::asking(Arc::new(move |_| Ok(addresses.to_vec())));
        let dialer = Dialer { resolver, slow: SlowAddresses::default() };
        let serve = async {
            for _ in 0..2 {
                let (mut stream, _) = speaking.accept().await.expect("a connection");
                let _ = stream.read(&mut [0; 1024]).await;
                stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.expect("written");
            }
        };
        let connect = async {
            let patience = Duration::from_secs(2);
            let both = [dialer.connect(&to, patience).await, dialer.connect(&to, patience).await];
            assert!(both.iter().all(Result::is_ok), "{both:?}");
        };
        tokio::join!(serve, connect);
        let silent = silent.into_std().expect("a socket");
        assert!(silent.accept().is_ok() && silent.accept().is_err(), "the silent address was asked once");
    }

    #[test]
    fn our_own_faults_are_told_from_a_host_s() {
        let of = |errno: rustix::io::Errno| ConnectFault::of(errno.into(), ConnectFault::Refused);
        assert!(of(rustix::io::Errno::MFILE).is_local() && ConnectFault::Full.is_local());
        assert!(!of(rustix::io::Errno::CONNREFUSED).is_local() && !ConnectFault::Timeout.is_local());
    }
}

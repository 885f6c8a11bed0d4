//! Connections to PostgreSQL.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_postgres::{AsyncMessage, Client, Config, Connection, NoTls, Notification};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::store::sql::fault::{Result, SqlFault};

/// The address of a database, with what a connection needs.
#[derive(Debug, Clone)]
pub(in crate::store) struct DatabaseAddress {
    /// One for each host, tried in this order.
    hosts: Arc<[Config]>,
    tls: Option<Arc<ClientConfig>>,
    /// Host, port and database, for people. Never the password.
    pub(in crate::store) name: Arc<str>,
}

impl DatabaseAddress {
    pub(in crate::store) fn new(
        mut hosts: Vec<Config>,
        tls: Option<Arc<ClientConfig>>,
        name: Arc<str>,
    ) -> Self {
        for settings in &mut hosts {
            settings
                .application_name("dashgate")
                .keepalives_idle(KEEPALIVE)
                .keepalives_interval(KEEPALIVE)
                .keepalives_retries(3)
                .tcp_user_timeout(CALL);
        }
        Self { hosts: hosts.into(), tls, name }
    }

    /// Connects to the first host that can be written; the connection's notifications go to `notified`. A task of the
    /// current runtime drives the connection until the client is dropped.
    ///
    /// # Errors
    /// Why there is no connection to the last host.
    pub(in crate::store) async fn connect(
        &self,
        notified: Option<mpsc::Sender<Notification>>,
    ) -> Result<Client> {
        let mut fault = SqlFault::TimedOut;
        for settings in &*self.hosts {
            // A halted server takes a connection and does not answer, so the time is that of all steps.
            let patience = settings.get_connect_timeout().copied().unwrap_or(CONNECT);
            let connecting = self.connect_to(settings, notified.clone());
            match timeout(patience, connecting).await {
                Ok(Ok(client)) => return Ok(client),
                Ok(Err(found)) => fault = found,
                Err(_) => fault = SqlFault::TimedOut,
            }
        }
        Err(fault)
    }

    async fn connect_to(
        &self,
        settings: &Config,
        notified: Option<mpsc::Sender<Notification>>,
    ) -> Result<Client> {
        match &self.tls {
            Some(tls) => {
                let tls = MakeRustlsConnect::new(ClientConfig::clone(tls));
                let (client, connection) = settings.connect(tls).await?;
                tokio::spawn(drive(connection, notified));
                Ok(client)
            }
            None => {
                let (client, connection) = settings.connect(NoTls).await?;
                tokio::spawn(drive(connection, notified));
                Ok(client)
            }
        }
    }
}

async fn drive<S, T>(mut connection: Connection<S, T>, notified: Option<mpsc::Sender<Notification>>)
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    // A fault of the connection is told to each caller of its client.
    while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
        if let (AsyncMessage::Notification(notification), Some(notified)) = (message, &notified) {
            // A notification is a hint: where many wait, one more tells nothing.
            let _ = notified.try_send(notification);
        }
    }
}

/// Longest time of a call, but for those that say otherwise.
pub(in crate::store) const CALL: Duration = Duration::from_secs(5);
const CONNECT: Duration = Duration::from_secs(5);
const KEEPALIVE: Duration = Duration::from_secs(5);

//! Sends one request over a pooled connection and waits for the head of its answer.

use std::pin::pin;
use std::rc::Rc;

use hyper::body::Incoming;
use hyper::{Request, Response};
use tokio::time::{Duration, Instant};

use super::Upstream;
use super::download::Download;
use super::pool::Connection;
use super::storage::StorageUrl;
use super::upload::{Progress, Upload};
use crate::account::Account;
use crate::config::Timeouts;
use crate::net::dial::ConnectFault;

/// The peer that a request is sent to.
#[derive(Clone, Copy)]
pub enum Target<'t> {
    Account(&'t Account),
    Storage(&'t StorageUrl),
}

/// Why there is no answer.
pub enum SendFault {
    /// There is no connection.
    NotConnected { request: Box<Request<Upload>>, fault: ConnectFault },
    /// A new connection was closed before the request was written.
    NotWritten(Box<Request<Upload>>),
    /// The connection broke; the request may have arrived. `is_reused`: the connection had carried a request before, so
    /// the upstream may have closed it as idle.
    Lost { error: hyper::Error, is_reused: bool },
    /// Nothing was sent nor came for `timeouts.upstream`; the request may have arrived.
    TimedOut,
}

impl Upstream {
    /// Sends a request and waits for the head of its answer. If the upstream had closed an idle connection before
    /// anything of the request was written to it, the request is sent again.
    ///
    /// # Errors
    /// The [`SendFault`].
    pub async fn send(
        &self,
        target: Target<'_>,
        mut request: Box<Request<Upload>>,
        timeouts: &Timeouts,
    ) -> Result<Response<Download>, SendFault> {
        let progress = request.body().progress();
        loop {
            let connected = match target {
                Target::Account(account) => self.connection(account, timeouts.connect).await,
                Target::Storage(url) => self.storage(url, timeouts.connect).await,
            };
            let mut connection = match connected {
                Ok(connection) => connection,
                Err(fault) => return Err(SendFault::NotConnected { request, fault }),
            };
            match exchange(&mut connection, request, &progress, timeouts.upstream).await {
                Ok(response) => {
                    let body = |incoming| {
                        Download::new(incoming, connection, Rc::clone(&progress), timeouts.upstream)
                    };
                    return Ok(response.map(body));
                }
                Err(SendFault::NotWritten(unsent)) if connection.is_reused() => request = unsent,
                Err(fault) => return Err(fault),
            }
        }
    }
}

/// Exchanges one pair of messages; gives up when nothing was sent nor came for `patience`.
async fn exchange(
    connection: &mut Connection,
    request: Box<Request<Upload>>,
    progress: &Progress,
    patience: Duration,
) -> Result<Response<Incoming>, SendFault> {
    let is_reused = connection.is_reused();
    let began = Instant::now();
    let deadline = || progress.last().max(began) + patience;
    let mut sending = Box::pin(connection.sender().try_send_request(*request));
    let mut sleep = pin!(tokio::time::sleep_until(deadline()));
    loop {
        tokio::select! {
            biased;
            answer = &mut sending => {
                return answer.map_err(|mut error| match error.take_message() {
                    Some(request) => SendFault::NotWritten(Box::new(request)),
                    None => SendFault::Lost { error: error.into_error(), is_reused },
                });
            }
            () = &mut sleep => {
                // While the body was still going up, the upstream was not silent.
                if Instant::now() >= deadline() {
                    return Err(SendFault::TimedOut);
                }
                sleep.as_mut().reset(deadline());
            }
        }
    }
}

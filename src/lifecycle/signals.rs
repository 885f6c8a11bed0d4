//! Signals: SIGTERM and SIGINT stop the gateway, SIGHUP reloads its configuration, SIGUSR2 starts a process that takes
//! over.

use std::io;
use std::process::{Child, Command, Stdio};

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::reload::ReloadHandle;
use super::systemd;

/// Waits for SIGTERM or SIGINT. Signals are heard from the call on.
///
/// # Errors
/// Why signals can't be heard.
pub fn stop_requested() -> io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Requests for a reload, heard from the call on.
///
/// # Errors
/// Why signals can't be heard.
pub fn reload_requests() -> io::Result<Signal> {
    signal(SignalKind::hangup())
}

/// Reloads at each SIGHUP; never returns.
pub async fn reload_at_each(mut hangup: Signal, reloads: Option<ReloadHandle>) {
    while hangup.recv().await.is_some() {
        match &reloads {
            Some(reloads) => {
                systemd::reloading();
                // The result is in the log.
                let _ = reloads.reload().await;
                systemd::ready();
            }
            None => tracing::warn!(
                "nothing to reload: the configuration is the environment's, which needs a restart"
            ),
        }
    }
    std::future::pending().await
}

/// Requests for an upgrade, heard from the call on.
///
/// # Errors
/// Why signals can't be heard.
pub fn upgrade_requests() -> io::Result<Signal> {
    signal(SignalKind::user_defined2())
}

/// Starts a process that takes over, at each SIGUSR2; never returns.
pub async fn upgrade_at_each(mut upgrade: Signal) {
    while upgrade.recv().await.is_some() {
        match start_again() {
            Ok(mut child) => {
                tracing::info!("process {} was started to take over", child.id());
                std::thread::spawn(move || {
                    if let Ok(status) = child.wait() {
                        tracing::error!("the process that was to take over, or has, ended: {status}");
                    }
                });
            }
            Err(error) => tracing::error!("no process could be started to take over: {error}"),
        }
    }
    std::future::pending().await
}

/// Starts the program again with its own arguments, from its current file.
fn start_again() -> io::Result<Child> {
    let mut arguments = std::env::args_os();
    let program = arguments.next().ok_or(io::ErrorKind::NotFound)?;
    let arguments: Vec<_> = arguments.filter(|argument| argument != TAKE_OVER).collect();
    Command::new(program).args(arguments).arg(TAKE_OVER).stdin(Stdio::null()).spawn()
}

/// Option of `serve` with which the new process takes over.
const TAKE_OVER: &str = "--take-over";

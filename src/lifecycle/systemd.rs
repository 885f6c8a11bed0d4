//! Notices to systemd (`sd_notify(3)`, for a unit of `Type=notify`); without `NOTIFY_SOCKET` none is sent.

use sd_notify::NotifyState;

/// The gateway serves, or a reload is over.
pub fn ready() {
    notify(&[NotifyState::Ready]);
}

/// A reload has begun, until [`ready`].
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(error) => tracing::warn!(%error, "the service manager is not told of the reload"),
    }
}

/// The gateway accepts nothing more, and lets running requests end.
pub fn stopping() {
    notify(&[NotifyState::Stopping]);
}

/// Another process becomes the service's main process.
pub fn handed_over(process: u32) {
    notify(&[NotifyState::MainPid(process)]);
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "the service manager can't be told how it is: see NOTIFY_SOCKET");
    }
}

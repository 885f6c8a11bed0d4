//! The life of the process: reloads, hand-overs, housekeeping, health, and messages to the service manager.

mod budget_watch;
pub mod config_view;
pub mod deletion_date;
mod event_watch;
pub mod handover;
pub mod housekeeping;
pub mod key_uses;
pub mod liveness;
pub mod readiness;
pub mod reload;
pub mod renames;
pub mod signals;
pub mod systemd;

//! The life of the process: reloads, hand-overs, health, and what the service manager is told.

pub mod handover;
pub mod liveness;
pub mod readiness;
pub mod reload;
pub mod systemd;

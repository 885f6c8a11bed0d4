//! What operators see of the gateway: metrics, the access log, traces, and the stopwatch that all three read.

pub mod access_log;
pub mod metrics;
pub mod stopwatch;
pub mod traces;

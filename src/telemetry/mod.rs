//! Observability for operators: metrics, the access log, diagnostics, traces, and the stopwatch that they read.

pub mod access_log;
pub mod diagnostics;
pub mod log_throttle;
mod method;
pub mod metrics;
pub mod stopwatch;
pub mod traces;

pub use method::method_name;

//! A simulator of DashScope, good enough to trust the tests that run against it.
//!
//! It shares no code with the gateway, so that a mistake in one cannot hide in the other. Every request is kept
//! as it arrived; faults are scripted; the clock can be moved on.

mod account;
mod account_wide;
mod api;
mod body;
mod call;
mod compatible;
mod errors;
mod fault;
mod form;
mod generation;
mod handshake;
mod journal;
mod media;
mod media_sets;
mod meter;
mod models;
mod options;
mod oss;
mod outcome;
mod parameters;
mod pattern;
mod queue;
mod raw;
mod realtime;
mod reply;
mod report;
mod route;
mod run_task;
mod server;
mod service;
mod session;
mod signature;
mod simulator;
mod streaming;
mod task_api;
mod tasks;
mod upload;
mod usage;
mod wire;
mod world;

pub use account::Credential;
pub use errors::Throttling;
pub use fault::{Act, Fault};
pub use journal::{Frame, Listener, Seen};
pub use options::{Options, Throttle};
pub use simulator::{Simulator, TaskView, run};
pub use tasks::Status;
pub use upload::Upload;

/// Where it follows the docs and where it guesses.
const LONG_ABOUT: &str = include_str!("help.txt");

//! Simulator of DashScope, exact enough that tests against it can be trusted.
//!
//! The simulator shares no code with the gateway, so that a mistake in one cannot hide in the other. Every request is
//! kept as it arrived; faults are scripted; the clock can be moved on.

mod account;
mod account_wide;
mod api;
mod bill;
mod billed_unit;
mod body;
mod call;
mod call_charge;
mod compatible;
mod connection;
mod consumption;
mod errors;
mod even_share;
mod fault;
mod fields;
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
mod oss_error;
mod outcome;
mod parameters;
mod pattern;
mod queue;
mod raw;
mod realtime;
mod reply;
mod report;
mod responses;
mod route;
mod run_task;
mod server;
mod service;
mod session;
mod session_bill;
mod session_message;
mod signature;
mod simulator;
mod state;
mod streaming;
mod task_api;
mod task_request;
mod tasks;
mod token_consumption;
mod upload;
mod usage;
mod video_consumption;

pub use account::SimulatedKey;
pub use billed_unit::BilledUnit;
pub use errors::ThrottlingKind;
pub use fault::{FaultAction, LostAnswer, ScriptedFault};
pub use journal::{RecordedFrame, RecordedRequest, SimulatedListener};
pub use options::{SimulatorOptions, ThrottledShare};
pub use simulator::{SimulatedTaskView, Simulator, run};
pub use tasks::SimulatedStatus;
pub use upload::SimulatedUpload;

/// Help text: it also lists where the simulator follows the documentation and where it guesses.
const LONG_ABOUT: &str = include_str!("help.txt");

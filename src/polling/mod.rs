//! The poll hub: what is known of each running task, who waits for it, and which query comes next.

mod account_poller;
mod answer_cache;
mod budget;
pub mod hub;
mod lane;
mod list_scan;
mod mean_duration;
pub mod poll;
pub mod querier;
mod schedule;
mod tracked_task;

pub use account_poller::{AccountPoller, CallPermit, NextCall, PageRequest, TaskEndpoint};
pub use tracked_task::{TaskAnswer, TrackedTask};

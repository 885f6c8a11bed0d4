//! The poll hub: what is known of each running task, which client waits for it, and which query comes next. [`hub`] and
//! all below it are a pure engine that takes the time as an argument; [`poll`] waits, and [`querier`] does the I/O.

mod account_poller;
mod answer_cache;
mod budget;
mod call_permit;
mod call_turns;
mod elsewhere;
mod end_answer;
mod end_search;
pub mod hub;
mod lease;
mod list_news;
mod list_scan;
mod mean_duration;
mod orphan;
mod orphan_match;
mod orphan_scan;
mod orphan_search;
mod orphan_watch;
mod other_replicas;
mod page_size;
pub mod poll;
pub mod querier;
mod query_fault;
mod replicas;
mod schedule;
mod sent_submit;
mod sent_submits;
mod settlement;
mod shared_turn;
mod signals;
mod task_ended;
mod tracked_task;

pub use account_poller::{AccountPoller, NextCall, PacedCall, PageRequest, TaskEndpoint};
pub use call_permit::CallPermit;
pub use call_turns::{CallTurns, QueuedCall, TurnFault};
pub use end_search::SlotHolder;
pub use orphan::Orphan;
pub use orphan_match::{Intent, SearchedAccount, Verdict, judge, may_be};
pub use orphan_scan::OrphanPage;
pub use orphan_search::AnswerClock;
pub use query_fault::QueryFault;
pub use sent_submit::SentSubmit;
pub use task_ended::{TaskEndSubscribers, TaskEnded};
pub use tracked_task::{TaskAnswer, TrackedTask};

//! The task index, which knows the tenant of each task, and pages of its tasks.

pub mod by_id;
pub mod index;
mod known_facts;
pub mod list;
pub mod pager;
mod running;
mod tenant_tasks;

//! Which tenant owns which task: the index, and its pages.

pub mod index;
pub mod list;
pub mod pager;
mod running;
mod tenant_ids;

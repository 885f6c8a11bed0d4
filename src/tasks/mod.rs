//! Which tenant owns which task: the index, and its pages.

pub mod index;
pub mod list;
pub mod newest;
pub mod page;
mod running;

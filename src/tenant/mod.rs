//! Who may call.

pub mod directory;
pub mod key;
pub mod keyring;
mod models;
pub mod token;

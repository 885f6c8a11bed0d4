//! Who may call.

pub mod certificate;
pub mod directory;
pub mod key;
pub mod keyring;
mod models;
pub mod token;

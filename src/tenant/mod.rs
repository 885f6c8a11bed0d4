//! Who may call.

pub mod directory;
pub mod key;
pub mod keyring;
pub mod token;

//! Who may call.

pub mod certificate;
pub mod directory;
pub mod key;
pub mod keyring;
pub mod token;

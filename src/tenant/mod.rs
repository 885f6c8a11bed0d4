//! Tenants, and the keys and certificates with which they call.

pub mod caller;
pub mod certificate;
pub mod directory;
pub mod key;
pub mod key_warnings;
pub mod keyring;
mod models;
pub mod token;

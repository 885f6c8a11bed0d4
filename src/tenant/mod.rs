//! Tenants, and the keys and certificates with which they call.

pub mod browser_token;
pub mod caller;
pub mod certificate;
pub mod directory;
pub mod directory_builder;
pub mod found_key;
pub mod key;
pub mod key_warnings;
pub mod keyring;
pub mod last_use;
mod models;
pub mod rotation;
pub mod runtime_tenants;
pub mod token;

//! Tenants: who may call, with which keys and certificates.

pub mod caller;
pub mod certificate;
pub mod conflicts;
pub mod directory;
pub mod key;
pub mod keyring;
mod models;
pub mod token;

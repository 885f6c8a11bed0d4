//! Commands beside `serve`: clients of a running gateway, the check of keys and store, and the demonstration.

pub mod accounts;
pub mod admin_client;
pub mod audit;
pub mod check;
mod columns;
pub mod demo;
pub mod guide;
pub mod health;
pub mod keys;
pub mod orphans;
pub mod prices;
pub mod reload;
pub mod store;
pub mod tasks;
mod tenant_settings;
pub mod tenants;
pub mod tokens;
pub mod usage;
pub mod webhooks;

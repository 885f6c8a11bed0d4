//! dashgate: a transparent reverse proxy for DashScope.

pub mod account;
pub mod app;
pub mod config;
pub mod dashscope;
pub mod proxy;
pub mod server;
pub mod tasks;
pub mod tenant;
pub mod timer;
pub mod upstream;

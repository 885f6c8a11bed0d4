//! dashgate: a transparent reverse proxy for DashScope.

pub mod config;
pub mod dashscope;

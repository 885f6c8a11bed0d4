//! dashgate: a transparent reverse proxy for DashScope.

pub mod sim;

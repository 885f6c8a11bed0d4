//! The upstream's public surface as data and pure functions. It imports nothing of ours.

pub mod asked;
pub mod coding;
pub mod envelope;
mod fields;
pub mod headers;
pub mod inference;
pub mod operation;
pub mod oss;
pub mod pace;
pub mod path;
pub mod pattern;
pub mod refusal;
pub mod row;
pub mod submit;
pub mod task;
pub mod time;
pub mod video;
pub mod websocket;

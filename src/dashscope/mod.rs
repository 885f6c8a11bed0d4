//! DashScope's public surface as data and pure functions. It uses no other module of this crate.

pub mod coding;
pub mod envelope;
pub mod headers;
pub mod inference_message;
mod lenient_json;
pub mod limited_fields;
pub mod model_field;
pub mod nearest;
pub mod operation;
pub mod oss;
pub mod path;
pub mod pattern;
pub mod refusal;
pub mod region;
pub mod secret_look;
pub mod size;
mod strict_json;
pub mod submit_answer;
pub mod submit_rules;
pub mod task;
pub mod task_list;
pub mod task_only;
pub mod task_report;
pub mod task_state;
pub mod time;
pub mod video;
pub mod websocket;

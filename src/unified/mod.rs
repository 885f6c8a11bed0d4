//! The other dialects over the same tasks: OpenAI's and ope.ai's `/v1/videos`, and APIYI's `/v1/tasks/{id}`.
//! What a client says becomes the native body of its model's family, and what DashScope says becomes their
//! shapes. Pure: nothing here sends or waits.

mod family;
mod fault;
pub mod fields;
mod form;
mod map;
pub mod media;
pub mod outcome;
pub mod page;
pub mod path;
mod progress;
mod reference;
pub mod refusal;
mod size;
pub mod task;
pub mod video;

/// Whether the model takes pictures as `data:` URLs.
pub fn takes_data(model: &str) -> bool {
    family::of(model).takes_data
}

pub use fault::Fault;
pub use fields::Ask;
pub use map::{Native, map};
pub use progress::poll_after;
pub use reference::Reference;

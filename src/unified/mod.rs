//! The unified dialect: OpenAI's and ope.ai's `/v1/videos` and APIYI's `/v1/tasks/{id}`, over DashScope's tasks.
//! A create becomes the native body of its model's family, and DashScope's answers become views of that dialect. All
//! functions are pure: nothing here sends or waits.

pub mod call;
pub mod create;
mod fault;
mod form;
mod map;
pub mod media;
mod model_family;
pub mod openai_error;
mod progress;
mod reference;
mod requested;
pub mod task_view;
pub mod video;
pub mod video_list;

pub use create::CreateRequest;
pub use fault::UnifiedFault;
pub use form::parts_without_boundary;
pub use map::{NativeSubmit, map};
pub use model_family::takes_data_urls;
pub use progress::poll_after;
pub use reference::Reference;
pub use requested::RequestedVideo;
pub use video::{RecordedTask, StatusSpelling, Video};

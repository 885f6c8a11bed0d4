//! What a call used: DashScope's own `usage`, read into units. It is read at the fixed place of an answer only, never
//! where its name first stands: answers repeat what callers wrote.

mod answer;
mod class;
mod estimate;
mod event_filter;
mod family;
mod fields;
mod frame;
mod last_field;
mod most;
mod named_files;
mod object;
mod quantity;
mod reading;
mod sent;
mod stream;
mod stream_options;
mod task;
mod tokens;
mod unit;

pub use answer::of_answer;
pub use estimate::{AnswerPart, estimate, estimate_behind, estimate_message, frame_bytes};
pub use event_filter::UsageEventFilter;
pub use frame::{FrameUsage, of_frame};
pub use most::MostUse;
pub use reading::{Reading, Usage};
pub use sent::{InputKind, SentInput, SentMessage};
pub use stream::{StreamReader, StreamUsage};
pub use stream_options::StreamOptions;
pub use task::of_task;
pub use unit::{Unit, Units};

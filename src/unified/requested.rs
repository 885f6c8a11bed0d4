//! The fields of a create that are recorded with its task.

use serde::{Deserialize, Serialize};

/// A video as the client requested it. Recorded because DashScope does not tell these fields before the task's end.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestedVideo {
    /// Up to 20,000 bytes: models read no more than 5,000 characters.
    pub prompt: Option<Box<str>>,
    pub seconds: Option<Box<str>>,
    /// As the client spelt it, mostly `1280x720`.
    pub size: Option<Box<str>>,
}

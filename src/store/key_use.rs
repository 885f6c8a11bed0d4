//! The last use of a key, as the store keeps it.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

/// The last use of a key, made at run time or of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyUse {
    pub key_id: Arc<str>,
    pub at: SystemTime,
}

/// Time for which a last use is kept.
pub(super) const KEY_USES_KEPT: Duration = Duration::from_secs(400 * 24 * 3600);

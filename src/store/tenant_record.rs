//! Records of tenants that were made at run time.

use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

/// A tenant that was made at run time. Times are kept to the millisecond.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantRecord {
    pub name: Arc<str>,
    /// Number of the record: 1 when the tenant is made, and one more with each change.
    pub version: u64,
    /// The keys of `[[tenants]]` without `name`, as a JSON object.
    pub settings: Box<str>,
    pub created_at: SystemTime,
    pub changed_at: SystemTime,
    /// Set once the tenant is deleted. Its tasks still settle, and its name is not used again.
    pub closed_at: Option<SystemTime>,
}

//! Names of replicas among each other, and how long one that is silent counts.

use std::time::Duration;

/// Number of a replica: its number among the writers, of which each start takes a new one.
pub type Replica = i64;
/// A replica that is not heard for so long does not count: it is cut off or has ended. One that is cut off sends no submits
/// by then.
pub const REPLICA_LIVES: Duration = Duration::from_secs(3);

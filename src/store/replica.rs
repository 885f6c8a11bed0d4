//! Names of replicas among each other.

/// Number of a replica: its number among the writers, of which each start takes a new one.
pub type Replica = i64;

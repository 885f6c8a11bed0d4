//! Promises of several replicas on one PostgreSQL.

mod away;
mod calls;
mod exchange;
mod kills;
mod leaders;
mod limits;
mod lost_commits;
mod lost_leaders;
mod one_gateway;
mod orphans;
mod place;
mod revoked;
mod rolling;
mod slots;

use std::time::Duration;

/// The times within which half of all, 99 of a hundred, and all came.
fn spread(times: &mut [Duration]) -> String {
    times.sort_unstable();
    let within = |share: usize| times[(times.len() * share).div_ceil(100) - 1];
    format!("half within {:.1?}, 99 % within {:.1?}, all within {:.1?}", within(50), within(99), within(100))
}

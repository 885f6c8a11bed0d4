//! The progress of a task, estimated: DashScope tells its status and nothing more.

use std::time::Duration;

use crate::dashscope::task::Status;

/// Percent done, from the status and the mean duration of such tasks. The number never falls while the task runs, and
/// 100 is reached only at its end.
pub(super) fn percent(status: Status, elapsed: Duration, mean: Option<Duration>) -> u8 {
    match status {
        Status::Succeeded => 100,
        Status::Running | Status::Other => {
            let part = elapsed.as_secs_f64() / mean.unwrap_or(TYPICAL).as_secs_f64().max(0.1);
            // A task that takes longer than the mean nears 99 ever more slowly.
            let percent = if part <= 1.0 { 90.0 * part } else { 99.0 - 9.0 / part };
            (percent as u8).clamp(1, 99)
        }
        Status::Pending | Status::Suspended | Status::Failed | Status::Canceled | Status::Unknown => 0,
    }
}

/// The time until the client should query again: shorter towards the expected end.
pub fn poll_after(elapsed: Duration, mean: Option<Duration>) -> Duration {
    let left = mean.unwrap_or(TYPICAL).saturating_sub(elapsed);
    (left / 4).clamp(SOONEST, LATEST)
}

/// The duration assumed for a model without a mean: a Wan video takes one to five minutes.
const TYPICAL: Duration = Duration::from_secs(120);
const SOONEST: Duration = Duration::from_secs(1);
const LATEST: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_never_goes_back_and_never_says_100_before_the_end() {
        let usual = Some(Duration::from_secs(60));
        let mut last = 0;
        for second in 0..100_000 {
            let now = percent(Status::Running, Duration::from_secs(second), usual);
            assert!((1..=99).contains(&now) && now >= last, "{now} after {last}");
            last = now;
        }
        assert_eq!(last, 98);
        assert_eq!(percent(Status::Running, Duration::from_secs(30), usual), 45);
        assert_eq!(percent(Status::Running, Duration::from_secs(30), None), 22);
        assert_eq!(percent(Status::Pending, Duration::from_secs(900), usual), 0);
        assert_eq!(percent(Status::Succeeded, Duration::ZERO, usual), 100);
    }

    #[test]
    fn clients_are_told_to_come_often_towards_the_end() {
        let seconds = |elapsed, usual| {
            poll_after(Duration::from_secs(elapsed), Some(Duration::from_secs(usual))).as_secs()
        };
        assert_eq!((seconds(0, 60), seconds(48, 60), seconds(70, 60)), (5, 3, 1));
    }
}

//! Back-off: the time from a failed try to the next one.

use std::time::Duration;

/// The pause behind the try of this number, from 1 on; `dice` is from 0 to 1, so that tries that failed together do not
/// come together again.
pub(super) fn pause(number: u32, dice: f64) -> Duration {
    let factor = 3_u32.saturating_pow(number.saturating_sub(1).min(20));
    let pause = FIRST.saturating_mul(factor).min(LONGEST);
    pause.mul_f64(1.0 - JITTER + 2.0 * JITTER * dice)
}

const FIRST: Duration = Duration::from_secs(2);
const LONGEST: Duration = Duration::from_secs(2 * 3600);
/// Part of a pause by which it may be shorter or longer.
const JITTER: f64 = 0.25;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_two_hours_and_differ_by_a_quarter() {
        let seconds = |number, dice| pause(number, dice).as_secs_f64();
        for (number, expected) in
            [(1, 2.0), (2, 6.0), (3, 18.0), (7, 1_458.0), (9, 7_200.0), (u32::MAX, 7_200.0)]
        {
            assert_eq!(seconds(number, 0.5), expected, "{number}");
            assert_eq!((seconds(number, 0.0), seconds(number, 1.0)), (0.75 * expected, 1.25 * expected));
        }
    }

    #[test]
    fn a_day_has_room_for_some_twenty_tries() {
        let mut tries = 0;
        let mut passed = Duration::ZERO;
        while passed < Duration::from_secs(24 * 3600) {
            tries += 1;
            passed += pause(tries, 0.5);
        }
        assert_eq!(tries, 20);
    }
}

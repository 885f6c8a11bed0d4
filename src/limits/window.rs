//! A sliding window: at most so many calls in any second, whichever moment between a call's start and its answer the
//! upstream counts it at.

use std::time::{Duration, Instant};

/// Number of calls that may start, and the time after which each makes room for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowRate {
    starts: usize,
    span: Duration,
    /// Time after which a call without an answer counts as answered; `None`: never.
    longest_answer: Option<Duration>,
}

/// Calls of the last span.
#[derive(Debug, Default)]
pub struct SlidingWindow {
    starts: Vec<WindowStart>,
    /// Calls of other replicas, without numbers.
    others: Vec<WindowStart>,
    number: u64,
    /// Smoothed time that the upstream takes to answer.
    lag: Duration,
}

#[derive(Debug)]
struct WindowStart {
    number: u64,
    at: Instant,
    ended: Option<Instant>,
}

impl WindowRate {
    pub fn per_second(requests: f64) -> Self {
        let requests = requests.clamp(*RANGE.start(), *RANGE.end());
        let starts = requests.ceil();
        Self {
            starts: starts as usize,
            span: Duration::from_secs_f64(starts / requests * MARGIN),
            longest_answer: Some(LONGEST_ANSWER),
        }
    }

    /// Calls to an endpoint that is asked for no more while its answers are late: calls without an answer count.
    pub fn calls_per_second(calls: u32) -> Self {
        Self { starts: calls.max(1) as usize, span: CALL_SPAN, longest_answer: None }
    }

    /// Longest time for which a call counts.
    pub fn longest(self) -> Duration {
        self.span + LONGEST_ANSWER
    }
}

impl SlidingWindow {
    /// Takes in the calls of other replicas, instead of those known so far: for each its start and its answer.
    pub fn set_others(&mut self, others: impl IntoIterator<Item = (Instant, Option<Instant>)>) {
        let others = others.into_iter().map(|(at, ended)| WindowStart { number: 0, at, ended });
        self.others = others.collect();
    }

    /// Numbers of this replica's calls, with their starts and answers.
    pub fn starts(&self) -> impl Iterator<Item = (u64, Instant, Option<Instant>)> {
        self.starts.iter().map(|begun| (begun.number, begun.at, begun.ended))
    }

    /// Forgets a call that was not made after all.
    pub fn cancel(&mut self, number: u64) -> Option<Instant> {
        let found = self.starts.binary_search_by_key(&number, |begun| begun.number).ok()?;
        Some(self.starts.remove(found).at)
    }

    /// True if a call that has begun would find room if it began only now.
    pub fn has_room_for(&mut self, number: u64, rate: WindowRate, now: Instant) -> bool {
        let Some(at) = self.cancel(number) else { return false };
        let has_room = self.next_start(rate, now) <= now;
        let place = self.starts.partition_point(|begun| begun.number < number);
        self.starts.insert(place, WindowStart { number, at, ended: None });
        has_room
    }

    /// Notes the start of a call, and returns its number.
    pub fn begin(&mut self, now: Instant) -> u64 {
        self.number += 1;
        self.starts.push(WindowStart { number: self.number, at: now, ended: None });
        self.number
    }

    /// Notes the answer of a call: the upstream counted it between the start and now.
    pub fn end(&mut self, number: u64, now: Instant) {
        // The numbers ascend.
        let found = self.starts.binary_search_by_key(&number, |begun| begun.number);
        let Some(begun) = found.ok().and_then(|place| self.starts.get_mut(place)) else { return };
        begun.ended = Some(now);
        let took = now.saturating_duration_since(begun.at).min(LONGEST_ANSWER);
        self.lag = (self.lag * 7 + took) / 8;
    }

    /// Time at which one more call may start: exact, unless an answer is late. The cost grows with the calls that were
    /// started, not with the rate.
    pub fn next_start(&mut self, rate: WindowRate, now: Instant) -> Instant {
        let length = self.length(rate, now);
        if length < rate.starts {
            return now;
        }
        let mut freed: Vec<Instant> = self.all().map(|begun| begun.frees(rate, now)).collect();
        *freed.select_nth_unstable(length - rate.starts).1
    }

    /// Turn of a call that waits behind `before` others. Waiting calls start evenly, so that no call that comes later
    /// finds the whole second taken. Exact for the first, unless an answer is late, and an estimate for the others.
    pub fn turn(&mut self, rate: WindowRate, before: usize, now: Instant) -> Instant {
        let slots = self.slots(rate, now);
        let interval = self.interval(rate);
        let last = self.all().map(|begun| begun.at).max();
        let mut turn = last.map_or(now, |last| now.max(last + interval));
        for (place, slot) in slots.iter().cycle().take(before + 1).enumerate() {
            let round = u32::try_from(place / slots.len()).unwrap_or(u32::MAX);
            let freed = *slot + (rate.span + self.lag) * round;
            turn = freed.max(if place == 0 { turn } else { turn + interval });
        }
        turn
    }

    /// Times at which the calls of one span may start, in order.
    fn slots(&mut self, rate: WindowRate, now: Instant) -> Vec<Instant> {
        let mut slots = vec![now; rate.starts.saturating_sub(self.length(rate, now))];
        slots.extend(self.all().map(|begun| begun.frees(rate, now)));
        slots.sort_unstable();
        // A slower rate than before: the first that are freed make no room yet.
        slots.split_off(slots.len() - rate.starts)
    }

    /// Time between two starts in the long run.
    pub fn interval(&self, rate: WindowRate) -> Duration {
        (rate.span + self.lag) / u32::try_from(rate.starts).unwrap_or(u32::MAX)
    }

    pub fn is_empty(&mut self, rate: WindowRate, now: Instant) -> bool {
        self.length(rate, now) == 0
    }

    /// Number of calls that make no room yet; the others are forgotten.
    fn length(&mut self, rate: WindowRate, now: Instant) -> usize {
        self.starts.retain(|begun| begun.frees(rate, now) > now);
        self.others.retain(|begun| begun.frees(rate, now) > now);
        self.starts.len() + self.others.len()
    }

    fn all(&self) -> impl Iterator<Item = &WindowStart> {
        self.starts.iter().chain(&self.others)
    }
}

impl WindowStart {
    /// Time at which the call makes room: a span after the latest moment at which the upstream may have counted it. A
    /// call without an answer may be counted only now, within its longest time.
    fn frees(&self, rate: WindowRate, now: Instant) -> Instant {
        let counted = self.ended.unwrap_or(now);
        rate.longest_answer.map_or(counted, |longest| counted.min(self.at + longest)) + rate.span
    }
}

/// Two clocks may differ, and a timer may be early by a millisecond.
const MARGIN: f64 = 1.02;
/// An answer that takes longer says nothing of the moment at which the request was counted.
const LONGEST_ANSWER: Duration = Duration::from_secs(1);
/// One second, and a margin for clocks that differ.
const CALL_SPAN: Duration = Duration::from_millis(1_010);
/// Requests per second. A start is remembered with 40 bytes.
const RANGE: std::ops::RangeInclusive<f64> = 0.01..=1000.0;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn a_second_after_their_answers_there_is_room_again() {
        let (mut window, rate, start) =
            (SlidingWindow::default(), WindowRate::per_second(2.0), Instant::now());
        let numbers = [0, 1].map(|_| window.begin(start));
        window.end(numbers[0], start + millis(100));
        window.end(numbers[1], start + millis(300));
        let later = start + millis(300);
        assert_eq!(window.next_start(rate, later), start + millis(1120));
        assert_eq!(window.turn(rate, 0, later), start + millis(1120));
        // Half a span later, and half of what answers are expected to take.
        let half = millis(510) + Duration::from_nanos(48_437_500) / 2;
        assert_eq!(window.turn(rate, 1, later), start + millis(1120) + half);
        assert_eq!(window.turn(rate, 2, later), start + millis(1120) + half * 2);
        assert_eq!(window.next_start(rate, start + millis(1120)), start + millis(1120));
        assert!(!window.is_empty(rate, start + millis(1319)));
        assert!(window.is_empty(rate, start + millis(1320)));
    }

    #[test]
    fn those_who_wait_start_evenly_and_others_when_there_is_room() {
        let (mut window, rate, start) =
            (SlidingWindow::default(), WindowRate::per_second(5.0), Instant::now());
        for _ in 0..4 {
            let number = window.begin(start);
            window.end(number, start);
        }
        assert_eq!(
            (window.next_start(rate, start), window.turn(rate, 0, start)),
            (start, start + millis(204))
        );
        assert_eq!(window.turn(rate, 1, start), start + millis(1020));
        assert_eq!(window.turn(rate, 2, start), start + millis(1224));
        assert_eq!(window.turn(rate, 500, start), start + millis(1020 + 499 * 204));
    }

    #[test]
    fn a_late_answer_is_waited_for_but_not_for_ever() {
        let (mut window, rate, start) =
            (SlidingWindow::default(), WindowRate::per_second(1.0), Instant::now());
        window.begin(start);
        assert_eq!(window.turn(rate, 0, start + millis(500)), start + millis(1520));
        assert_eq!(window.turn(rate, 0, start + millis(1500)), start + millis(2020));
        assert_eq!(window.turn(rate, 0, start + millis(2020)), start + millis(2020));
    }

    #[test]
    fn a_rate_below_one_is_one_in_a_longer_time() {
        let (mut window, rate, start) =
            (SlidingWindow::default(), WindowRate::per_second(0.5), Instant::now());
        let number = window.begin(start);
        window.end(number, start);
        assert_eq!(window.turn(rate, 0, start), start + millis(2040));
        assert_eq!(window.turn(rate, 3, start), start + millis(4 * 2040));
    }

    #[test]
    fn a_slower_rate_holds_for_what_was_started_before_it() {
        let (mut window, start) = (SlidingWindow::default(), Instant::now());
        for _ in 0..5 {
            let number = window.begin(start);
            window.end(number, start);
        }
        assert_eq!(window.next_start(WindowRate::per_second(2.0), start), start + millis(1020));
        assert_eq!(window.next_start(WindowRate::per_second(6.0), start), start);
    }

    proptest! {
        /// The upstream never counts more calls in a second, wherever between start and answer it counts them.
        #[test]
        fn no_second_has_more_than_the_rule(
            rate in 1usize..6,
            steps in prop::collection::vec((0u64..400, 0u64..900, 0u64..100), 1..80),
        ) {
            let (mut window, mut now) = (SlidingWindow::default(), Instant::now());
            let (mut counted, mut open) = (Vec::new(), Vec::<(Instant, u64)>::new());
            for (pause, answer, at) in steps {
                let wanted = now + millis(pause);
                // Answers come in their order while it waits.
                loop {
                    let room = window.next_start(WindowRate::per_second(rate as f64), now);
                    if room.max(wanted) <= now { break; }
                    now = open.iter().map(|(end, _)| *end).chain([room.max(wanted)]).min().expect("one").max(now);
                    open.retain(|(end, number)| {
                        if *end <= now { window.end(*number, *end); }
                        *end > now
                    });
                }
                open.push((now + millis(answer), window.begin(now)));
                counted.push(now + millis(answer * at / 100));
            }
            counted.sort_unstable();
            for group in counted.windows(rate + 1) {
                prop_assert!(group[rate] - group[0] >= SECOND, "{:?}", group[rate] - group[0]);
            }
        }
    }
}

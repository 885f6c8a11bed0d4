use std::collections::HashMap;
use std::time::SystemTime;

use super::super::signals::AccountSignals;
use super::*;
use crate::store::{TaskFields, TaskRecord};

struct ScheduleFixture {
    schedule: Schedule,
    tasks: HashMap<u64, Arc<TrackedTask>>,
    signals: Arc<AccountSignals>,
    start: Instant,
}

fn world() -> ScheduleFixture {
    let start = Instant::now();
    let signals = Arc::new(AccountSignals::new(&"main".into(), start));
    ScheduleFixture { schedule: Schedule::new(start), tasks: HashMap::new(), signals, start }
}

impl ScheduleFixture {
    fn at(&self, seconds: u64) -> Instant {
        self.start + Duration::from_secs(seconds)
    }

    fn follow(&mut self, number: u64, tenant: &str, rest: u64) {
        self.follow_since(number, tenant, rest, 0);
    }

    fn follow_since(&mut self, number: u64, tenant: &str, rest: u64, since: u64) {
        let sample = TaskFields::sample(&number.to_string(), SystemTime::UNIX_EPOCH);
        let task = TaskRecord::from(TaskFields { tenant: tenant.into(), ..sample });
        let task = Arc::new(TrackedTask::new(task.into(), Arc::clone(&self.signals)));
        let (rest, now) = (self.at(rest), self.start + Duration::from_millis(since));
        self.schedule.follow(&task, rest, now);
        self.tasks.insert(number, task);
    }

    fn want(&mut self, number: u64, due: Instant) {
        self.schedule.want(&self.tasks[&number], due);
    }

    fn missing(&mut self, number: u64, now: Instant) {
        self.schedule.missing(&self.tasks[&number], now);
    }

    fn put_back(&mut self, number: u64, seconds: u64) {
        let (rest, now) = (self.at(100), self.at(seconds));
        self.schedule.put_back(&self.tasks[&number], None, rest, now);
    }

    fn drop(&mut self, number: u64) {
        self.schedule.drop(&self.tasks[&number]);
    }

    /// Numbers of the pending tasks without news since that time, in milliseconds since the start.
    fn unheard(&self, since: u64) -> Vec<u64> {
        let places = self.schedule.unheard(Status::Pending, since);
        places.iter().filter_map(|place| Some(number(&self.schedule.entries.get(*place)?.task))).collect()
    }

    fn next(&mut self, seconds: u64) -> Option<u64> {
        match self.schedule.next(self.at(seconds), |_| None, |_| 1) {
            NextTask::Ask(task, _) => Some(number(&task)),
            NextTask::At(_) | NextTask::Nothing => None,
        }
    }
}

fn number(task: &TrackedTask) -> u64 {
    task.id().parse().expect("a number")
}

#[test]
fn what_has_ended_goes_before_what_is_wanted_and_that_before_the_rest() {
    let mut world = world();
    for number in 0..3 {
        world.follow(number, "one", 0);
    }
    world.want(1, world.start);
    world.missing(2, world.at(1));
    assert_eq!(
        [world.next(2), world.next(2), world.next(2), world.next(2)],
        [Some(2), Some(1), Some(0), None]
    );
    assert_eq!(world.schedule.lengths(), (3, 0));
}

#[test]
fn one_in_hand_is_asked_for_once_more_if_somebody_asked_meanwhile() {
    let mut world = world();
    world.follow(7, "one", 100);
    world.want(7, world.start);
    assert_eq!(world.next(1), Some(7));
    world.want(7, world.at(1));
    world.want(7, world.at(1));
    assert_eq!(world.next(2), None);
    world.put_back(7, 3);
    assert_eq!([world.next(3), world.next(3)], [Some(7), None]);
    world.put_back(7, 4);
    assert_eq!([world.next(99), world.next(100)], [None, Some(7)]);
}

#[test]
fn the_sooner_of_two_wishes_counts() {
    let mut world = world();
    world.follow(7, "one", 100);
    world.want(7, world.at(9));
    world.want(7, world.at(5));
    world.want(7, world.at(8));
    assert_eq!([world.next(4), world.next(5)], [None, Some(7)]);
}

#[test]
fn whoever_nobody_asks_for_gets_every_sixteenth_turn() {
    let mut world = world();
    for number in 0..100 {
        world.follow(number, "one", 1_000);
        world.want(number, world.start);
    }
    for number in 100..110 {
        world.follow(number, "two", 0);
    }
    let turns: Vec<u64> = (0..32).filter_map(|_| world.next(1)).collect();
    let of_the_rest: Vec<usize> = (0..32).filter(|turn| turns[*turn] >= 100).collect();
    assert_eq!(of_the_rest, [15, 31]);
}

#[test]
fn what_is_known_well_enough_is_not_asked_for() {
    let mut world = world();
    world.follow(1, "one", 100);
    world.want(1, world.start);
    let until = world.at(5);
    assert!(
        matches!(world.schedule.next(world.at(1), |_| Some(until), |_| 1), NextTask::At(at) if at == until)
    );
    assert!(matches!(world.schedule.next(world.at(5), |_| Some(until), |_| 1), NextTask::Ask(..)));
}

#[test]
fn what_was_dropped_leaves_nothing() {
    let mut world = world();
    world.follow(1, "one", 0);
    world.follow(2, "one", 0);
    world.missing(2, world.start);
    assert_eq!(world.next(0), Some(2));
    world.want(1, world.start);
    // A task that was missed once need not be missed again.
    assert_eq!(world.unheard(1), [1]);
    world.drop(1);
    world.drop(2);
    assert_eq!(world.schedule.lengths(), (0, 0));
    assert_eq!((world.schedule.length(), world.unheard(1).len()), (0, 0));
    assert_eq!(world.next(1_000), None);
}

/// The new task may be on none of the pages that were asked for.
#[test]
fn a_task_that_came_after_a_scan_began_is_not_missed_by_it() {
    let mut world = world();
    world.follow_since(1, "one", 100, 100);
    world.follow_since(2, "one", 100, 200);
    assert_eq!(world.unheard(200), [1]);
}

#[test]
fn only_so_many_are_in_hand() {
    let mut world = world();
    for number in 0..1_000 {
        world.follow(number, "one", 0);
    }
    let taken = std::iter::from_fn(|| world.next(1)).count();
    assert_eq!(taken, MOST_IN_HAND);
}

#[test]
fn turns_follow_the_weights_of_the_tenants() {
    let mut world = world();
    for number in 0..40 {
        world.follow(number, if number < 20 { "light" } else { "heavy" }, 1_000);
        world.want(number, world.start);
    }
    let weight = |tenant: &str| if tenant == "heavy" { 3 } else { 1 };
    let at = world.at(1);
    let turns = (0..12).filter_map(|_| match world.schedule.next(at, |_| None, weight) {
        NextTask::Ask(task, _) => Some(number(&task)),
        NextTask::At(_) | NextTask::Nothing => None,
    });
    assert_eq!(turns.filter(|number| *number >= 20).count(), 9);
}

/// A gateway has millions of them.
#[test]
fn a_running_task_that_nobody_polls_takes_few_bytes() {
    assert_eq!((size_of::<TrackedTask>(), size_of::<Option<ScheduleEntry>>()), (48, 32));
}

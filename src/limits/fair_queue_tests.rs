use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn names() -> [Arc<str>; 3] {
    ["a", "b", "c"].map(Arc::from)
}

type Queue = FairQueue<u64, usize>;

/// Queues an item behind all others of its tenant, and requeue its key.
fn push(queue: &mut Queue, tenant: &Arc<str>, weight: u32, item: usize) -> u64 {
    let last = queue.lines.values().filter_map(|line| line.waiting.keys().last()).max();
    let key = last.map_or(1, |last| last + 1);
    queue.push(tenant, weight, key, item, Instant::now()).expect("room");
    key
}

fn fill(queue: &mut Queue, tenant: &Arc<str>, weight: u32, item: usize, times: usize) {
    for _ in 0..times {
        push(queue, tenant, weight, item);
    }
}

/// Items in the order of their turns.
fn order(queue: &mut Queue, most: usize) -> Vec<usize> {
    (0..most).map_while(|_| queue.pop()).collect()
}

#[test]
fn who_comes_late_waits_for_one_of_the_many_not_for_all() {
    let (mut queue, [a, b, _]) = (Queue::new(MOST_WAITING), names());
    fill(&mut queue, &a, 1, 0, 100);
    assert_eq!(order(&mut queue, 10), [0; 10]);
    fill(&mut queue, &b, 1, 1, 3);
    assert_eq!(order(&mut queue, 7), [1, 0, 1, 0, 1, 0, 0]);
}

#[test]
fn who_was_idle_has_saved_nothing_up() {
    let (mut queue, [a, b, _]) = (Queue::new(MOST_WAITING), names());
    for _ in 0..50 {
        push(&mut queue, &a, 1, 0);
        queue.pop();
    }
    for _ in 0..6 {
        push(&mut queue, &a, 1, 0);
        push(&mut queue, &b, 1, 1);
    }
    let first: usize = order(&mut queue, 6).into_iter().sum();
    assert!((3..=4).contains(&first), "{first} of b");
}

#[test]
fn shares_are_as_the_weights() {
    let (mut queue, tenants) = (Queue::new(MOST_WAITING), names());
    for (number, tenant) in tenants.iter().enumerate() {
        fill(&mut queue, tenant, [1, 2, 5][number], number, 200);
    }
    let mut counts = [0; 3];
    order(&mut queue, 160).into_iter().for_each(|tenant| counts[tenant] += 1);
    assert_eq!(counts, [20, 40, 100]);
}

#[test]
fn a_place_that_is_given_up_costs_no_turn() {
    let (mut queue, [a, b, _]) = (Queue::new(MOST_WAITING), names());
    let numbers: Vec<u64> = (0..50).map(|_| push(&mut queue, &a, 1, 0)).collect();
    for number in &numbers {
        assert_eq!(queue.remove("a", number), Some(0));
        assert_eq!(queue.remove("a", number), None);
    }
    assert!(queue.is_empty() && queue.pop().is_none());
    push(&mut queue, &b, 1, 1);
    push(&mut queue, &a, 1, 0);
    push(&mut queue, &b, 1, 1);
    assert_eq!(order(&mut queue, 3), [1, 0, 1]);
}

#[test]
fn a_full_house_is_shared_too() {
    let (mut queue, [a, b, c]) = (Queue::new(MOST_WAITING), names());
    fill(&mut queue, &a, 1, 0, MOST_WAITING);
    let now = Instant::now();
    assert_eq!(queue.push(&a, 1, 5_000, 0, now), Err(QueueFull));
    for key in 1..MOST_WAITING / 2 {
        assert_eq!(queue.push(&b, 1, 5_000 + key as u64, 1, now), Ok(Some(0)));
    }
    assert_eq!(queue.push(&c, 1, 9_000, 2, now), Ok(Some(0)));
    assert_eq!(queue.length(), MOST_WAITING);
    let all = order(&mut queue, 2 * MOST_WAITING);
    assert_eq!((all.len(), all.iter().filter(|tenant| **tenant == 2).count()), (MOST_WAITING, 1));
}

#[test]
fn lines_are_forgotten() {
    let (mut queue, now) = (Queue::new(MOST_WAITING), Instant::now());
    for number in 0..3 * MOST_LINES {
        push(&mut queue, &Arc::from(format!("t{number}")), 1, number);
        queue.pop();
    }
    assert!(queue.lines.len() <= MOST_LINES);
    for number in 0..3 * MOST_LINES {
        queue.promise(&Arc::from(format!("p{number}")), 1, now, Duration::ZERO, now);
    }
    assert!(queue.lines.len() <= MOST_LINES);
}

#[test]
fn lines_are_gone_when_they_are_empty() {
    let (mut queue, now) = (due_queue(), Instant::now());
    let tenants: Vec<Arc<str>> = (0..3 * MOST_LINES).map(|number| format!("t{number}").into()).collect();
    for (number, tenant) in (0u64..).zip(&tenants) {
        queue.push(tenant, 0, (0, number), (), now).expect("room");
    }
    assert!(queue.lines.len() == tenants.len() && queue.purge_at <= 2 * tenants.len());
    for (number, tenant) in (0u64..).zip(&tenants).skip(10) {
        queue.remove(tenant, &(0, number));
    }
    assert_eq!(queue.lines.len(), 10);
    // Each is served once, and remembered for as long as others may wait for their turn.
    assert_eq!(std::iter::from_fn(|| queue.pop()).count(), 10);
    assert_eq!((queue.lines.len(), queue.first_key()), (0, None));
}

#[test]
fn items_are_put_off_without_a_turn() {
    let (mut queue, [a, b, _], now) = (due_queue(), names(), Instant::now());
    for number in 0..100 {
        queue.push([&a, &b][number as usize % 2], 1, (0, number), (), now).expect("room");
    }
    let asked = std::cell::Cell::new(0);
    let put_off = |(_, number): &(u64, u64)| {
        asked.set(asked.get() + 1);
        (*number != 99).then_some((5, *number))
    };
    assert_eq!(queue.next(|(due, _)| *due <= 1, put_off, |_, weight| weight), Some((b, (0, 99))));
    assert!(asked.get() <= 100 && queue.lines["a"].begins == 0);
    assert_eq!((queue.length(), queue.first_key()), (100, Some((0, 99))));
}

#[test]
fn the_refused_are_told_times_of_their_own() {
    let (mut queue, [a, b, _]) = (Queue::new(MOST_WAITING), names());
    let (now, second) = (Instant::now(), Duration::from_secs(1));
    let mut told = |tenant, after: u32| {
        queue.promise(tenant, 1, now + second * 5, second / 2, now + second * after) - now
    };
    assert_eq!([told(&a, 0), told(&a, 0), told(&a, 0)], [second * 5, second * 11 / 2, second * 6]);
    assert_eq!(told(&b, 0), second * 5);
    let last = (0..1000).map(|_| told(&a, 0)).last();
    assert_eq!(last, Some(LATEST_PROMISE));
    assert_eq!(told(&b, 2), second * 11 / 2);
}

#[derive(Debug, Clone)]
enum QueueStep {
    Push(usize),
    Pop,
    Leave(usize),
}

fn steps() -> impl Strategy<Value = Vec<QueueStep>> {
    let step = prop_oneof![
        4 => (0usize..3).prop_map(QueueStep::Push),
        3 => Just(QueueStep::Pop),
        1 => (0usize..100).prop_map(QueueStep::Leave),
    ];
    prop::collection::vec(step, 1..300)
}

proptest! {
    /// In any order of events: no item is lost, each line keeps its order, `before` says the number of earlier turns,
    /// and no tenant that waits gets less than its share.
    #[test]
    fn turns_are_fair(weights in [1u32..5, 1u32..5, 1u32..5], steps in steps()) {
        let (mut queue, tenants) = (FairQueue::<u64, u64>::new(MOST_WAITING), names());
        // The tenant of each waiting item, by key.
        let mut waiting = BTreeMap::<u64, usize>::new();
        // Turns since each tenant's line began: its own and the others'.
        let mut given = [[0u64; 3]; 3];
        let mut last = 0;
        for step in steps {
            match step {
                QueueStep::Push(tenant) => {
                    let before = queue.before(&tenants[tenant], weights[tenant]);
                    prop_assert!(before <= waiting.len());
                    if !waiting.values().any(|other| *other == tenant) {
                        given[tenant] = [0; 3];
                    }
                    last += 1;
                    let next = last;
                    queue.push(&tenants[tenant], weights[tenant], next, next, Instant::now()).expect("room");
                    waiting.insert(next, tenant);
                    let mut others = clone(&queue);
                    let at = std::iter::from_fn(|| others.pop()).position(|number| number == next);
                    prop_assert_eq!(at, Some(before));
                }
                QueueStep::Pop => {
                    let popped = queue.pop();
                    prop_assert_eq!(popped.is_some(), !waiting.is_empty());
                    let Some(number) = popped else { continue };
                    let tenant = waiting.remove(&number).expect("waited");
                    prop_assert!(!waiting.range(..number).any(|(_, other)| *other == tenant), "out of order");
                    for counts in &mut given { counts[tenant] += 1; }
                    for own in waiting.values() {
                        for other in 0..3 {
                            let fair = (given[*own][*own] + 1) * u64::from(weights[other]);
                            let had = given[*own][other] * u64::from(weights[*own]);
                            // Each may have been served just before.
                            let slack = u64::from(weights[*own] + weights[other]);
                            prop_assert!(had <= fair + slack, "{weights:?} {given:?} own {own}");
                        }
                    }
                }
                QueueStep::Leave(at) => {
                    let found = waiting.iter().nth(at).map(|(number, tenant)| (*number, *tenant));
                    if let Some((number, tenant)) = found {
                        prop_assert_eq!(queue.remove(&tenants[tenant], &number), Some(number));
                        waiting.remove(&number);
                    }
                }
            }
            prop_assert_eq!(queue.length(), waiting.len());
        }
    }
}

fn clone(queue: &FairQueue<u64, u64>) -> FairQueue<u64, u64> {
    let line = |line: &TenantLine<u64, u64>| TenantLine { waiting: line.waiting.clone(), ..*line };
    let lines = queue.lines.iter().map(|(name, of)| (Arc::clone(name), line(of))).collect();
    FairQueue { lines, ..*queue }
}

const MOST_WAITING: usize = 1024;

/// A queue of items that are due from a time on: its keys are the time and a number.
fn due_queue() -> FairQueue<(u64, u64), ()> {
    FairQueue::default()
}

#[test]
fn tenants_take_turns_and_each_ones_oldest_goes_first() {
    let (mut queue, [one, two, _], now) = (due_queue(), names(), Instant::now());
    for number in 0..5 {
        queue.push(&one, 1, (5 - number, number), (), now).expect("room");
    }
    queue.push(&two, 1, (4, 10), (), now).expect("room");
    queue.push(&two, 1, (100, 11), (), now).expect("room");
    let mut order = Vec::new();
    while let Some((tenant, key)) = queue.next(|(due, _)| *due <= 9, |_| None, |_, weight| weight) {
        queue.remove(&tenant, &key);
        order.push(key.1);
    }
    assert_eq!(order, [4, 10, 3, 2, 1, 0]);
    assert_eq!((queue.length(), queue.first_key()), (1, Some((100, 11))));
}

#[test]
fn a_flood_takes_no_more_than_every_second_turn_of_two() {
    let (mut queue, [flood, calm, _], now) = (due_queue(), names(), Instant::now());
    for number in 0..1_000 {
        queue.push(&flood, 1, (0, number), (), now).expect("room");
    }
    for number in 1_000..1_010 {
        queue.push(&calm, 1, (1, number), (), now).expect("room");
    }
    for turn in 0..20 {
        let (tenant, key) = queue.next(|(due, _)| *due <= 2, |_| None, |_, weight| weight).expect("one");
        assert_eq!(tenant, [&flood, &calm][turn % 2].clone());
        queue.remove(&tenant, &key);
    }
}

#[test]
fn items_that_are_not_due_save_no_turns_up_and_a_new_weight_counts_at_once() {
    let (mut queue, [a, b, _], now) = (due_queue(), names(), Instant::now());
    for number in 0..100 {
        queue.push(&a, 1, (0, number), (), now).expect("room");
        queue.push(&b, 1, (1, 100 + number), (), now).expect("room");
    }
    let mut order = |time: u64, weight: u32, most: usize| -> usize {
        let turns = (0..most).filter_map(|_| {
            let (tenant, key) = queue.next(
                |(due, _)| *due <= time,
                |_| None,
                |name, _| if name == "b" { weight } else { 1 },
            )?;
            queue.remove(&tenant, &key);
            Some(tenant)
        });
        turns.filter(|tenant| **tenant == *"b").count()
    };
    assert_eq!(order(0, 1, 50), 0);
    assert_eq!(order(1, 1, 10), 6);
    assert!((7..=9).contains(&order(1, 4, 10)));
}

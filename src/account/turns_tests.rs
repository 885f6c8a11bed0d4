use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn names() -> [Arc<str>; 3] {
    ["a", "b", "c"].map(Arc::from)
}

fn push(turns: &mut Turns<usize>, tenant: &Arc<str>, weight: u32, item: usize) -> u64 {
    turns.push(tenant, weight, item, Instant::now()).expect("a place").0
}

fn fill(turns: &mut Turns<usize>, tenant: &Arc<str>, weight: u32, item: usize, times: usize) {
    for _ in 0..times {
        push(turns, tenant, weight, item);
    }
}

/// Whose they were, in the order of their turns.
fn order(turns: &mut Turns<usize>, most: usize) -> Vec<usize> {
    (0..most).map_while(|_| turns.pop()).collect()
}

#[test]
fn who_comes_late_waits_for_one_of_the_many_not_for_all() {
    let (mut turns, [a, b, _]) = (Turns::default(), names());
    fill(&mut turns, &a, 1, 0, 100);
    assert_eq!(order(&mut turns, 10), [0; 10]);
    fill(&mut turns, &b, 1, 1, 3);
    assert_eq!(order(&mut turns, 7), [1, 0, 1, 0, 1, 0, 0]);
}

#[test]
fn who_was_idle_has_saved_nothing_up() {
    let (mut turns, [a, b, _]) = (Turns::default(), names());
    for _ in 0..50 {
        push(&mut turns, &a, 1, 0);
        turns.pop();
    }
    for _ in 0..6 {
        push(&mut turns, &a, 1, 0);
        push(&mut turns, &b, 1, 1);
    }
    let first: usize = order(&mut turns, 6).into_iter().sum();
    assert!((3..=4).contains(&first), "{first} of b");
}

#[test]
fn shares_are_as_the_weights() {
    let (mut turns, tenants) = (Turns::default(), names());
    for (number, tenant) in tenants.iter().enumerate() {
        fill(&mut turns, tenant, [1, 2, 5][number], number, 200);
    }
    let mut counts = [0; 3];
    order(&mut turns, 160).into_iter().for_each(|tenant| counts[tenant] += 1);
    assert_eq!(counts, [20, 40, 100]);
}

#[test]
fn a_place_that_is_given_up_costs_no_turn() {
    let (mut turns, [a, b, _]) = (Turns::default(), names());
    let numbers: Vec<u64> = (0..50).map(|_| push(&mut turns, &a, 1, 0)).collect();
    for number in &numbers {
        assert_eq!(turns.remove("a", *number), Some(0));
        assert_eq!(turns.remove("a", *number), None);
    }
    assert!(turns.is_empty() && turns.pop().is_none());
    push(&mut turns, &b, 1, 1);
    push(&mut turns, &a, 1, 0);
    push(&mut turns, &b, 1, 1);
    assert_eq!(order(&mut turns, 3), [1, 0, 1]);
}

#[test]
fn a_full_house_is_shared_too() {
    let (mut turns, [a, b, c]) = (Turns::default(), names());
    fill(&mut turns, &a, 1, 0, MOST_WAITING);
    let now = Instant::now();
    assert_eq!(turns.push(&a, 1, 0, now), Err(Full));
    for _ in 0..MOST_WAITING / 2 - 1 {
        assert_eq!(turns.push(&b, 1, 1, now).map(|(_, out)| out), Ok(Some(0)));
    }
    assert_eq!(turns.push(&c, 1, 2, now).map(|(_, out)| out), Ok(Some(0)));
    assert_eq!(turns.waiting, MOST_WAITING);
    let all = order(&mut turns, 2 * MOST_WAITING);
    assert_eq!((all.len(), all.iter().filter(|tenant| **tenant == 2).count()), (MOST_WAITING, 1));
}

#[test]
fn lines_are_forgotten() {
    let (mut turns, now) = (Turns::default(), Instant::now());
    for number in 0..3 * MOST_LINES {
        push(&mut turns, &Arc::from(format!("t{number}")), 1, number);
        turns.pop();
    }
    assert!(turns.lines.len() <= MOST_LINES);
    for number in 0..3 * MOST_LINES {
        turns.promise(&Arc::from(format!("p{number}")), 1, now, Duration::ZERO, now);
    }
    assert!(turns.lines.len() <= MOST_LINES);
}

#[test]
fn the_refused_are_told_times_of_their_own() {
    let (mut turns, [a, b, _]) = (Turns::<usize>::default(), names());
    let (now, second) = (Instant::now(), Duration::from_secs(1));
    let mut told = |tenant, after: u32| {
        turns.promise(tenant, 1, now + second * 5, second / 2, now + second * after) - now
    };
    assert_eq!([told(&a, 0), told(&a, 0), told(&a, 0)], [second * 5, second * 11 / 2, second * 6]);
    assert_eq!(told(&b, 0), second * 5);
    let last = (0..1000).map(|_| told(&a, 0)).last();
    assert_eq!(last, Some(LATEST));
    assert_eq!(told(&b, 2), second * 11 / 2);
}

#[derive(Debug, Clone)]
enum Step {
    Push(usize),
    Pop,
    Leave(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0usize..3).prop_map(Step::Push),
        3 => Just(Step::Pop),
        1 => (0usize..100).prop_map(Step::Leave),
    ];
    prop::collection::vec(step, 1..300)
}

proptest! {
    /// Whatever comes and goes: nothing is lost, each line keeps its order, whoever comes is told how many are
    /// before it, and no tenant that waits gets less than its share.
    #[test]
    fn turns_are_fair(weights in [1u32..5, 1u32..5, 1u32..5], steps in steps()) {
        let (mut turns, tenants) = (Turns::default(), names());
        // By number: the tenant.
        let mut waiting = BTreeMap::<u64, usize>::new();
        // Of each tenant since its line began: its own turns, and all turns.
        let mut given = [[0u64; 3]; 3];
        for step in steps {
            match step {
                Step::Push(tenant) => {
                    let before = turns.before(&tenants[tenant], weights[tenant]);
                    prop_assert!(before <= waiting.len());
                    if !waiting.values().any(|other| *other == tenant) {
                        given[tenant] = [0; 3];
                    }
                    let next = turns.number + 1;
                    let number = turns.push(&tenants[tenant], weights[tenant], next, Instant::now()).expect("a place").0;
                    prop_assert_eq!(number, next);
                    waiting.insert(number, tenant);
                    let mut others = clone(&turns);
                    let at = std::iter::from_fn(|| others.pop()).position(|number| number == next);
                    prop_assert_eq!(at, Some(before));
                }
                Step::Pop => {
                    let popped = turns.pop();
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
                Step::Leave(at) => {
                    let found = waiting.iter().nth(at).map(|(number, tenant)| (*number, *tenant));
                    if let Some((number, tenant)) = found {
                        prop_assert_eq!(turns.remove(&tenants[tenant], number), Some(number));
                        waiting.remove(&number);
                    }
                }
            }
            prop_assert_eq!(turns.waiting, waiting.len());
        }
    }
}

fn clone(turns: &Turns<u64>) -> Turns<u64> {
    let line = |line: &Line<u64>| Line { waiting: line.waiting.clone(), ..*line };
    let lines = turns.lines.iter().map(|(name, of)| (Arc::clone(name), line(of))).collect();
    Turns { lines, ..*turns }
}

use super::*;

/// Two submits a second, and no limit of running tasks.
const RULE: SubmitRule = SubmitRule { requests_per_second: Some(2.0), running: None };
const LONG: Duration = Duration::from_secs(100);

fn ask(tenant: &Arc<str>) -> PaceRequest<'_> {
    PaceRequest { rule: RULE, tenant, weight: 1, running: 0 }
}

fn names() -> [Arc<str>; 2] {
    ["a", "b"].map(Arc::from)
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A pace that is used up: two submits were started and answered at once.
fn full(tenant: &Arc<str>, now: Instant) -> (Arc<SubmitPace>, Vec<SubmitSlot>) {
    let pace = Arc::<SubmitPace>::default();
    let mut started: Vec<SubmitSlot> = (0..2).filter_map(|_| pace.start(&ask(tenant), now)).collect();
    started.iter_mut().for_each(|start| start.answered(now));
    assert_eq!((started.len(), pace.start(&ask(tenant), now).is_none()), (2, true));
    (pace, started)
}

#[test]
fn those_who_wait_are_called_when_there_is_room_and_in_turns() {
    let (now, [a, b]) = (Instant::now(), names());
    let (pace, _started) = full(&a, now);
    let (first, lead) = pace.wait(&ask(&a), now + LONG, now).expect("a place");
    let mut lead = lead.expect("nobody else has it");
    let (second, none) = pace.wait(&ask(&a), now + LONG, now).expect("a place");
    let (third, _) = pace.wait(&ask(&b), now + LONG, now).expect("a place");
    assert!(none.is_none());
    let mut places = [first, second, third];
    let mut called = || places.each_mut().map(|place| place.called.try_recv().ok());
    assert_eq!(lead.call(0, now), Some(now + LONGEST_PAUSE));
    assert!(called().iter().all(Option::is_none));
    let later = now + millis(1020);
    assert_eq!(lead.call(0, later), Some(later + millis(510)));
    let [first, second, third] = called();
    assert!(first.is_some() && second.is_none() && third.is_none());
    let later = later + millis(510);
    // The upstream may count a submit that is not answered yet as late as now, so the next turn is 1020 ms away. A
    // pause is never longer than LONGEST_PAUSE.
    assert_eq!(lead.call(0, later), Some(later + LONGEST_PAUSE));
    let [_, second, third] = called();
    assert!(second.is_none() && third.is_some());
    // A new submit does not overtake a waiting one.
    assert!(pace.start(&ask(&b), later + LONG).is_none());
    assert_eq!(lead.call(0, later + LONG), None);
    let [_, second, _] = called();
    assert!(second.is_some());
    drop(lead);
    assert!(pace.start(&ask(&b), later + LONG).is_some());
}

#[test]
fn who_would_wait_in_vain_is_refused_at_once() {
    let (now, [a, b]) = (Instant::now(), names());
    let (pace, _started) = full(&a, now);
    assert_eq!(pace.wait(&ask(&a), now + millis(1000), now).err(), Some(millis(1020)));
    let waits: Vec<_> = (0..4).map(|_| pace.wait(&ask(&a), now + millis(2550), now)).collect();
    assert!(waits.iter().all(Result::is_ok));
    assert_eq!(pace.turn(&ask(&a), now), Some(now + millis(3060)));
    assert!(pace.wait(&ask(&a), now + millis(2550), now).is_err());
    // The other tenant's turn comes after one submit of the first tenant.
    assert_eq!(pace.turn(&ask(&b), now), Some(now + millis(1530)));
    assert!(pace.wait(&ask(&b), now + millis(1530), now).is_ok());
    assert!(pace.refuse(&ask(&b), now) >= SHORTEST_WAIT);
}

#[test]
fn a_place_that_is_left_is_nobodys() {
    let (now, [a, _]) = (Instant::now(), names());
    let (pace, _started) = full(&a, now);
    let (first, lead) = pace.wait(&ask(&a), now + LONG, now).expect("a place");
    let (mut second, _) = pace.wait(&ask(&a), now + LONG, now).expect("a place");
    drop(first);
    // The dispatcher outlives the queued submit that it came with. If it is dropped, the next submit takes the duty
    // over.
    drop(lead);
    let (third, lead) = pace.wait(&ask(&a), now + LONG, now).expect("a place");
    let mut lead = lead.expect("nobody has it any more");
    drop(third);
    assert_eq!(lead.call(0, now + millis(1020)), None);
    assert!(second.called.try_recv().is_ok());
    assert!(pace.wait(&ask(&a), now + LONG, now).expect("a place").1.is_some());
}

#[test]
fn a_start_that_nobody_takes_is_given_back() {
    let (now, [a, _]) = (Instant::now(), names());
    let rule = SubmitRule { requests_per_second: None, running: Some(1) };
    let ask = PaceRequest { rule, ..ask(&a) };
    let pace = Arc::<SubmitPace>::default();
    let start = pace.start(&ask, now).expect("room");
    let (mut place, lead) = pace.wait(&ask, now + LONG, now).expect("a place");
    let mut lead = lead.expect("nobody else has it");
    assert_eq!(lead.call(0, now), Some(now + LOOK_AGAIN));
    drop(start);
    place.called.close();
    assert_eq!(lead.call(0, now), None);
    assert!(pace.start(&ask, now).is_some());
}

#[test]
fn so_many_run_at_a_time() {
    let (now, [a, _]) = (Instant::now(), names());
    let rule = SubmitRule { requests_per_second: None, running: Some(3) };
    let ask = |running| PaceRequest { rule, running, ..ask(&a) };
    let pace = Arc::<SubmitPace>::default();
    // One task runs already, so only two submits may start.
    let started: Vec<SubmitSlot> = (0..5).filter_map(|_| pace.start(&ask(1), now)).collect();
    assert_eq!((started.len(), pace.turn(&ask(1), now)), (2, None));
    let (mut place, lead) = pace.wait(&ask(1), now, now).expect("a place");
    let mut lead = lead.expect("nobody else has it");
    assert_eq!(lead.call(1, now), Some(now + LOOK_AGAIN));
    assert_eq!(pace.refuse(&ask(1), now), UNTIL_A_TASK_ENDS);
    assert_eq!(lead.call(0, now), None);
    assert!(place.called.try_recv().is_ok());
}

#[test]
fn only_so_many_models_are_paced_apart() {
    let (now, [a, _]) = (Instant::now(), names());
    let paces = ModelPaces::default();
    let used: Vec<Arc<SubmitPace>> =
        (0..MOST_MODELS).map(|number| paces.of(&format!("m{number}"), now)).collect();
    assert!(Arc::ptr_eq(&paces.of("one", now), &paces.of("two", now)));
    assert!(Arc::ptr_eq(&paces.of("m7", now), &used[7]));
    drop(used);
    // A pace stays while its window still counts a submit.
    let mut start = paces.of("m7", now).start(&ask(&a), now).expect("room");
    start.answered(now);
    drop(start);
    paces.of("one", now);
    let kept = paces.0.lock();
    assert!(kept.contains_key("m7"));
    assert!(kept.len() <= 3, "{}", kept.len());
}

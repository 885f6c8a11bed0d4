use bytes::Bytes;
use proptest::prelude::*;

use super::*;

fn at(start: Instant, milliseconds: u64) -> Instant {
    start + Duration::from_millis(milliseconds)
}

/// A cell that this replica holds; times in seconds.
fn cell(version: u64, holder: &str, age: u64) -> Cell {
    let changed = version * 1_000_000;
    Cell {
        version: changed,
        value: Bytes::copy_from_slice(holder.as_bytes()),
        read_at: changed + age * 1_000_000,
    }
}

#[test]
fn a_new_leader_waits_a_second_and_one_that_renews_does_not() {
    let start = Instant::now();
    let mut lease = Lease::new(1, false, start);
    assert_eq!(lease.next(), (LeaseStep::Read, start));
    lease.take_read(&cell(0, "", 0), start);
    assert_eq!(lease.next(), (LeaseStep::Swap(0), start));
    lease.take_swap(&Swap::Made(cell(5, "1", 0)), start, at(start, 10));
    let held = HeldLease { from: at(start, 1_010), until: at(start, 2_000) };
    assert_eq!(lease.held(), Some(held));
    assert_eq!(lease.next(), (LeaseStep::Swap(5_000_000), at(start, 1_000)));
    lease.take_swap(&Swap::Made(cell(6, "1", 0)), at(start, 1_000), at(start, 1_400));
    assert_eq!(lease.held(), Some(HeldLease { until: at(start, 3_000), ..held }));
    // A renewal that comes too late begins anew.
    lease.failed(at(start, 3_000));
    assert_eq!(lease.next(), (LeaseStep::Swap(6_000_000), at(start, 3_250)));
    lease.take_swap(&Swap::Made(cell(9, "1", 0)), at(start, 3_250), at(start, 3_300));
    assert_eq!(lease.held(), Some(HeldLease { from: at(start, 4_300), until: at(start, 5_250) }));
}

#[test]
fn a_replica_that_starts_alone_waits_only_for_an_earlier_leader() {
    let start = Instant::now();
    // The cell as it was found, and the pause before the first query in milliseconds.
    let cases = [
        (cell(0, "", 0), 0),
        (cell(7, "", 0), 1_000),
        (cell(7, "", 1), 0),
        (cell(7, "2", 3), 1_000),
        (cell(7, "2", 4), 0),
    ];
    for (found, pause) in cases {
        let mut lease = Lease::new(1, true, start);
        lease.take_read(&found, start);
        assert_eq!(lease.next(), (LeaseStep::Swap(found.version), start));
        lease.take_swap(&Swap::Made(cell(20, "1", 0)), start, start);
        assert_eq!(lease.held().map(|held| held.from), Some(at(start, pause)), "{found:?}");
        // Later it is one of many.
        lease.take_read(&cell(30, "", 9), at(start, 9_000));
        lease.take_swap(&Swap::Made(cell(31, "1", 0)), at(start, 9_000), at(start, 9_000));
        assert_eq!(lease.held().map(|held| held.from), Some(at(start, 10_000)));
    }
    let mut lease = Lease::new(1, true, start);
    lease.take_read(&cell(7, "2", 2), start);
    assert_eq!(lease.next(), (LeaseStep::Read, at(start, 1_000)), "an earlier process may lead yet");
}

#[test]
fn another_s_lease_is_watched_until_its_end_or_its_return() {
    let start = Instant::now();
    let mut lease = Lease::new(1, false, start);
    lease.take_read(&cell(7, "2", 0), start);
    assert_eq!((lease.held(), lease.next()), (None, (LeaseStep::Read, at(start, 1_000))));
    lease.take_read(&cell(7, "2", 2), at(start, 2_500));
    assert_eq!(lease.next(), (LeaseStep::Read, at(start, 3_500)));
    lease.take_read(&cell(7, "2", 3), at(start, 3_500));
    assert_eq!(lease.next(), (LeaseStep::Swap(7_000_000), at(start, 3_500)));
    // A third replica was faster.
    lease.take_swap(&Swap::Stale(cell(8, "3", 0)), at(start, 3_500), at(start, 3_600));
    assert_eq!((lease.held(), lease.next()), (None, (LeaseStep::Read, at(start, 4_600))));
    lease.take_read(&cell(9, "", 0), at(start, 4_600));
    assert_eq!(lease.next(), (LeaseStep::Swap(9_000_000), at(start, 4_600)));
}

#[test]
fn a_leader_that_sees_another_s_lease_leads_no_longer() {
    let start = Instant::now();
    let mut lease = Lease::new(1, false, start);
    lease.take_swap(&Swap::Made(cell(5, "1", 0)), start, start);
    lease.take_swap(&Swap::Stale(cell(6, "2", 0)), at(start, 1_000), at(start, 1_000));
    assert_eq!(lease.held(), None);
}

#[test]
fn a_swap_whose_answer_was_lost_is_recognized() {
    let start = Instant::now();
    let mut lease = Lease::new(1, false, start);
    lease.take_swap(&Swap::Made(cell(5, "1", 0)), start, start);
    lease.failed(at(start, 1_000));
    lease.take_swap(&Swap::Stale(cell(6, "1", 0)), at(start, 1_250), at(start, 1_260));
    assert_eq!(lease.next(), (LeaseStep::Swap(6_000_000), at(start, 1_260)));
    lease.take_swap(&Swap::Made(cell(7, "1", 0)), at(start, 1_260), at(start, 1_270));
    assert_eq!(lease.held(), Some(HeldLease { from: at(start, 1_000), until: at(start, 3_260) }));
}

#[test]
fn a_lease_that_is_given_back_is_not_taken_again_at_once() {
    let start = Instant::now();
    let mut lease = Lease::new(1, false, start);
    assert_eq!(lease.give_back(start), None);
    lease.take_swap(&Swap::Made(cell(5, "1", 0)), start, start);
    assert_eq!(lease.give_back(at(start, 100)), Some(5_000_000));
    assert_eq!((lease.held(), lease.next()), (None, (LeaseStep::Read, at(start, 1_100))));
}

/// A cell and the clock of its database, for the replicas of a test. Each answer takes its time, or is lost.
#[derive(Default)]
struct LeaseCell {
    version: u64,
    value: Bytes,
}

impl LeaseCell {
    fn read(&self, microseconds: u64) -> Cell {
        Cell { version: self.version, value: self.value.clone(), read_at: microseconds }
    }

    fn swap(&mut self, seen: u64, me: Replica, microseconds: u64) -> Swap {
        if seen != self.version {
            return Swap::Stale(self.read(microseconds));
        }
        self.version = microseconds.max(self.version + 1);
        self.value = me.to_string().into();
        Swap::Made(self.read(microseconds))
    }
}

proptest! {
    /// Whatever is lost, late or suspended: two replicas never lead at once, nor within a second of each other. Once nothing
    /// is any more, there is a leader again. (While each second answer to one replica is lost, there may be none: it takes
    /// the lease again and again, and never learns of it.)
    #[test]
    fn there_is_one_leader_and_a_second_between_two(
        faults in prop::collection::vec((0_usize..3, 0_u64..1_000, 0_u8..10), 1..400),
        drift in prop::collection::vec(90_u64..110, 3),
    ) {
        let start = Instant::now();
        let mut database = LeaseCell { version: 1_000_000, value: Bytes::new() };
        let mut leases: Vec<Lease> = (1..=3).map(|me| Lease::new(me, false, start)).collect();
        // Each replica has a clock of its own, which runs up to a tenth faster or slower.
        let own = |replica: usize, real: u64| start + Duration::from_micros(real * drift[replica] * 10);
        let mut last: Option<(usize, u64)> = None;
        let mut free_at = [0_u64; 3];
        let mut faults = faults.into_iter().cycle();
        for real in 0..60_000_u64 {
            for replica in 0..3 {
                let now = own(replica, real);
                if leases[replica].held().is_some_and(|held| held.from <= now && now < held.until) {
                    if let Some((other, at)) = last.filter(|(other, _)| *other != replica) {
                        prop_assert!(real >= at + 900, "{other} until {at}, {replica} at {real}");
                    }
                    last = Some((replica, real));
                }
                let (step, at) = leases[replica].next();
                if real < free_at[replica] || now < at {
                    continue;
                }
                let (victim, latency, kind) = faults.next().unwrap_or_default();
                let hit = victim == replica && real < 40_000;
                // The statement runs when it is asked; its answer may take a second, or never come.
                let microseconds = 1_000_000_000 + real * 1_000;
                let lasts = if hit && kind < 5 { latency } else { 1 };
                let answered = own(replica, real + lasts);
                free_at[replica] = real + lasts;
                let is_lost = hit && kind == 9;
                let is_unsent = hit && kind == 8;
                match step {
                    LeaseStep::Read if !is_lost => leases[replica].take_read(&database.read(microseconds), answered),
                    LeaseStep::Swap(seen) if !is_unsent => {
                        let me = Replica::try_from(replica + 1).expect("small");
                        let swap = database.swap(seen, me, microseconds);
                        if is_lost {
                            leases[replica].failed(answered);
                        } else {
                            leases[replica].take_swap(&swap, now, answered);
                        }
                    }
                    LeaseStep::Read | LeaseStep::Swap(_) => leases[replica].failed(answered),
                }
                if hit && kind == 7 {
                    // The replica is suspended for some seconds.
                    free_at[replica] += latency * 10;
                }
            }
        }
        prop_assert!(last.is_some_and(|(_, at)| at > 59_000));
    }
}

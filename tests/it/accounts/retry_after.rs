//! `retry-after` on DashScope's own 429: the time for which the gateway itself would refuse the next such call, or none.
//! SDKs wait as long as it says, and come again after about a second without it.

use dashgate::sim::{FaultAction, ScriptedFault, ThrottlingKind};

use super::{GENERATION, chat, simulator, submit, three, wait_seconds};
use crate::harness::Gateway;

fn busy_once() -> ScriptedFault {
    ScriptedFault::on(&format!("POST {GENERATION}"), FaultAction::Throttle(ThrottlingKind::RateQuota))
        .times(1)
}

#[test]
fn none_is_put_on_where_the_next_call_would_be_sent() {
    let east = simulator(&["sk-east"]);
    let alone = Gateway::pooled(&[("east", east.address(), &["sk-east"], "")]);
    let (pooled, simulators) = three();
    for (gateway, simulators) in [(&alone, std::slice::from_ref(&east)), (&pooled, &simulators[..])] {
        simulators.iter().for_each(|simulator| simulator.fault(busy_once()));
        let throttled = chat(gateway);
        assert_eq!((throttled.status(), throttled.field("retry-after")), (429, None));
        simulators.iter().for_each(dashgate::sim::Simulator::clear_faults);
        assert_eq!(chat(gateway).status(), 200);
    }
}

#[test]
fn the_last_account_s_429_tells_when_the_first_one_is_tried_again() {
    let (gateway, simulators) = three();
    simulators.iter().for_each(|simulator| simulator.fault(busy_once()));
    let waits: Vec<_> = (0..3).map(|_| chat(&gateway).field("retry-after")).collect();
    assert_eq!((&waits[0], &waits[1]), (&None, &None), "another account takes the next call");
    let last: u64 = waits[2].as_deref().expect("all rest").parse().expect("seconds");
    assert!((50..=60).contains(&last), "{last}");
    assert!((50..=60).contains(&wait_seconds(&chat(&gateway))));
    assert_eq!(submit(&gateway).status(), 200, "other models are not concerned");
}

#[test]
fn the_upstreams_own_passes_as_it_came() {
    let (gateway, simulators) = three();
    simulators.iter().for_each(|simulator| simulator.fault(busy_once().header("retry-after", "7")));
    for _ in 0..3 {
        assert_eq!(wait_seconds(&chat(&gateway)), 7);
    }
}

//! What the tenants of one account get of it when together they want more than there is.

use super::*;
use crate::harness::OTHER_KEY;

/// Ten a second, so that the tests are short; the simulator refuses more.
const TEN: &str = "pace = [{ models = [\"wan2.2-*\"], requests_per_second = 10 }]";

fn ten() -> Simulator {
    let options = Options { query_qps: u32::MAX, submit_rps: Some(10), ..Options::default() };
    Simulator::start(options).expect("a simulator")
}

#[test]
fn who_keeps_within_its_share_is_not_behind_who_does_not() {
    let simulator = ten();
    let gateway = gateway(&[simulator.address()], "120s", TEN, "");
    let flood: Vec<Client> =
        (0..100).map(|_| send(&gateway, &submit(TENANT_KEY, MODEL, "many", &[]))).collect();
    barrier(&gateway);
    for _ in 0..5 {
        let before = submits(&simulator).len();
        assert_eq!(gateway.ask(submit(OTHER_KEY, MODEL, "few", &[])).status(), 200);
        let since = prompts(&simulator).split_off(before);
        // One may have been on its way, and one had its turn; what came after is a race.
        let at = since.iter().position(|prompt| prompt == "few");
        assert!(at <= Some(3), "{since:?}");
    }
    assert_eq!(prompts(&simulator).iter().filter(|prompt| *prompt == "few").count(), 5);
    assert!(prompts(&simulator).len() < 60, "the flood had not gone by");
    drop(flood);
    assert_never_throttled(&simulator);
}

#[test]
fn turns_go_by_weight() {
    let simulator = ten();
    let gateway = gateway(&[simulator.address()], "120s", TEN, "weight = 3");
    let mut clients: Vec<Client> = Vec::new();
    for _ in 0..30 {
        clients.push(send(&gateway, &submit(TENANT_KEY, MODEL, "three", &[])));
        clients.push(send(&gateway, &submit(OTHER_KEY, MODEL, "one", &[])));
    }
    barrier(&gateway);
    let waiting = submits(&simulator).len();
    assert!(waiting < 20, "they have gone by: {waiting}");
    eventually("enough have had their turn", || submits(&simulator).len() >= waiting + 20);
    let turns = prompts(&simulator)[waiting..waiting + 20].to_vec();
    let heavy = turns.iter().filter(|prompt| *prompt == "three").count();
    assert!((14..=16).contains(&heavy), "{turns:?}");
    assert_never_throttled(&simulator);
}

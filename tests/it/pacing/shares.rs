//! Shares of the tenants of one account that want more than its rate: turns go by weight, and a tenant within its share
//! does not wait behind another tenant's flood.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::*;
use crate::harness::OTHER_KEY;

/// Ten submits a second, so that the tests are short; the simulator refuses more.
const TEN: &str = "pace = [{ models = [\"wan2.2-*\"], requests_per_second = 10 }]";

fn ten() -> Simulator {
    let options =
        SimulatorOptions { query_qps: u32::MAX, submit_rps: Some(10), ..SimulatorOptions::default() };
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
        assert_eq!(gateway.ask(submit(OTHER_KEY, MODEL, "few", &[])).status(), 200);
    }
    // Each submit waited for one or two turns; without fair queueing all would have come after the flood.
    let prompts = prompts(&simulator);
    assert_eq!(prompts.iter().filter(|prompt| *prompt == "few").count(), 5);
    assert!(prompts.len() < 70, "the flood had gone by: {}", prompts.len());
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
    assert!((13..=17).contains(&heavy), "{turns:?}");
    assert_never_throttled(&simulator);
}

/// Latency of a tenant beside another one that sends a hundred times its share: printed with --nocapture.
/// DASHGATE_FIGURES=1 takes the time that makes the numbers worth quoting.
#[test]
fn what_one_notices_of_another_that_sends_a_hundred_times_its_share() {
    let lasting = Duration::from_secs(if std::env::var_os("DASHGATE_FIGURES").is_some() { 60 } else { 4 });
    let simulator = ten();
    let gateway = gateway(&[simulator.address()], "5s", TEN, "");
    let alone = within_its_share(&gateway, lasting);
    let over = AtomicBool::new(false);
    let counts = [const { AtomicUsize::new(0) }; 2];
    let beside = std::thread::scope(|scope| {
        // Half of the rate is five a second; a hundred times five are 500, from 250 clients that send twice a second
        // unless they wait.
        for _ in 0..250 {
            scope.spawn(|| {
                let mut client = Client::connect(gateway.address);
                while !over.load(Ordering::Relaxed) {
                    let next = Instant::now() + Duration::from_millis(500);
                    let status = client.ask(submit(TENANT_KEY, MODEL, "many", &[])).status();
                    assert!([200, 429].contains(&status), "{status}");
                    counts[usize::from(status == 429)].fetch_add(1, Ordering::Relaxed);
                    let_pass(next.saturating_duration_since(Instant::now()));
                }
            });
        }
        eventually("the flood is there", || counts[1].load(Ordering::Relaxed) > 250);
        let beside = within_its_share(&gateway, lasting);
        over.store(true, Ordering::Relaxed);
        beside
    });
    let [accepted, refused] = counts.map(AtomicUsize::into_inner);
    let part = |times: &[Duration], parts: usize| times[(times.len() - 1) * parts / 100];
    for (what, times) in [("alone", &alone), ("beside the flood", &beside)] {
        println!(
            "{what}: {} of {} submits accepted, answered after {:.1?} (median), {:.1?} (99%)",
            times.len(),
            times.len(),
            part(times, 50),
            part(times, 99)
        );
    }
    println!(
        "accepted beside the flood as to alone: {:.2}; longer by {:.0?} (median), where a turn is 102 ms; \
         the flood: {accepted} accepted, {refused} refused",
        beside.len() as f64 / alone.len() as f64,
        part(&beside, 50).saturating_sub(part(&alone, 50)),
    );
    assert!(refused > accepted);
    assert_never_throttled(&simulator);
}

/// Durations of four submits a second, all accepted, sorted.
fn within_its_share(gateway: &Gateway, lasting: Duration) -> Vec<Duration> {
    let began = Instant::now();
    let mut times: Vec<Duration> = (0..lasting.as_secs() as u32 * 4)
        .map(|number| {
            let due = began + Duration::from_millis(250) * number;
            let_pass(due.saturating_duration_since(Instant::now()));
            let sent = Instant::now();
            let got = gateway.ask(submit(OTHER_KEY, MODEL, "few", &[]));
            assert_eq!(got.status(), 200, "{}{}", got.head, got.text());
            sent.elapsed()
        })
        .collect();
    times.sort_unstable();
    times
}

//! Limit of tasks that run at a time: a submit beyond it waits or is refused, also after a restart.

use super::*;

const TWO: &str = "pace = [{ models = [\"wan2.2-*\"], requests_per_second = \"unlimited\", running = 2 }]";

fn task_id(answer: &Message) -> String {
    assert_eq!(answer.status(), 200, "{}", answer.text());
    answer.json()["output"]["task_id"].as_str().expect("a task").to_owned()
}

fn quick() -> Simulator {
    let options =
        SimulatorOptions { query_qps: u32::MAX, submit_rps: Some(u32::MAX), ..SimulatorOptions::default() };
    Simulator::start(options).expect("a simulator")
}

fn call(gateway: &Gateway, line: &str) -> Message {
    gateway.ask(message(line, &[&format!("Authorization: Bearer {TENANT_KEY}")], ""))
}

#[test]
fn a_submit_waits_until_a_task_has_ended() {
    let simulator = quick();
    let gateway = gateway(&[simulator.address()], "100s", TWO, "");
    let request = submit(TENANT_KEY, MODEL, "p", &[]);
    let ids = [0, 1].map(|_| task_id(&gateway.ask(&request)));
    let mut third = send(&gateway, &request);
    barrier(&gateway);
    let_pass(Duration::from_millis(500));
    assert_eq!(submits(&simulator).len(), 2);
    simulator.finish(&ids[0]);
    let polled = call(&gateway, &format!("GET /api/v1/tasks/{}", ids[0]));
    assert_eq!(polled.json()["output"]["task_status"], "SUCCEEDED");
    task_id(&third.answer());
    assert_eq!(submits(&simulator).len(), 3);
}

#[test]
fn tasks_run_on_over_a_restart() {
    let simulator = quick();
    let before = gateway(&[simulator.address()], "0s", TWO, "");
    let request = submit(TENANT_KEY, MODEL, "p", &[]);
    let ids = [0, 1].map(|_| task_id(&before.ask(&request)));
    assert_eq!(refused(&before.ask(&request), "2 running tasks of wan2.2-t2v-plus"), 10);
    let address = simulator.address();
    let text =
        configuration("listen = \"127.0.0.1:0\"\nworkers = 1", &[("a0", address, &["sk-one"], TWO)], "");
    let after = Gateway::over(
        before.stop(),
        &format!("{text}\n[submit]\nmax_wait = \"0s\"\n[poll]\nmax_age = \"0s\"\n"),
    );
    refused(&after.ask(&request), "2 running tasks of wan2.2-t2v-plus");
    simulator.fail(&ids[1], "InternalError", "m");
    // On a busy machine a poll may be answered with the last known state.
    eventually("the end of a task", || {
        let polled = call(&after, &format!("GET /api/v1/tasks/{}", ids[1]));
        polled.json()["output"]["task_status"] == "FAILED"
    });
    task_id(&after.ask(&request));
    refused(&after.ask(&request), "2 running tasks of wan2.2-t2v-plus");
}

/// A submit that makes no task counts as running only until its answer.
#[test]
fn a_refused_submit_runs_nothing() {
    let simulator = quick();
    let gateway = gateway(&[simulator.address()], "0s", TWO, "");
    for _ in 0..5 {
        let got = gateway.ask(submit(TENANT_KEY, "wan2.2-none", "p", &[]));
        assert_eq!((got.status(), got.field("x-dashgate-reason")), (400, None), "{}", got.text());
    }
}

/// Many concurrent submits make no more tasks than are allowed.
#[test]
fn together_they_are_no_more() {
    let simulator = quick();
    let gateway = gateway(&[simulator.address()], "0s", TWO, "");
    let request = submit(TENANT_KEY, MODEL, "p", &[]);
    let clients: Vec<Client> = (0..20).map(|_| send(&gateway, &request)).collect();
    let statuses: Vec<u16> = clients.into_iter().map(|mut client| client.answer().status()).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 2);
    assert_eq!(submits(&simulator).len(), 2);
}

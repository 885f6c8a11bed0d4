//! Failures are seen: ends of tasks by model, status and code, with a line for each; DashScope's own codes; and a clock
//! that is wrong.

use std::io::Write as _;

use super::{Page, upstream};
use crate::harness::calls::{generate, poll, submit, task};
use crate::harness::{Gateway, Upstream, answer, eventually, logs};

const TASK: &str = "task-that-fails-1";

fn failing() -> Upstream {
    Upstream::start(|request, stream| {
        let path = request.start_line();
        let bytes = if path.contains("video-synthesis") {
            task(TASK, "PENDING")
        } else if path.contains("/tasks/") {
            let body = format!(
                r#"{{"output":{{"task_id":"{TASK}","task_status":"FAILED","code":"InternalError.Algo.Unheard","message":"m"}}}}"#
            );
            answer("200 OK", &["X-Request-Id: upstream-7"], &body)
        } else {
            let fields = ["Content-Type: application/json"];
            answer("500 Internal Server Error", &fields, r#"{"code":"ModelServiceFailed","message":"m"}"#)
        };
        stream.write_all(&bytes).is_ok()
    })
}

#[test]
fn the_end_of_a_task_is_counted_once_by_its_code_and_has_a_line() {
    let upstream = failing();
    let gateway = Gateway::with(upstream.address, "", "");
    assert_eq!(gateway.ask(submit()).status(), 200);
    for _ in 0..3 {
        assert_eq!(gateway.ask(poll(TASK)).json()["output"]["task_status"], "FAILED");
    }
    let page = Page::of(&gateway);
    let ended: Vec<_> = page.series("dashgate_tasks_ended_total").collect();
    let series = r#"dashgate_tasks_ended_total{model="other",status="FAILED",code="InternalError.Algo"}"#;
    assert_eq!(ended, [(series, 1.0)]);
    let logged = logs::captured();
    let lines: Vec<&str> =
        logged.lines().filter(|line| line.contains("a task has ended") && line.contains(TASK)).collect();
    let [line] = lines[..] else { panic!("one line: {lines:?}") };
    for part in [
        r#"status="FAILED""#,
        r#"code="InternalError.Algo.Unheard""#,
        r#"tenant="one""#,
        r#"key_id="one-key""#,
        r#"account="main""#,
        r#"model="wan2.7-t2v""#,
        r#"upstream_request_id="upstream-7""#,
        "seconds=",
    ] {
        assert!(line.contains(part), "{part} is not in {line}");
    }
    eventually("the lines are written", || gateway.lines().len() >= 4);
    let served: Vec<_> =
        gateway.lines().iter().filter_map(|line| Some(line["served"].as_str()?.to_owned())).collect();
    assert_eq!(served, ["upstream", "cache", "cache"]);
}

#[test]
fn an_error_is_told_by_dashscope_s_own_code() {
    let upstream = failing();
    let gateway = Gateway::with(upstream.address, "", "");
    assert_eq!(gateway.ask(generate("{}")).status(), 500);
    let series =
        r#"dashgate_upstream_errors_total{account="main",operation="service",code="ModelServiceFailed"}"#;
    assert_eq!(Page::of(&gateway).value(series), 1.0);
    eventually("the line is written", || !gateway.lines().is_empty());
    assert_eq!(gateway.lines()[0]["upstream_code"], "ModelServiceFailed");
}

#[test]
fn a_clock_that_is_wrong_is_seen() {
    let upstream = upstream("SUCCEEDED");
    let gateway = Gateway::with(upstream.address, "", "");
    gateway.ask(submit());
    assert_eq!(gateway.ask(poll("task-1")).status(), 200);
    // The upstream's answer is of 1994.
    let skew = Page::of(&gateway).value(r#"dashgate_clock_skew_seconds{account="main"}"#);
    assert!(skew < -86_400.0 * 365.0 * 20.0, "{skew}");
}

//! Simulated tasks: submit, query, list and cancel, and the checks before them.

use std::time::Duration;

use dashgate::sim::{SimulatedStatus, Simulator, SimulatorOptions, ThrottledShare, ThrottlingKind};
use serde_json::{Value, json};

use super::{ASYNC, GENERATION, SYNTHESIS, get, image_to_video, post, query, start, submit};

const SECOND: Duration = Duration::from_secs(1);

fn two_accounts() -> Simulator {
    let keys = ["east=sk-east", "east=sk-east-2", "west=sk-west"];
    start(SimulatorOptions {
        keys: keys.map(|key| key.parse().unwrap()).to_vec(),
        ..SimulatorOptions::default()
    })
}

#[test]
fn a_task_lives_from_pending_to_succeeded_and_is_forgotten_after_a_day() {
    let simulator = start(SimulatorOptions::default());
    let id = submit(&simulator, "sk-1");
    let status = |simulator: &Simulator| query(simulator, "sk-1", &id)["output"]["task_status"].clone();
    assert_eq!(status(&simulator), "PENDING");
    simulator.advance(2 * SECOND);
    let running = query(&simulator, "sk-1", &id);
    assert_eq!(running["output"]["task_status"], "RUNNING");
    assert!(running["output"]["scheduled_time"].is_string());
    simulator.advance(20 * SECOND);
    let done = query(&simulator, "sk-1", &id);
    assert_eq!(done["output"]["task_status"], "SUCCEEDED");
    assert!(done["output"]["video_url"].as_str().unwrap().starts_with("http://127.0.0.1:"));
    assert_eq!(
        done["usage"],
        json!({"duration": 5, "input_video_duration": 0, "output_video_duration": 5, "video_count": 1, "SR": 720})
    );
    simulator.advance(24 * 3600 * SECOND);
    let gone = query(&simulator, "sk-1", &id);
    assert_eq!(gone["output"], json!({"task_id": id, "task_status": "UNKNOWN"}));
}

#[test]
fn every_key_of_the_account_sees_a_task_and_no_other_account_does() {
    let simulator = two_accounts();
    let id = submit(&simulator, "sk-east");
    assert_eq!(query(&simulator, "sk-east-2", &id)["output"]["task_status"], "PENDING");
    assert_eq!(query(&simulator, "sk-west", &id)["output"]["task_status"], "UNKNOWN");
    let list = |key: &str| get(&simulator, key, "/api/v1/tasks/?page_size=5").json();
    assert_eq!(list("sk-east-2")["data"][0]["task_id"], id.as_str());
    assert_eq!(list("sk-west")["total"], 0);
    let cancel = |key: &str| post(&simulator, key, &format!("/api/v1/tasks/{id}/cancel/"), "", &json!({}));
    assert_eq!(cancel("sk-west").json()["code"], "UnsupportedOperation");
    assert_eq!(cancel("sk-east-2").status, 200);
    assert_eq!(cancel("sk-east").status, 400);
    assert_eq!(query(&simulator, "sk-east", &id)["output"]["task_status"], "CANCELED");
    assert_eq!(simulator.tasks()[0].status, SimulatedStatus::Canceled);
}

#[test]
fn the_list_is_filtered_and_paged() {
    let simulator = start(SimulatorOptions { submit_rps: Some(100), ..SimulatorOptions::default() });
    for _ in 0..3 {
        submit(&simulator, "sk-1");
    }
    let list = |query: &str| get(&simulator, "sk-1", &format!("/api/v1/tasks?{query}")).json();
    let page = list("page_no=2&page_size=2");
    assert_eq!((&page["total"], &page["total_page"]), (&json!(3), &json!(2)));
    assert_eq!(page["data"].as_array().unwrap().len(), 1);
    assert_eq!(list("status=SUCCEEDED")["total"], 0);
    assert_eq!(list("model_name=wan2.7-i2v&status=PENDING")["total"], 3);
    assert_eq!(list("start_time=20200101000000&end_time=20200101120000")["total"], 0);
    let answer = get(&simulator, "sk-1", "/api/v1/tasks?start_time=20200101000000&end_time=20200103000000");
    assert_eq!(answer.json()["code"], "InvalidParameter");
}

#[test]
fn over_the_running_limit_tasks_stay_pending() {
    let simulator =
        start(SimulatorOptions { running: Some(1), submit_rps: Some(100), ..SimulatorOptions::default() });
    let (first, second) = (submit(&simulator, "sk-1"), submit(&simulator, "sk-1"));
    simulator.advance(5 * SECOND);
    let status = |id: &str| query(&simulator, "sk-1", id)["output"]["task_status"].clone();
    assert_eq!((status(&first), status(&second)), (json!("RUNNING"), json!("PENDING")));
    simulator.advance(10 * SECOND);
    assert_eq!((status(&first), status(&second)), (json!("SUCCEEDED"), json!("RUNNING")));
}

#[test]
fn tasks_fail_inside_a_200() {
    let simulator = start(SimulatorOptions { failure_rate: 1.0, run: SECOND, ..SimulatorOptions::default() });
    let id = submit(&simulator, "sk-1");
    simulator.advance(10 * SECOND);
    let failed = query(&simulator, "sk-1", &id);
    assert_eq!(failed["output"]["task_status"], "FAILED");
    assert!(failed["output"]["code"].is_string() && failed["usage"].is_null());
    let id = submit(&simulator, "sk-1");
    simulator.fail(&id, "InvalidParameter", "The size is not match xxxxxx");
    assert_eq!(query(&simulator, "sk-1", &id)["output"]["code"], "InvalidParameter");
    simulator.pin(&id, Some(SimulatedStatus::Suspended));
    assert_eq!(query(&simulator, "sk-1", &id)["output"]["task_status"], "SUSPENDED");
}

#[test]
fn other_models_have_their_own_results() {
    let simulator = start(SimulatorOptions { run: SECOND, ..SimulatorOptions::default() });
    let done = |path: &str, body: Value| {
        let answer = post(&simulator, "sk-1", &format!("/api/v1/services/{path}"), ASYNC, &body);
        let id = answer.json()["output"]["task_id"].as_str().unwrap().to_owned();
        simulator.advance(10 * SECOND);
        query(&simulator, "sk-1", &id)
    };
    let frame = json!({"first_frame_url": "https://example.com/a.png"});
    let frames =
        done("aigc/image2video/video-synthesis", json!({"model": "wanx2.1-kf2v-plus", "input": frame}));
    assert_eq!(frames["usage"], json!({"video_duration": 5, "video_count": 1, "video_ratio": "standard"}));
    let input = json!({"prompt": "fail:0"});
    let images = json!({"model": "wan2.2-t2i-flash", "input": input, "parameters": {"n": 2}});
    let images = done("aigc/text2image/image-synthesis", images);
    assert_eq!(images["usage"], json!({"image_count": 1}));
    assert_eq!(images["output"]["results"][0]["code"], "InternalError.Timeout");
    let files = json!({"file_urls": ["https://example.com/a.wav", "https://example.com/missing.wav"]});
    let speech = done("audio/asr/transcription", json!({"model": "paraformer-v2", "input": files}));
    assert_eq!(speech["output"]["task_metrics"], json!({"TOTAL": 2, "SUCCEEDED": 1, "FAILED": 1}));
    assert_eq!(speech["output"]["results"][1]["subtask_status"], "FAILED");
}

#[test]
fn checks_come_in_order() {
    let simulator = two_accounts();
    simulator.set_overdue("west", true);
    let answer = |key: &str, path: &str, headers: &str, body: &Value| {
        let answer = post(&simulator, key, path, headers, body);
        (answer.status, answer.json()["code"].as_str().unwrap_or_default().to_owned())
    };
    let expect = |status: u16, code: &str| (status, code.to_owned());
    let empty = |model: &str| json!({"model": model});
    assert_eq!(answer("sk-no", "/api/v1/nowhere", "", &json!({})), expect(401, "InvalidApiKey"));
    assert_eq!(answer("sk-west", "/api/v1/nowhere", "", &json!({})), expect(404, "NotFound"));
    assert_eq!(answer("sk-west", SYNTHESIS, ASYNC, &empty("wan9")), expect(400, "InvalidParameter"));
    assert_eq!(answer("sk-west", SYNTHESIS, ASYNC, &empty("wan2.7-t2v")), expect(400, "Arrearage"));
    assert_eq!(
        answer("sk-east", SYNTHESIS, ASYNC, &empty("wan2.7-t2v")),
        expect(400, "BadRequest.EmptyInput")
    );
    assert_eq!(answer("sk-east", SYNTHESIS, "", &image_to_video()), expect(403, "AccessDenied"));
    assert_eq!(answer("sk-east", GENERATION, ASYNC, &empty("qwen-plus")), expect(403, "AccessDenied"));
    let wrong_path = post(&simulator, "sk-east", SYNTHESIS, ASYNC, &empty("wanx2.1-kf2v-plus"));
    assert_eq!(wrong_path.json()["message"], "url error, please check url!");
    let mut body = image_to_video();
    body["parameters"]["duration"] = "5".into();
    assert_eq!(answer("sk-east", SYNTHESIS, ASYNC, &body), expect(400, "InvalidParameter"));
}

#[test]
fn an_account_queries_lists_and_cancels_twenty_times_a_second_each() {
    let simulator = start(SimulatorOptions { query_qps: 2, ..SimulatorOptions::default() });
    let status = |path: &str| get(&simulator, "sk-1", path).status;
    // The clock may pass a second between two calls, so more may be let in; but never all.
    let refused = (0..100).map(|_| status("/api/v1/tasks/x")).filter(|status| *status == 429).count();
    assert!(refused > 0);
    assert_eq!(status("/api/v1/tasks"), 200);
    simulator.advance(SECOND);
    assert_eq!(status("/api/v1/tasks/x"), 200);
}

#[test]
fn it_tells_how_often_it_was_called_and_when_an_end_was_first_seen() {
    let simulator = start(SimulatorOptions { query_qps: 0, run: SECOND, ..SimulatorOptions::default() });
    let id = submit(&simulator, "sk-1");
    assert_eq!(get(&simulator, "sk-1", &format!("/api/v1/tasks/{id}")).status, 429);
    assert_eq!(get(&simulator, "sk-1", "/api/v1/tasks").status, 429);
    let calls = get(&simulator, "", "/sim/calls").json();
    let refused = json!({"arrived": 1, "refused": 1, "busiest_second": 1});
    assert_eq!((&calls["main"]["query"], &calls["main"]["list"]), (&refused, &refused));
    assert_eq!(calls["main"]["submit wan2.7-i2v"]["refused"], 0);
    simulator.advance(10 * SECOND);
    let tasks = get(&simulator, "", "/sim/tasks").json();
    assert_eq!((&tasks[0]["task_id"], &tasks[0]["status"]), (&json!(id), &json!("SUCCEEDED")));
    assert!(tasks[0]["ended_micros"].is_u64() && tasks[0]["answered_micros"].is_null(), "{tasks}");
}

#[test]
fn a_page_holds_no_more_than_the_simulator_was_told() {
    let simulator =
        start(SimulatorOptions { page_size_max: 2, submit_rps: Some(100), ..SimulatorOptions::default() });
    for _ in 0..3 {
        submit(&simulator, "sk-1");
    }
    let page = get(&simulator, "sk-1", "/api/v1/tasks?page_size=100").json();
    assert_eq!((&page["total"], &page["page_size"], &page["total_page"]), (&json!(3), &json!(2), &json!(2)));
    assert_eq!(page["data"].as_array().unwrap().len(), 2);
}

#[test]
fn every_kind_of_throttling_can_be_had() {
    let simulator = start(SimulatorOptions { submit_rps: Some(1000), ..SimulatorOptions::default() });
    for kind in ThrottlingKind::ALL {
        simulator.throttle(Some(ThrottledShare { kind, rate: 1.0 }));
        let answer = post(&simulator, "sk-1", SYNTHESIS, ASYNC, &image_to_video());
        assert_eq!(answer.status, 429);
        let code = answer.json()["code"].as_str().unwrap().to_owned();
        assert_eq!(code.parse(), Ok(kind));
    }
    simulator.throttle(None);
    submit(&simulator, "sk-1");
}

#[test]
fn what_belongs_to_the_account_is_there_to_leak() {
    let simulator = two_accounts();
    let minted = post(&simulator, "sk-east", "/api/v1/tokens?expire_in_seconds=60", "", &json!({})).json();
    let token = minted["token"].as_str().unwrap();
    let id = submit(&simulator, "sk-east");
    assert_eq!(query(&simulator, token, &id)["output"]["task_status"], "PENDING");
    simulator.advance(61 * SECOND);
    assert_eq!(get(&simulator, token, "/api/v1/tasks").status, 401);
    for path in
        ["files", "fine-tunes", "deployments/d-1", "models", "quotas", "agentstudio/vaults/v/credentials"]
    {
        assert_eq!(get(&simulator, "sk-east", &format!("/api/v1/{path}")).status, 200, "{path}");
    }
    let app =
        post(&simulator, "sk-east", "/api/v1/apps/a1/completion", "X-DashScope-SSE: enable\r\n", &json!({}));
    assert!(app.text().contains("id:2\nevent:result\n") && app.text().contains("session_id"));
    let traversal = get(&simulator, "sk-east", "/api/v1/tasks/x/%2e%2e/../files");
    assert!(traversal.json()["data"]["files"].is_array());
}

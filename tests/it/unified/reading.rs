//! Reading of videos: the Video object, its list and its delete, and the same task in APIYI's shape.

use std::time::{Duration, Instant};

use dashgate::sim::{SimulatedStatus, SimulatorOptions};
use serde_json::{Value, json};

use super::{call, call_as, create, finish, gateway, lighthouse, ok, refused, simulator, simulator_with};
use crate::harness::{Gateway, TENANT_KEY, eventually};

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}

const FIELDS: [&str; 14] = [
    "completed_at",
    "created_at",
    "error",
    "expires_at",
    "id",
    "model",
    "object",
    "progress",
    "prompt",
    "remixed_from_video_id",
    "seconds",
    "size",
    "status",
    "",
];

#[test]
fn a_video_is_told_from_its_create_to_its_end() {
    let simulator = simulator();
    let gateway = gateway(&simulator);
    let got = call_as(&gateway, TENANT_KEY, "POST /v1/videos", &[], Some(&lighthouse()));
    let video = ok(&got);
    assert_eq!(keys(&video), FIELDS[..13]);
    let expected = json!({"object": "video", "status": "queued", "progress": 0, "model": "wan2.7-t2v",
        "prompt": "a lighthouse", "seconds": "5", "size": "1280x720", "error": null, "completed_at": null});
    for (name, value) in expected.as_object().expect("an object") {
        assert_eq!(&video[name], value, "{name}");
    }
    assert!(
        got.field("openai-poll-after-ms").and_then(|ms| ms.parse::<u64>().ok()).is_some_and(|ms| ms >= 1000)
    );
    let id = video["id"].as_str().expect("an id");
    let show = |prefix: &str| ok(&call(&gateway, &format!("GET {prefix}/videos/{id}")));
    assert_eq!(show("/v1")["status"], "queued");
    assert_eq!(show("/ope")["status"], "QUEUED");
    simulator.pin(id, Some(SimulatedStatus::Running));
    let running = show("/v1");
    assert_eq!((&running["status"], &running["prompt"]), (&json!("in_progress"), &json!("a lighthouse")));
    assert!(running["progress"].as_u64().is_some_and(|progress| (1..100).contains(&progress)));
    assert_eq!(show("/ope")["status"], "IN_PROGRESS");
    let task = ok(&call(&gateway, &format!("GET /v1/tasks/{id}")));
    assert_eq!((&task["status"], &task["result_url"]), (&json!("in_progress"), &Value::Null));
    simulator.pin(id, None);
    finish(&gateway, &simulator, id);
    let got = call(&gateway, &format!("GET /v1/videos/{id}"));
    assert_eq!(got.field("openai-poll-after-ms"), None);
    let done = ok(&got);
    assert_eq!((&done["status"], &done["progress"]), (&json!("completed"), &json!(100)));
    assert!(done["completed_at"].as_u64() >= done["created_at"].as_u64());
    assert!(done["expires_at"].as_u64() > done["completed_at"].as_u64());
    assert_eq!(show("/ope")["status"], "SUCCESS");
    let task = ok(&call(&gateway, &format!("GET /v1/tasks/{id}")));
    assert_eq!(keys(&task), ["error", "progress", "result_url", "status", "task_id"]);
    assert_eq!(
        (&task["task_id"], &task["status"], &task["progress"]),
        (&json!(id), &json!("completed"), &json!(100))
    );
    assert!(task["result_url"].as_str().is_some_and(|url| url.contains(".mp4?Expires=")), "{task}");
}

#[test]
fn a_failure_is_told_in_the_tasks_own_words() {
    let simulator = simulator();
    let gateway = gateway(&simulator);
    let id = create(&gateway, &lighthouse());
    simulator.fail(&id, "InvalidParameter", "The size is not match");
    let show = |path: &str| ok(&call(&gateway, &format!("GET {path}/{id}")));
    eventually("it has failed", || show("/v1/videos")["status"] == "failed");
    let error = json!({"code": "InvalidParameter", "message": "The size is not match"});
    let video = show("/v1/videos");
    assert_eq!((&video["error"], &video["progress"]), (&error, &json!(0)));
    assert_eq!(show("/ope/videos")["status"], "FAILURE");
    let task = show("/v1/tasks");
    assert_eq!((&task["status"], &task["error"]), (&json!("failed"), &error));
}

#[test]
fn a_poll_waits_where_it_is_asked_to() {
    let simulator = simulator_with(SimulatorOptions {
        pending: Some(Duration::from_millis(100)),
        run: Duration::from_millis(300),
        ..SimulatorOptions::default()
    });
    let gateway = gateway(&simulator);
    let id = create(&gateway, &lighthouse());
    let began = Instant::now();
    let mut asked = 0;
    loop {
        let got = call_as(&gateway, TENANT_KEY, &format!("GET /v1/videos/{id}"), &["Prefer: wait=20"], None);
        assert_eq!(got.field("preference-applied").as_deref(), Some("wait=20"));
        asked += 1;
        if ok(&got)["status"] == "completed" {
            break;
        }
    }
    // Each change of state takes one answer.
    assert!(asked <= 3 && began.elapsed() < Duration::from_secs(15), "asked {asked} times");
}

fn listed(gateway: &Gateway, query: &str) -> (Vec<String>, Value) {
    let page = ok(&call(gateway, &format!("GET /v1/videos{query}")));
    let ids = page["data"].as_array().expect("data").iter();
    (ids.map(|video| video["id"].as_str().expect("an id").to_owned()).collect(), page)
}

#[test]
fn the_list_has_pages_in_both_orders() {
    let simulator = simulator();
    let gateway = gateway(&simulator);
    let (ids, page) = listed(&gateway, "");
    assert!(ids.is_empty());
    assert_eq!(
        page,
        json!({"object": "list", "data": [], "first_id": null, "last_id": null, "has_more": false})
    );
    let made: Vec<String> = (0..5).map(|_| create(&gateway, &lighthouse())).collect();
    let newest: Vec<String> = made.iter().rev().cloned().collect();
    let (ids, page) = listed(&gateway, "");
    assert_eq!((&ids, &page["has_more"]), (&newest, &json!(false)));
    assert_eq!(keys(&page["data"][0]), FIELDS[..13]);
    for (order, expected) in [("desc", &newest), ("asc", &made)] {
        let (mut got, mut after) = (Vec::new(), String::new());
        loop {
            let (ids, page) = listed(&gateway, &format!("?limit=2&order={order}{after}"));
            assert_eq!(page["first_id"].as_str(), ids.first().map(String::as_str));
            assert_eq!(page["last_id"].as_str(), ids.last().map(String::as_str));
            after = format!("&after={}", ids.last().expect("an id"));
            got.extend(ids);
            if page["has_more"] == false {
                break;
            }
        }
        assert_eq!(&got, expected);
    }
    refused(&call(&gateway, "GET /v1/videos?after=nobodys"), 404, "not_found");
    assert_eq!(
        refused(&call(&gateway, "GET /v1/videos?limit=0"), 400, "invalid_parameter")["param"],
        "limit"
    );
}

#[test]
fn a_delete_cancels_what_waits_and_hides_what_has_ended() {
    let simulator = simulator();
    let gateway = gateway(&simulator);
    let [waits, runs, done] = [0; 3].map(|_| create(&gateway, &lighthouse()));
    let delete = |id: &str| {
        call_as(
            &gateway,
            TENANT_KEY,
            &format!("DELETE /v1/videos/{id}"),
            &["Content-Type: application/json"],
            None,
        )
    };
    let deleted = |id: &str| json!({"id": id, "object": "video.deleted", "deleted": true});
    assert_eq!(ok(&delete(&waits)), deleted(&waits));
    let canceled = simulator.tasks().into_iter().find(|task| task.id == waits).expect("a task");
    assert_eq!(canceled.status, SimulatedStatus::Canceled);
    simulator.pin(&runs, Some(SimulatedStatus::Running));
    let error = refused(&delete(&runs), 400, "video_not_ready");
    assert!(error["message"].as_str().is_some_and(|text| text.contains("has not begun")), "{error}");
    finish(&gateway, &simulator, &done);
    assert_eq!(ok(&delete(&done)), deleted(&done));
    for id in [&waits, &done] {
        for call_of in
            ["GET /v1/videos/{}", "GET /v1/videos/{}/content", "DELETE /v1/videos/{}", "GET /v1/tasks/{}"]
        {
            refused(&call(&gateway, &call_of.replace("{}", id)), 404, "not_found");
        }
    }
    assert_eq!(listed(&gateway, "").0, [runs.as_str()]);
    // A page may start behind a task that was deleted meanwhile.
    assert_eq!(listed(&gateway, &format!("?after={done}")).0, [runs.as_str()]);
}

#[test]
fn a_restart_forgets_nothing_that_was_asked_for_or_deleted() {
    let simulator = simulator();
    let gateway = gateway(&simulator);
    let prompt = "光".repeat(8000);
    let mut long = lighthouse();
    long["prompt"] = json!(prompt);
    let (kept, hidden, cut) =
        (create(&gateway, &lighthouse()), create(&gateway, &lighthouse()), create(&gateway, &long));
    ok(&call(&gateway, &format!("DELETE /v1/videos/{hidden}")));
    let before = ok(&call(&gateway, &format!("GET /v1/videos/{kept}")));
    let account = [("main", simulator.address(), &[crate::harness::UPSTREAM_KEY][..], "")];
    let text = super::configured(&account, &[], "");
    let gateway = Gateway::over(gateway.stop(), &text);
    assert_eq!(ok(&call(&gateway, &format!("GET /v1/videos/{kept}"))), before);
    refused(&call(&gateway, &format!("GET /v1/videos/{hidden}")), 404, "not_found");
    assert_eq!(listed(&gateway, "").0, [cut.as_str(), kept.as_str()]);
    let video = ok(&call(&gateway, &format!("GET /v1/videos/{cut}")));
    let shown = video["prompt"].as_str().expect("a prompt");
    assert!(prompt.starts_with(shown) && shown.len() > 19_990, "{}", shown.len());
}

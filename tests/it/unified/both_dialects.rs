//! One task in two dialects: a task made in either is visible in both for its tenant, and in neither for another
//! tenant.

use serde_json::{Value, json};

use super::{call, call_as, create, finish, gateway, lighthouse, ok, refused, simulator};
use crate::harness::calls::SYNTHESIS;
use crate::harness::{Gateway, OTHER_KEY, TENANT_KEY, eventually};

fn submit(gateway: &Gateway, model: &str) -> String {
    let body = json!({"model": model, "input": {"prompt": "a native cat"}, "parameters": {"duration": 4, "resolution": "720P"}});
    let got = call_as(
        gateway,
        TENANT_KEY,
        &format!("POST {SYNTHESIS}"),
        &["X-DashScope-Async: enable"],
        Some(&body),
    );
    ok(&got)["output"]["task_id"].as_str().expect("an id").to_owned()
}

fn native(gateway: &Gateway, id: &str) -> Value {
    ok(&call(gateway, &format!("GET /api/v1/tasks/{id}")))
}

#[test]
fn a_native_task_is_a_video_too() {
    let simulator = simulator();
    let gateway = gateway(&simulator);
    let id = submit(&gateway, "wan2.7-t2v");
    let video = ok(&call(&gateway, &format!("GET /v1/videos/{id}")));
    assert_eq!(
        (&video["status"], &video["model"], &video["prompt"]),
        (&json!("queued"), &json!("wan2.7-t2v"), &Value::Null)
    );
    assert_eq!(ok(&call(&gateway, "GET /v1/videos"))["data"][0]["id"], json!(id));
    finish(&gateway, &simulator, &id);
    let video = ok(&call(&gateway, &format!("GET /v1/videos/{id}")));
    let expected = json!(["completed", "a native cat", "4", "1280x720"]);
    assert_eq!(json!([video["status"], video["prompt"], video["seconds"], video["size"]]), expected);
    let content = call(&gateway, &format!("GET /v1/videos/{id}/content"));
    assert_eq!((content.status(), &content.body[4..8]), (200, &b"ftyp"[..]));
    // Another task is canceled in one dialect, and shown as canceled in the other.
    let other = submit(&gateway, "wan2.7-t2v");
    ok(&call(&gateway, &format!("DELETE /v1/videos/{other}")));
    eventually("it is canceled", || native(&gateway, &other)["output"]["task_status"] == "CANCELED");
}

#[test]
fn a_video_is_a_native_task_too() {
    let simulator = simulator();
    let gateway = gateway(&simulator);
    let id = create(&gateway, &lighthouse());
    assert_eq!(native(&gateway, &id)["output"]["task_status"], "PENDING");
    let listed = ok(&call(&gateway, "GET /api/v1/tasks"));
    assert_eq!(
        (&listed["data"][0]["task_id"], &listed["data"][0]["model_name"]),
        (&json!(id), &json!("wan2.7-t2v"))
    );
    finish(&gateway, &simulator, &id);
    let task = native(&gateway, &id);
    let url = task["output"]["video_url"].as_str().expect("a URL");
    let view = ok(&call(&gateway, &format!("GET /v1/tasks/{id}")));
    assert_eq!(view["result_url"], *url, "the same, as it was signed");
    let other = create(&gateway, &lighthouse());
    ok(&call(&gateway, &format!("POST /api/v1/tasks/{other}/cancel")));
    eventually("it is canceled", || {
        ok(&call(&gateway, &format!("GET /v1/videos/{other}")))["error"]["code"] == "Canceled"
    });
}

#[test]
fn a_stranger_sees_no_more_than_of_none() {
    let simulator = simulator();
    let gateway = gateway(&simulator);
    let own = create(&gateway, &lighthouse());
    let natively = submit(&gateway, "wan2.7-t2v");
    finish(&gateway, &simulator, &own);
    let nobodys = "00000000-0000-4000-8000-000000000000";
    simulator.clear();
    for line in ["GET /v1/videos/{}", "GET /v1/videos/{}/content", "DELETE /v1/videos/{}", "GET /v1/tasks/{}"]
    {
        let ask = |id: &str| {
            let got = call_as(&gateway, OTHER_KEY, &line.replace("{}", id), &[], None);
            let request_id = got.field("x-request-id").expect("an id");
            assert_eq!(got.status(), 404);
            // The head up to its date, and the body, must not differ in any byte but those of the request id.
            (
                got.head
                    .replace(&request_id, "REQUEST")
                    .replace("date:", "\0")
                    .split('\0')
                    .next()
                    .map(str::to_owned),
                got.text().replace(&request_id, "REQUEST"),
            )
        };
        let none = ask(nobodys);
        for id in [&own, &natively, &"x".to_owned(), &own.to_ascii_uppercase()] {
            assert_eq!(ask(id), none, "{line} {id}");
        }
        assert!(none.1.contains("\"code\":\"not_found\""), "{}", none.1);
    }
    let page = ok(&call_as(&gateway, OTHER_KEY, "GET /v1/videos", &[], None));
    assert_eq!(page["data"], json!([]));
    let after = call_as(&gateway, OTHER_KEY, &format!("GET /v1/videos?after={own}"), &[], None);
    refused(&after, 404, "not_found");
    assert!(simulator.requests().is_empty(), "nothing was asked of the upstream");
    // The task is still there for its owner.
    assert_eq!(ok(&call(&gateway, &format!("GET /v1/videos/{own}")))["status"], "completed");
}

#[test]
fn other_paths_and_tenants_without_the_right_are_refused() {
    let simulator = simulator();
    let gateway = super::gateway_at(simulator.address(), &[], "allow = [\"tasks\"]");
    for line in [
        "POST /v1/videos/x/remix",
        "GET /v1/models",
        "POST /v1/tokens",
        "GET /v1/tasks",
        "POST /v1/videos/edits",
    ] {
        refused(&call(&gateway, line), 403, "access_denied");
    }
    refused(
        &call_as(&gateway, TENANT_KEY, "POST /v1/videos", &[], Some(&lighthouse())),
        403,
        "access_denied",
    );
    refused(&call_as(&gateway, "sk-nobody-0123456789", "GET /v1/videos", &[], None), 401, "invalid_api_key");
    assert!(simulator.requests().is_empty());
}

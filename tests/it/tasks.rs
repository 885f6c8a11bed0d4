//! Ownership: a task belongs to the tenant that submitted it; for anybody else it does not exist.

mod answers;

use std::io::Write;
use std::net::TcpStream;

use serde_json::{Value, json};

use crate::harness::{
    Envelope, Gateway, Message, OTHER_KEY, TENANT_KEY, UPSTREAM_KEY, Upstream, answer, assert_refused,
    configuration, message,
};

const SUBMIT: &str = "/wan/v1/services/aigc/video-generation/video-synthesis";
const NOBODYS: &str = "00000000-0000-4000-8000-000000000000";

fn id(number: u32) -> String {
    format!("0385dc79-5ff8-4d82-bcb6-{number:012}")
}

/// Answers a submit with the id that its body asks for under `id`, a query as RUNNING, a cancel with 200.
fn dashscope(request: &Message, stream: &mut TcpStream) -> bool {
    let line = request.start_line().to_owned();
    let body = if line.starts_with("POST /api/v1/services/") {
        let id = request.json()["id"].as_str().expect("an id").to_owned();
        json!({"output": {"task_id": id, "task_status": "PENDING"}, "request_id": "r-1"})
    } else if line.starts_with("GET ") {
        let id = line.split(['/', ' ']).nth(5).expect("an id");
        json!({"request_id": "r-2", "output": {"task_id": id, "task_status": "RUNNING", "new": 10.04}})
    } else {
        json!({"request_id": "r-3"})
    };
    stream.write_all(&answer("200 OK", &["X-Upstream: yes"], &body.to_string())).is_ok()
}

fn ask(gateway: &Gateway, key: &str, call: &str) -> Message {
    gateway.ask(message(call, &[&format!("Authorization: Bearer {key}")], ""))
}

fn submit(gateway: &Gateway, key: &str, id: &str, model: &str) -> Message {
    let key = format!("Authorization: Bearer {key}");
    let body = json!({"model": model, "id": id}).to_string();
    gateway.ask(message(&format!("POST {SUBMIT}"), &[&key, "X-DashScope-Async: enable"], &body))
}

/// An answer as it stood on the wire, without the parts that differ between any two answers: the ids and the date.
fn but_for_ids(answer: &Message, task_id: &str) -> String {
    let request_id = answer.field("x-request-id").expect("a request id");
    let date = answer.field("date").expect("a date");
    let whole = format!("{}{}", answer.head, answer.text());
    assert_eq!(answer.json()["request_id"], *request_id);
    whole.replace(&request_id, "REQUEST").replace(task_id, "TASK").replace(&date, "DATE")
}

#[test]
fn the_owner_gets_the_upstreams_own_answers() {
    let upstream = Upstream::start(dashscope);
    let gateway = Gateway::start(upstream.address);
    let id = id(1);
    let got = submit(&gateway, TENANT_KEY, &id, "wan2.7-i2v");
    assert_eq!(got.json(), json!({"output": {"task_id": id, "task_status": "PENDING"}, "request_id": "r-1"}));
    upstream.take();
    for (call, seen) in [
        (format!("GET /wan/v1/tasks/{id}"), format!("GET /api/v1/tasks/{id} HTTP/1.1")),
        (format!("POST /wan/v1/tasks/{id}/cancel"), format!("POST /api/v1/tasks/{id}/cancel HTTP/1.1")),
        (format!("POST /v1/tasks/{id}/cancel/"), format!("POST /api/v1/tasks/{id}/cancel/ HTTP/1.1")),
    ] {
        let got = ask(&gateway, TENANT_KEY, &call);
        assert_eq!((got.status(), got.field("x-upstream").as_deref()), (200, Some("yes")), "{call}");
        // After a cancel the gateway queries the task by itself, at any time.
        let came: Vec<_> = upstream.take().iter().map(|request| request.start_line().to_owned()).collect();
        assert!(came.contains(&seen), "{seen}: {came:?}");
    }
}

#[test]
fn a_strangers_task_looks_like_none() {
    let upstream = Upstream::start(dashscope);
    let gateway = Gateway::start(upstream.address);
    let id = id(1);
    submit(&gateway, TENANT_KEY, &id, "wan2.7-i2v");
    upstream.take();
    for (call, status, body) in [
        (
            "GET /wan/v1/tasks/{}",
            200,
            r#"{"request_id":"REQUEST","output":{"task_id":"TASK","task_status":"UNKNOWN"}}"#,
        ),
        (
            "GET /wan/v1/tasks/{}/",
            200,
            r#"{"request_id":"REQUEST","output":{"task_id":"TASK","task_status":"UNKNOWN"}}"#,
        ),
        (
            "POST /wan/v1/tasks/{}/cancel",
            400,
            r#"{"code":"UnsupportedOperation","message":"Failed to cancel the task, please confirm if the task is in PENDING status.","request_id":"REQUEST"}"#,
        ),
    ] {
        let foreign = ask(&gateway, OTHER_KEY, &call.replace("{}", &id));
        let none = ask(&gateway, OTHER_KEY, &call.replace("{}", NOBODYS));
        assert_eq!(but_for_ids(&foreign, &id), but_for_ids(&none, NOBODYS));
        assert_eq!(foreign.status(), status);
        assert!(but_for_ids(&foreign, &id).ends_with(&format!("\r\n\r\n{body}")), "{}", foreign.text());
        assert_eq!(foreign.field("x-dashgate-reason"), None);
    }
    assert!(upstream.take().is_empty());
    // An id in other letters, a part of an id, or a text that is no UUID is unknown too.
    for strange in [id.to_ascii_uppercase(), id[..8].to_owned(), format!("{id}x"), "%C3%A9%22%3C".to_owned()]
    {
        let got = ask(&gateway, TENANT_KEY, &format!("GET /wan/v1/tasks/{strange}"));
        assert_eq!(got.json()["output"]["task_status"], "UNKNOWN", "{strange}");
    }
    assert!(upstream.take().is_empty());
}

#[test]
fn an_id_that_comes_again_keeps_its_first_owner() {
    let upstream = Upstream::start(dashscope);
    let accounts = [("main", upstream.address, &[UPSTREAM_KEY][..], "")];
    let text = configuration("listen = \"127.0.0.1:0\"\nworkers = 1", &accounts, "");
    let gateway = Gateway::configured(&text);
    submit(&gateway, TENANT_KEY, &id(1), "wan2.7-i2v");
    submit(&gateway, OTHER_KEY, &id(1), "wan2.7-i2v");
    upstream.take();
    let seen_by = |gateway: &Gateway, key: &str| {
        ask(gateway, key, &format!("GET /wan/v1/tasks/{}", id(1))).json()["output"]["task_status"].clone()
    };
    assert_eq!([OTHER_KEY, TENANT_KEY].map(|key| seen_by(&gateway, key)), ["UNKNOWN", "RUNNING"]);
    assert_eq!(upstream.take().len(), 1);
    let gateway = Gateway::over(gateway.stop(), &text);
    assert_eq!([OTHER_KEY, TENANT_KEY].map(|key| seen_by(&gateway, key)), ["UNKNOWN", "RUNNING"]);
}

/// The ids of a page, in its order, and the page without its rows and its request id.
fn list(gateway: &Gateway, key: &str, query: &str) -> (Vec<String>, Value) {
    let got = ask(gateway, key, &format!("GET /wan/v1/tasks{query}"));
    assert_eq!(
        (got.status(), got.field("content-type").as_deref()),
        (200, Some("application/json")),
        "{query}"
    );
    let mut page = got.json();
    let request_id = page.as_object_mut().expect("an object").remove("request_id");
    assert_eq!(request_id.expect("a request id"), *got.field("x-request-id").expect("a request id"));
    let rows = page.as_object_mut().expect("an object").remove("data").expect("rows");
    let rows = rows.as_array().expect("rows");
    for row in rows {
        let keys: Vec<&str> = row.as_object().expect("a row").keys().map(String::as_str).collect();
        assert_eq!(keys, ["gmt_create", "model_name", "status", "task_id"], "nothing of the account's");
    }
    (rows.iter().map(|row| row["task_id"].as_str().expect("text").to_owned()).collect(), page)
}

#[test]
fn a_list_is_of_the_tenants_own() {
    // The first task runs, and the others wait.
    let upstream =
        Upstream::start(|request, stream| match request.start_line().split_once("GET /api/v1/tasks/") {
            Some((_, rest)) if !rest.starts_with(&id(1)) => {
                let id = rest.split(' ').next().expect("an id");
                let body = json!({"output": {"task_id": id, "task_status": "PENDING"}});
                stream.write_all(&answer("200 OK", &[], &body.to_string())).is_ok()
            }
            Some(_) | None => dashscope(request, stream),
        });
    let gateway = Gateway::start(upstream.address);
    for (key, number, model) in [
        (TENANT_KEY, 1, "wan2.7-i2v"),
        (OTHER_KEY, 2, "wan2.7-i2v"),
        (TENANT_KEY, 3, "wan2.7-t2v"),
        (TENANT_KEY, 4, "wan2.7-i2v"),
    ] {
        submit(&gateway, key, &id(number), model);
    }
    upstream.take();
    let ids = |numbers: &[u32]| numbers.iter().map(|number| id(*number)).collect::<Vec<_>>();
    let page = |total: u32, total_page: u32, page_no: u32, page_size: u32| json!({"total": total, "total_page": total_page, "page_no": page_no, "page_size": page_size});
    for (query, numbers, rest) in [
        ("", &[4, 3, 1][..], page(3, 1, 1, 10)),
        ("/", &[4, 3, 1], page(3, 1, 1, 10)),
        ("/?page_no=1&page_size=2", &[4, 3], page(3, 2, 1, 2)),
        ("?page_no=2&page_size=2", &[1], page(3, 2, 2, 2)),
        ("?page_no=9&page_size=2", &[], page(3, 2, 9, 2)),
        ("?page_size=1000000", &[4, 3, 1], page(3, 1, 1, 100)),
        ("?model_name=wan2.7-i2v", &[4, 1], page(2, 1, 1, 10)),
        ("?status=RUNNING", &[1], page(1, 1, 1, 10)),
        ("?status=PENDING&model_name=wan2.7-t2v", &[3], page(1, 1, 1, 10)),
        ("?status=FAILED", &[], page(0, 0, 1, 10)),
        (&format!("?task_id={}", id(3)), &[3], page(1, 1, 1, 10)),
        (&format!("?task_id={}", id(2)), &[], page(0, 0, 1, 10)),
        (&format!("?task_id={NOBODYS}"), &[], page(0, 0, 1, 10)),
        ("?start_time=20200101000000&end_time=20200102000000", &[], page(0, 0, 1, 10)),
        ("?start_time=20200101000000&end_time=29990101000000", &[4, 3, 1], page(3, 1, 1, 10)),
        ("?api_key_id=1&region=cn-beijing&model_name=&unheard=of", &[4, 3, 1], page(3, 1, 1, 10)),
    ] {
        assert_eq!(list(&gateway, TENANT_KEY, query), (ids(numbers), rest), "{query}");
    }
    assert_eq!(list(&gateway, OTHER_KEY, ""), (ids(&[2]), page(1, 1, 1, 10)));
    for query in ["page_no=0", "page_no=-1", "page_size=x", "start_time=yesterday", "end_time=20261399000000"]
    {
        let got = ask(&gateway, TENANT_KEY, &format!("GET /wan/v1/tasks?{query}"));
        let refusal = assert_refused(&got, 400, "bad_request", "InvalidParameter", Envelope::Flat);
        let name = query.split('=').next().expect("a name");
        assert!(refusal.contains(name), "{refusal}");
    }
    let of_one_task = |seen: &Message| seen.start_line().starts_with("GET /api/v1/tasks/");
    assert!(upstream.take().iter().all(of_one_task), "a list was asked of the upstream");
}

/// A client that polls must not be able to tell from the connection whether a task exists.
#[test]
fn an_unknown_task_does_not_end_the_connection() {
    let upstream = Upstream::start(dashscope);
    let gateway = Gateway::start(upstream.address);
    submit(&gateway, OTHER_KEY, &id(1), "wan2.7-i2v");
    let mut client = crate::harness::Client::connect(gateway.address);
    let key = format!("x-api-key: {TENANT_KEY}");
    for id in [id(1), NOBODYS.to_owned(), id(1)] {
        // With the body that the Python SDK's async classes send.
        let body = r#"{"model": "", "parameters": {}, "input": ""}"#;
        let got = client.ask(message(&format!("GET /wan/v1/tasks/{id}/"), &[&key], body));
        assert_eq!(got.json()["output"]["task_status"], "UNKNOWN");
        assert_eq!(got.field("connection"), None);
    }
}

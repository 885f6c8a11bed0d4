//! Access log: each exchange has one line with the known fields and no secret, a sample leaves out only ordinary
//! lines, and a reload changes the target and the format.

use std::io::Write;

use serde_json::Value;

use crate::harness::calls::{bearer, generate, poll, submit, task};
use crate::harness::gateway::{ACCESS_LOG, CONFIG_FILE};
use crate::harness::{Gateway, UPSTREAM_KEY, Upstream, answer, configuration, eventually, message};

const TASK: &str = "0f0e0d0c-0b0a-4908-8706-050403020100";

fn upstream() -> Upstream {
    Upstream::start(|request, stream| {
        let path = request.start_line();
        let bytes = match &path {
            path if path.contains("video-synthesis") => task(TASK, "PENDING"),
            path if path.contains("/tasks/") => task(TASK, "RUNNING"),
            _ => answer("200 OK", &["X-Request-Id: upstream-1"], "0123456789"),
        };
        stream.write_all(&bytes).is_ok()
    })
}

/// A gateway with these lines in `[log]`.
fn gateway(upstream: &Upstream, log: &str) -> Gateway {
    let server = format!("listen = \"127.0.0.1:0\"\nworkers = 1\n[log]\n{log}");
    Gateway::configured(&configuration(&server, &[("main", upstream.address, &[UPSTREAM_KEY], "")], ""))
}

/// Waits for this number of lines.
fn lines(gateway: &Gateway, count: usize) -> Vec<Value> {
    eventually("the lines are written", || gateway.lines().len() >= count);
    gateway.lines()
}

#[test]
fn a_line_tells_what_is_known_and_leaves_out_the_rest() {
    let upstream = upstream();
    let gateway = gateway(&upstream, "");
    gateway.ask(generate(r#"{"input":{"prompt":"p"},"model":"qwen-plus"}"#));
    gateway.ask(submit());
    gateway.ask(poll(TASK));
    let refused = gateway.ask(message("GET /wan/v1/tasks/sk-no-task-of-mine", &[], ""));
    let lines = lines(&gateway, 4);
    let names = |line: &Value| line.as_object().expect("an object").keys().cloned().collect::<Vec<_>>();
    let first = &lines[0];
    for (field, value) in [
        ("upstream_request_id", "upstream-1"),
        ("tenant", "one"),
        ("key_id", "one-key"),
        ("mount", "/"),
        ("method", "POST"),
        ("operation", "service"),
        ("model", "qwen-plus"),
        ("account", "main"),
        ("outcome", "answered"),
    ] {
        assert_eq!(first[field], value, "{first}");
    }
    assert_eq!(
        (&first["code"], &first["bytes_out"], &first["attempts"]),
        (&200.into(), &10.into(), &1.into())
    );
    assert!(first["client"].as_str().expect("text").starts_with("127.0.0.1:"), "{first}");
    assert_eq!(first["request_id"].as_str().expect("text").len(), 36, "{first}");
    assert!(first["upstream_seconds"].as_f64() > Some(0.0), "{first}");
    assert!(first["time"].as_str().is_some_and(|time| time.len() == 27 && time.ends_with('Z')), "{first}");
    assert!(
        !names(first).iter().any(|name| ["task_id", "reason", "sample"].contains(&name.as_str())),
        "{first}"
    );
    assert_eq!((&lines[1]["task_id"], &lines[1]["model"]), (&TASK.into(), &"wan2.7-t2v".into()));
    assert_eq!((&lines[2]["task_id"], &lines[2]["account"]), (&TASK.into(), &"main".into()));
    assert_eq!((&lines[1]["served"], &lines[2]["served"]), (&Value::Null, &"upstream".into()));
    let last = &lines[3];
    assert_eq!((&last["outcome"], &last["reason"]), (&"rejected".into(), &"no_key".into()));
    assert_eq!(last["request_id"].as_str(), refused.field("x-request-id").as_deref());
    assert!(last.get("tenant").is_none() && last.get("task_id").is_none(), "{last}");
}

#[test]
fn a_sample_leaves_out_only_what_is_ordinary() {
    let upstream = upstream();
    let gateway = gateway(&upstream, "sample = 0.0");
    for _ in 0..20 {
        assert_eq!(gateway.ask(generate("{}")).status(), 200);
    }
    gateway.ask(submit());
    gateway.ask(message("GET /v1/tasks", &[], ""));
    let outcomes = lines(&gateway, 2);
    let outcomes: Vec<_> = outcomes.iter().map(|line| (&line["operation"], &line["outcome"])).collect();
    let (submit, list) = (Value::from("submit"), Value::from("task_list"));
    assert_eq!(outcomes, [(&submit, &"answered".into()), (&list, &"rejected".into())]);
    let half = self::gateway(&upstream, "sample = 0.5");
    for _ in 0..64 {
        half.ask(generate("{}"));
    }
    half.ask(message("GET /v1/tasks", &[], ""));
    let last = |line: &Value| line["outcome"] == "rejected";
    eventually("the last line is written", || half.lines().iter().any(last));
    let lines = half.lines();
    // A sample of one half of 64 lines: it is too unlikely that all of them, or none, are taken.
    assert!((2..65).contains(&lines.len()), "{}", lines.len());
    assert!(lines.iter().all(|line| last(line) || line["sample"] == 0.5));
}

#[test]
fn a_reload_changes_where_lines_go_and_how_they_look() {
    let upstream = upstream();
    let server = "listen = \"127.0.0.1:0\"\nworkers = 1";
    let text = configuration(server, &[("main", upstream.address, &[UPSTREAM_KEY], "")], "");
    let gateway = Gateway::from_file(&text);
    let folder = gateway.directory.path();
    let written = || std::fs::read_to_string(folder.join("other.log")).unwrap_or_default();
    gateway.ask(generate("{}"));
    lines(&gateway, 1);
    let reload = |log: &str| {
        let store = folder.join("dashgate.db");
        let text = format!("{text}\n[store]\npath = {store:?}\n[log]\n{log}");
        std::fs::write(folder.join(CONFIG_FILE), text).expect("written");
        assert_eq!(gateway.administer("POST /admin/reload", "").status(), 200);
    };
    reload(&format!("format = \"text\"\naccess = {:?}", folder.join("other.log")));
    gateway.ask(generate("{}"));
    eventually("a line for people is there", || written().lines().count() == 1);
    assert!(
        written().contains(" 200 answered service method=POST mount=/ tenant=one key_id=one-key "),
        "{}",
        written()
    );
    reload("access = \"off\"");
    gateway.ask(generate("{}"));
    reload(&format!("access = {:?}", folder.join(ACCESS_LOG)));
    gateway.ask(message("GET /v1/tasks", &[&bearer()], ""));
    assert_eq!(lines(&gateway, 2)[1]["operation"], "task_list");
    assert_eq!((written().lines().count(), gateway.lines().len()), (1, 2));
}

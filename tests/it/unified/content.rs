//! Content of a finished video through the gateway: whole, in ranges, by HEAD, and the errors in its place.

use std::io::{Read, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dashgate::sim::{FaultAction, ScriptedFault, SimulatedStatus};
use serde_json::json;

use super::{call, call_as, create, finish, gateway, gateway_at, lighthouse, origin, refused, simulator};
use crate::harness::{Client, Gateway, Message, TENANT_KEY, UPSTREAM_KEY, Upstream, answer, message};

fn content(gateway: &Gateway, id: &str, fields: &[&str]) -> Message {
    call_as(gateway, TENANT_KEY, &format!("GET /v1/videos/{id}/content"), fields, None)
}

/// The answer to a HEAD, which has a length and no body.
fn head(gateway: &Gateway, id: &str) -> Message {
    let authorization = format!("Authorization: Bearer {TENANT_KEY}");
    let mut client = Client::connect(gateway.address);
    let fields = [authorization.as_str(), "Connection: close"];
    client.send(message(&format!("HEAD /v1/videos/{id}/content"), &fields, ""));
    let head = client.head();
    assert_eq!(client.rest(), b"");
    head
}

#[test]
fn the_file_comes_whole_in_ranges_and_as_its_head() {
    let simulator = simulator();
    let gateway = gateway(&simulator);
    let id = create(&gateway, &lighthouse());
    finish(&gateway, &simulator, &id);
    simulator.clear();
    let whole = content(&gateway, &id, &[]);
    assert_eq!(whole.status(), 200, "{}", whole.text());
    let (length, tag) = (whole.body.len(), whole.field("etag").expect("a tag"));
    assert_eq!(whole.field("content-length"), Some(length.to_string()));
    assert_eq!(whole.field("content-type").as_deref(), Some("video/mp4"));
    assert_eq!(whole.field("accept-ranges").as_deref(), Some("bytes"));
    assert_eq!(whole.field("content-disposition"), Some(format!("inline; filename=\"{id}.mp4\"")));
    assert_eq!(whole.field("x-oss-request-id"), None);
    for (range, first, last) in [
        ("bytes=0-", 0, length - 1),
        ("bytes=0-99", 0, 99),
        ("bytes=-100", length - 100, length - 1),
        ("bytes=5-5", 5, 5),
    ] {
        let part = content(&gateway, &id, &[&format!("Range: {range}")]);
        assert_eq!(part.status(), 206, "{range}");
        assert_eq!(part.field("content-range"), Some(format!("bytes {first}-{last}/{length}")));
        assert_eq!(part.body, whole.body[first..=last], "{range}");
    }
    // `If-Range` with the right tag gets the range; with another tag it gets the whole file.
    assert_eq!(content(&gateway, &id, &["Range: bytes=0-9", &format!("If-Range: {tag}")]).status(), 206);
    let fresh = content(&gateway, &id, &["Range: bytes=0-9", "If-Range: \"other\""]);
    assert_eq!((fresh.status(), fresh.body.len()), (200, length));
    assert_eq!(content(&gateway, &id, &[&format!("If-None-Match: {tag}")]).status(), 304);
    let beyond = content(&gateway, &id, &[&format!("Range: bytes={length}-")]);
    refused(&beyond, 416, "invalid_range");
    let head = head(&gateway, &id);
    assert_eq!((head.status(), head.field("content-length")), (200, Some(length.to_string())));
    assert_eq!(head.field("content-type").as_deref(), Some("video/mp4"));
    assert_eq!(head.field("content-range"), None);
    // Storage saw no key of the tenant or of the account.
    let seen: Vec<_> = simulator
        .requests()
        .into_iter()
        .filter(|seen| seen.path().starts_with("/dashscope-result/"))
        .collect();
    assert!(seen.len() >= 8, "{}", seen.len());
    for seen in seen {
        assert_eq!(seen.header("authorization"), None);
        for secret in [TENANT_KEY, UPSTREAM_KEY] {
            assert!(!seen.head.windows(secret.len()).any(|window| window == secret.as_bytes()));
        }
    }
    refused(
        &call(&gateway, &format!("GET /v1/videos/{id}/content?variant=thumbnail")),
        400,
        "invalid_parameter",
    );
    assert_eq!(call(&gateway, &format!("GET /v1/videos/{id}/content?variant=video")).status(), 200);
}

#[test]
fn in_place_of_a_video_there_is_a_clear_error() {
    let simulator = simulator();
    let gateway = gateway(&simulator);
    let [waits, failed, gone] = [0; 3].map(|_| create(&gateway, &lighthouse()));
    for status in [None, Some(SimulatedStatus::Running), Some(SimulatedStatus::Suspended)] {
        simulator.pin(&waits, status);
        let error = refused(&content(&gateway, &waits, &[]), 400, "video_not_ready");
        assert_eq!(error["type"], "invalid_request_error");
    }
    simulator.fail(&failed, "InternalError.Algo", "It burnt.");
    crate::harness::eventually("it has failed", || {
        call(&gateway, &format!("GET /v1/videos/{failed}")).json()["status"] == "failed"
    });
    let error = refused(&content(&gateway, &failed, &[]), 400, "video_failed");
    assert!(
        error["message"].as_str().is_some_and(|text| text.contains("InternalError.Algo: It burnt.")),
        "{error}"
    );
    finish(&gateway, &simulator, &gone);
    simulator.fault(ScriptedFault::on(
        "/dashscope-result/*",
        FaultAction::Status { status: 403, code: "AccessDenied".into(), message: "m".into() },
    ));
    refused(&content(&gateway, &gone, &[]), 410, "video_expired");
    simulator.clear_faults();
    simulator.fault(ScriptedFault::on(
        "/dashscope-result/*",
        FaultAction::Status { status: 500, code: "Internal".into(), message: "m".into() },
    ));
    refused(&content(&gateway, &gone, &[]), 502, "service_unavailable");
    simulator.clear_faults();
    assert_eq!(content(&gateway, &gone, &[]).status(), 200);
    // The URL's `Expires` parameter shows that the video has expired.
    let expired = Upstream::start(|request, stream| {
        let body = if request.start_line().starts_with("POST") {
            json!({"output": {"task_id": "t-1", "task_status": "PENDING"}})
        } else {
            json!({"output": {"task_id": "t-1", "task_status": "SUCCEEDED", "video_url": "http://127.0.0.1:9/a.mp4?Expires=1700000000"}})
        };
        stream.write_all(&answer("200 OK", &["Content-Type: application/json"], &body.to_string())).is_ok()
    });
    let gateway = gateway_at(expired.address, &["http://127.0.0.1:9".to_owned()], "");
    let id = create(&gateway, &lighthouse());
    refused(&content(&gateway, &id, &[]), 410, "video_expired");
}

/// The upstream's answers for the task `t-1`, whose video lies at this URL.
fn dashscope(url: impl Fn() -> String + Send + Sync + 'static) -> Upstream {
    Upstream::start(move |request, stream| {
        let body = if request.start_line().starts_with("POST") {
            json!({"output": {"task_id": "t-1", "task_status": "PENDING"}})
        } else {
            json!({"output": {"task_id": "t-1", "task_status": "SUCCEEDED", "video_url": url()}})
        };
        stream.write_all(&answer("200 OK", &["Content-Type: application/json"], &body.to_string())).is_ok()
    })
}

/// The gateway holds nothing back: storage is read no faster than the client reads.
#[test]
fn a_video_is_passed_on_as_fast_as_it_is_read() {
    const LENGTH: u64 = 256 * 1024 * 1024;
    let given = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&given);
    let storage = Upstream::start(move |_, stream| {
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\nContent-Type: application/octet-stream\r\n\r\n"
        );
        let block = vec![7; 1 << 16];
        let mut written = stream.write_all(head.as_bytes());
        while written.is_ok() && count.load(Ordering::SeqCst) < LENGTH {
            written = stream.write_all(&block);
            count.fetch_add(block.len() as u64, Ordering::SeqCst);
        }
        written.is_ok()
    });
    let url = format!("{}/a.mp4", origin(storage.address));
    let upstream = dashscope(move || url.clone());
    let gateway = gateway_at(upstream.address, &[origin(storage.address)], "");
    let id = create(&gateway, &lighthouse());
    let mut client = Client::connect(gateway.address);
    let authorization = format!("Authorization: Bearer {TENANT_KEY}");
    client.send(message(&format!("GET /v1/videos/{id}/content"), &[&authorization], ""));
    let head = client.head();
    assert_eq!((head.status(), head.field("content-type").as_deref()), (200, Some("video/mp4")));
    // The transfer stops far from the end, until the client reads on.
    let mut last = u64::MAX;
    crate::harness::eventually("storage waits", || {
        std::thread::sleep(Duration::from_millis(50));
        std::mem::replace(&mut last, given.load(Ordering::SeqCst)) == given.load(Ordering::SeqCst)
    });
    assert!(last < LENGTH / 4, "{last} bytes were taken in advance");
    let mut left = LENGTH;
    let mut buffer = vec![0; 1 << 18];
    while left > 0 {
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let read = client.reader().read(&mut buffer[..most]).expect("bytes");
        assert!(read > 0, "{left} bytes are missing");
        left -= read as u64;
    }
}

#[test]
fn redirects_are_followed_within_the_list_alone() {
    let other = Upstream::answering(answer("200 OK", &["Content-Type: video/mp4"], "0123ftyp"));
    let inside = Upstream::answering(answer("200 OK", &[], "secret"));
    let location = Arc::new(Mutex::new(String::new()));
    let shared = Arc::clone(&location);
    let storage = Upstream::start(move |_, stream| {
        let location = format!("Location: {}", shared.lock().expect("no panic"));
        stream.write_all(&answer("302 Found", &[&location], "")).is_ok()
    });
    let url = format!("{}/a.mp4", origin(storage.address));
    let upstream = dashscope(move || url.clone());
    let gateway = gateway_at(upstream.address, &[origin(storage.address), origin(other.address)], "");
    let id = create(&gateway, &lighthouse());
    let ask = |to: &str| {
        *location.lock().expect("no panic") = to.to_owned();
        content(&gateway, &id, &[])
    };
    assert_eq!(ask(&format!("{}/b.mp4", origin(other.address))).text(), "0123ftyp");
    for to in [
        &origin(inside.address),
        "http://localhost/x",
        "http://169.254.169.254/latest/meta-data/",
        "http://[::1]/x",
        "//127.0.0.1/x",
        "file:///etc/passwd",
        "gopher://127.0.0.1/",
        "",
    ] {
        let got = ask(to);
        refused(&got, 502, "service_unavailable");
        assert_eq!(got.field("x-dashgate-reason").as_deref(), Some("storage_refused"), "{to}");
    }
    // A loop of redirects between allowed hosts ends too.
    let seen = storage.requests().len();
    let got = ask("/again");
    assert_eq!(got.field("x-dashgate-reason").as_deref(), Some("storage_failed"));
    assert_eq!(storage.requests().len() - seen, 4);
    assert_eq!(inside.connections(), 0);
}

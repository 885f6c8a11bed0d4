//! No internal fetch: whatever a task's result says, the gateway fetches nothing from inside: not by address, not by
//! name, not by a name that was changed, and not where an operator allowed a pattern that is too wide.

use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};

use dashgate::config::Config;
use serde_json::json;

use super::{call_as, configured, create, gateway_at, lighthouse, origin, refused};
use crate::egress::ScriptedProxy;
use crate::harness::{Gateway, TENANT_KEY, UPSTREAM_KEY, Upstream, answer};

/// Storage is reached through the environment's proxy, which looks up its name.
#[test]
fn a_result_comes_through_the_environment_s_proxy() {
    let storage = Upstream::answering(answer("200 OK", &["Content-Type: video/mp4"], "a video"));
    let upstream = Upstream::start(|request, stream| {
        let body = if request.start_line().starts_with("POST") {
            json!({"output": {"task_id": "t-1", "task_status": "PENDING"}})
        } else {
            json!({"output": {"task_id": "t-1", "task_status": "SUCCEEDED", "video_url": "http://storage.test/a.mp4"}})
        };
        stream.write_all(&answer("200 OK", &["Content-Type: application/json"], &body.to_string())).is_ok()
    });
    let proxy = ScriptedProxy::joining(storage.address);
    let environment = |name: &str| (name == "HTTP_PROXY").then(|| format!("http://{}", proxy.address()));
    let account = ("main", upstream.address, &[UPSTREAM_KEY][..], "");
    let text = configured(&[account], &["http://storage.test".to_owned()], "");
    let loaded = Config::parse(&text, Path::new("."), &environment).expect("a configuration");
    let gateway = Gateway::of(tempfile::tempdir().expect("a directory"), loaded.config);
    let id = create(&gateway, &lighthouse());
    let got = call_as(&gateway, TENANT_KEY, &format!("GET /v1/videos/{id}/content"), &[], None);
    assert_eq!((got.status(), got.text()), (200, "a video".to_owned()));
    assert_eq!(proxy.heads(), ["CONNECT storage.test:80 HTTP/1.1\r\nHost: storage.test:80\r\n\r\n"]);
    assert!(!storage.requests().iter().any(|seen| seen.holds(UPSTREAM_KEY)));
}

#[test]
fn no_result_leads_inside() {
    let inside = Upstream::answering(answer("200 OK", &["Content-Type: video/mp4"], "secret"));
    let port = inside.address.port();
    let url = Arc::new(Mutex::new(String::new()));
    let shared = Arc::clone(&url);
    let upstream = Upstream::start(move |request, stream| {
        let body = if request.start_line().starts_with("POST") {
            let number = request.head.len() + shared.lock().expect("no panic").len();
            json!({"output": {"task_id": format!("t-{number}-{}", shared.lock().expect("no panic").len()), "task_status": "PENDING"}})
        } else {
            let id = request.start_line().split(['/', ' ']).rev().nth(2).unwrap_or_default().to_owned();
            json!({"output": {"task_id": id, "task_status": "SUCCEEDED", "video_url": *shared.lock().expect("no panic")}})
        };
        stream.write_all(&answer("200 OK", &["Content-Type: application/json"], &body.to_string())).is_ok()
    });
    // Each host of the first group is on a list that is too wide: only its address stops the fetch.
    let wide = ["localhost", "*.0.0.1", "*.254.169.254", "*.0.0.5", "*.64.0.1", "*.100.100.200", "*.0.0.0"]
        .map(str::to_owned);
    let usual = ["dashscope-*.oss-*.aliyuncs.com", "*.oss-accelerate.aliyuncs.com"].map(str::to_owned);
    let named = [origin("127.0.0.1:1".parse().expect("an address"))];
    let mut checked = 0;
    for (hosts, urls) in [
        (
            &wide[..],
            &[
                "https://localhost/a.mp4",
                "https://LOCALHOST/a.mp4",
                "https://127.0.0.1/a.mp4",
                "https://10.0.0.5/a.mp4",
                "https://169.254.169.254/latest/meta-data",
                "https://100.64.0.1/a.mp4",
                "https://100.100.100.200/latest/meta-data",
                "https://0.0.0.0/a.mp4",
            ][..],
        ),
        (
            &usual[..],
            &[
                "https://[::1]/a.mp4",
                "https://[::ffff:127.0.0.1]/a.mp4",
                "https://[fd00::1]/a.mp4",
                "https://2130706433/a.mp4",
                "https://192.168.1.1/a.mp4",
                "https://evil.example/a.mp4",
                "https://dashscope-a.oss-b.aliyuncs.com.evil.example/a.mp4",
                "https://dashscope-a.oss-b.aliyuncs.com@127.0.0.1/a.mp4",
                "https://127.0.0.1#.oss-accelerate.aliyuncs.com/a.mp4",
                "http://dashscope-a.oss-cn-beijing.aliyuncs.com/a.mp4",
                "https://dashscope-a.oss-cn-beijing.aliyuncs.com:8443/a.mp4",
                "file:///etc/passwd",
                "not a url",
            ],
        ),
        (
            &named[..],
            &["http://127.0.0.1:PORT/a.mp4", "http://localhost:1/a.mp4", "https://127.0.0.1:1/a.mp4"],
        ),
    ] {
        let gateway = gateway_at(upstream.address, hosts, "");
        for place in urls {
            *url.lock().expect("no panic") = place.replace("PORT", &port.to_string());
            let id = create(&gateway, &lighthouse());
            let got = call_as(&gateway, TENANT_KEY, &format!("GET /v1/videos/{id}/content"), &[], None);
            let error = refused(&got, 502, "service_unavailable");
            assert_eq!(got.field("x-dashgate-reason").as_deref(), Some("storage_refused"), "{place}");
            // The refusal does not tell the client the name of the refused host.
            assert!(!error["message"].to_string().contains("127.0.0.1"));
            checked += 1;
        }
    }
    assert_eq!((checked, inside.connections()), (24, 0));
}

//! A file that a tenant uploaded is read by the account that stores it, for that tenant and no other.

use dashgate::sim::{
    FaultAction, ScriptedFault, Simulator, SimulatorOptions, ThrottledShare, ThrottlingKind,
};
use serde_json::{Value, json};

use crate::harness::calls::task;
use crate::harness::{
    Account, Gateway, Message, OTHER_KEY, TENANT_KEY, Upstream, answer, client, configuration, message,
};

const SYNTHESIS: &str = "/api/v1/services/aigc/video-generation/video-synthesis";
const MODEL: &str = "wan2.7-i2v";
/// Models that take a first frame.
const MODELS: [&str; 3] = [MODEL, "wan2.7-i2v-2026-01-01", "wan2.7-i2v-2026-02-02"];
const RESOLVE: &str = "X-DashScope-OssResourceResolve: enable";

/// One simulator for each account.
fn simulators() -> [Simulator; 3] {
    ["sk-east", "sk-west", "sk-north"].map(|key| {
        let keys = vec![key.parse().expect("a key")];
        Simulator::start(SimulatorOptions { keys, submit_rps: Some(u32::MAX), ..SimulatorOptions::default() })
            .expect("a simulator")
    })
}

fn three() -> (Gateway, [Simulator; 3]) {
    let simulators = simulators();
    let [east, west, north] = [0, 1, 2].map(|index| simulators[index].address());
    let gateway = Gateway::pooled(&[
        ("east", east, &["sk-east"], ""),
        ("west", west, &["sk-west"], ""),
        ("north", north, &["sk-north"], ""),
    ]);
    (gateway, simulators)
}

fn policy(gateway: &Gateway, key: &str, model: &str) -> Value {
    let line = format!("GET /api/v1/uploads?action=getPolicy&model={model}");
    let got = gateway.ask(message(&line, &[&format!("Authorization: Bearer {key}")], ""));
    assert_eq!(got.status(), 200, "{}", got.text());
    got.json()["data"].clone()
}

/// Uploads a file under a policy and gives its URL.
fn upload(policy: &Value, name: &str) -> String {
    let text = |name: &str| policy[name].as_str().expect("a field").to_owned();
    let key = format!("{}/{name}", text("upload_dir"));
    let fields = [
        ("OSSAccessKeyId", text("oss_access_key_id")),
        ("Signature", text("signature")),
        ("policy", text("policy")),
        ("key", key.clone()),
        ("x-oss-object-acl", text("x_oss_object_acl")),
        ("x-oss-forbid-overwrite", text("x_oss_forbid_overwrite")),
        ("success_action_status", "200".to_owned()),
    ];
    let part = |(name, value): (&str, String)| {
        format!("--B\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
    };
    let form = fields.into_iter().map(part).collect::<String>()
        + "--B\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.png\"\r\n\r\nxxx\r\n--B--\r\n";
    let host = text("upload_host");
    let address = host.strip_prefix("http://").expect("a host").parse().expect("an address");
    let request = message("POST /", &["Content-Type: multipart/form-data; boundary=B"], &form);
    assert_eq!(client::once(address, request).status(), 200);
    format!("oss://{key}")
}

fn body(urls: &[&str]) -> String {
    let kinds = ["first_frame", "last_frame"];
    let media: Vec<Value> =
        urls.iter().zip(kinds).map(|(url, kind)| json!({"type": kind, "url": url})).collect();
    json!({"model": MODEL, "input": {"prompt": "a cat", "media": media}, "parameters": {"duration": 5}})
        .to_string()
}

fn submit(gateway: &Gateway, key: &str, body: &str) -> Message {
    let fields = [&*format!("Authorization: Bearer {key}"), "X-DashScope-Async: enable", RESOLVE];
    gateway.ask(message(&format!("POST {SYNTHESIS}"), &fields, body))
}

fn sent(simulators: &[Simulator]) -> usize {
    let submits =
        |simulator: &Simulator| simulator.requests().iter().filter(|seen| seen.path() == SYNTHESIS).count();
    simulators.iter().map(submits).sum()
}

#[test]
fn files_are_read_where_they_were_uploaded() {
    let (gateway, simulators) = three();
    let models = ["wan2.7-i2v", "wan2.6-i2v", "wan2.5-i2v-preview", "wan2.2-i2v-plus"];
    for round in 0..24 {
        let key = [TENANT_KEY, OTHER_KEY][round % 2];
        // Policies of other models and tenants come in between.
        for model in models {
            policy(&gateway, [TENANT_KEY, OTHER_KEY][(round + 1) % 2], model);
        }
        let first = upload(&policy(&gateway, key, MODEL), "a.png");
        let last = upload(&policy(&gateway, key, MODEL), "b.png");
        for body in [body(&[&first]), body(&[&first, &last])] {
            let got = submit(&gateway, key, &body);
            assert_eq!(got.status(), 200, "{}", got.text());
        }
    }
    assert_eq!(sent(&simulators), 48);
}

/// A restart between an upload and its use is no reason to refuse a tenant's own file, or to let in another's.
#[test]
fn a_restart_forgets_no_file() {
    let simulators = simulators();
    let names = ["east", "west", "north"];
    let keys = names.map(|name| format!("sk-{name}"));
    let keys = keys.each_ref().map(|key| [key.as_str()]);
    let accounts: Vec<Account<'_>> =
        (0..3).map(|index| (names[index], simulators[index].address(), &keys[index][..], "")).collect();
    let text = configuration("listen = \"127.0.0.1:0\"\nworkers = 1", &accounts, "");
    let mut gateway = Gateway::configured(&text);
    let mut files = Vec::new();
    for round in 0..12 {
        let key = [TENANT_KEY, OTHER_KEY][round % 2];
        // Several models, so that the files lie in several accounts.
        let url = upload(&policy(&gateway, key, MODELS[round % MODELS.len()]), "a.png");
        files.push((round, url));
    }
    for _ in 0..2 {
        gateway = Gateway::over(gateway.stop(), &text);
        for (round, url) in &files {
            let body = body(&[url]).replace(MODEL, MODELS[round % MODELS.len()]);
            let (own, other) = ([TENANT_KEY, OTHER_KEY][round % 2], [TENANT_KEY, OTHER_KEY][(round + 1) % 2]);
            let got = submit(&gateway, other, &body);
            assert_eq!(got.field("x-dashgate-reason").as_deref(), Some("bad_request"), "{}", got.text());
            // The simulator refuses files of another account or model.
            let got = submit(&gateway, own, &body);
            assert_eq!(got.status(), 200, "{}", got.text());
        }
    }
    assert!(simulators.iter().filter(|simulator| !simulator.uploads().is_empty()).count() > 1);
}

#[test]
fn policies_leave_an_account_that_cannot_use_the_files() {
    let (gateway, simulators) = three();
    for simulator in &simulators[..2] {
        simulator.fault(ScriptedFault::on(
            "/api/v1/*",
            FaultAction::Status { status: 400, code: "Arrearage".into(), message: "m".into() },
        ));
    }
    for name in ["a.png", "b.png", "c.png"] {
        let url = upload(&policy(&gateway, TENANT_KEY, MODEL), name);
        assert_eq!(submit(&gateway, TENANT_KEY, &body(&[&url])).status(), 200);
    }
    assert_eq!(simulators[2].uploads().len(), 3);
}

#[test]
fn a_policy_that_is_refused_comes_from_another_account() {
    let (gateway, simulators) = three();
    upload(&policy(&gateway, TENANT_KEY, MODEL), "a.png");
    let before = simulators.iter().position(|simulator| !simulator.uploads().is_empty()).expect("an upload");
    let dead = FaultAction::Status { status: 401, code: "InvalidApiKey".into(), message: "m".into() };
    simulators[before].fault(ScriptedFault::on("*", dead));
    for name in ["b.png", "c.png"] {
        let url = upload(&policy(&gateway, TENANT_KEY, MODEL), name);
        assert_eq!(submit(&gateway, TENANT_KEY, &body(&[&url])).status(), 200);
    }
    assert_eq!(simulators[before].requests().iter().filter(|seen| seen.status == Some(401)).count(), 1);
}

#[test]
fn a_submit_with_files_stays_with_their_account_though_it_is_throttled() {
    let (gateway, simulators) = three();
    let url = upload(&policy(&gateway, TENANT_KEY, MODEL), "a.png");
    for simulator in &simulators {
        simulator.throttle(Some(ThrottledShare { kind: ThrottlingKind::RateQuota, rate: 1.0 }));
    }
    let got = submit(&gateway, TENANT_KEY, &body(&[&url]));
    assert_eq!((got.status(), got.field("x-dashgate-reason")), (429, None));
    assert_eq!(got.field("retry-after"), None, "the next one is sent as well");
    assert_eq!(sent(&simulators), 1);
}

#[test]
fn a_stolen_file_is_refused_in_each_spelling() {
    let (gateway, simulators) = three();
    let stolen = upload(&policy(&gateway, OTHER_KEY, MODEL), "a.png");
    let own = upload(&policy(&gateway, TENANT_KEY, MODEL), "a.png");
    let key = stolen.strip_prefix("oss://").expect("a key");
    let directory = own.rsplit_once('/').expect("a directory").0;
    let up = "../".repeat(directory.matches('/').count() - 1);
    let unknown = submit(&gateway, TENANT_KEY, &body(&["oss://dashscope-instant/none/a.png"]));
    for spelling in [
        stolen.clone(),
        stolen.replace('/', r"\/"),
        stolen.replacen('o', r"\u006f", 1),
        stolen.replace("oss://", r"\u006F\u0073\u0053\u003a\u002f\u002F"),
        stolen.replace("oss", "OSS"),
        format!(" {stolen}"),
        format!("{stolen}?x"),
        format!("{stolen} {own}"),
        format!("{own} {stolen}"),
        format!("{directory}/{up}{key}"),
        format!("{directory}/%2e%2e/{key}"),
        format!("oss:/{key}"),
    ] {
        let with = |text: &str| body(&["PLACE"]).replace("PLACE", text);
        for body in [
            with(&spelling),
            body(&["https://example.com/a.png"]).replacen(
                '{',
                &format!("{{\"x\":[[{{\"y\":\"{spelling}\"}}]],"),
                1,
            ),
            body(&["https://example.com/a.png"]).replacen('{', &format!("{{\"{spelling}\":1,"), 1),
            with("PLACE")
                .replace("\"PLACE\"", &format!("\"{spelling}\",\"url\":\"https://example.com/a.png\"")),
        ] {
            let got = submit(&gateway, TENANT_KEY, &body);
            assert_eq!(
                (got.status(), got.json()["code"].as_str()),
                (400, Some("InvalidParameter")),
                "{body}"
            );
            assert_eq!(got.json()["message"], unknown.json()["message"], "{body}");
            assert_eq!(got.field("x-dashgate-reason").as_deref(), Some("bad_request"));
        }
    }
    assert_eq!(sent(&simulators), 0);
    assert_eq!(submit(&gateway, TENANT_KEY, &body(&[&own])).status(), 200);
    assert_eq!(submit(&gateway, OTHER_KEY, &body(&[&stolen])).status(), 200);
}

#[test]
fn a_body_that_cannot_be_judged_is_refused() {
    let (gateway, simulators) = three();
    let large = body(&["https://example.com/a.png"]).replace("a cat", &"c".repeat(1 << 20));
    for (body, says) in [
        (&*large, "1 MiB"),
        ("{'model':'wan2.7-i2v'}", "must be JSON"),
        ("model=wan2.7-i2v&url=oss://x/y", "must be JSON"),
        (r#"{"a":"\x6fss://x/y"}"#, "must be JSON"),
    ] {
        let got = submit(&gateway, TENANT_KEY, body);
        assert_eq!(got.status(), 400, "{}", got.text());
        assert!(got.text().contains(says), "{}", got.text());
    }
    assert_eq!(sent(&simulators), 0);
}

/// A policy needs its directory, and nothing else.
#[test]
fn a_policy_that_comes_as_no_other_did_is_recorded_too() {
    let upstream = Upstream::start(|request, stream| {
        use std::io::Write;
        let bytes = if request.start_line().starts_with("GET ") {
            answer(
                "201 Created",
                &[],
                "\u{feff}{\"data\":{\"upload_dir\":\"d/h/1\",\"max_file_size_mb\":\"x\"}}",
            )
        } else {
            task("task-1", "PENDING")
        };
        stream.write_all(&bytes).is_ok()
    });
    let gateway = Gateway::start(upstream.address);
    let fields = [&*format!("Authorization: Bearer {TENANT_KEY}")];
    let got = gateway.ask(message("GET /api/v1/uploads?action=getPolicy&model=wan2.7-i2v", &fields, ""));
    assert_eq!(got.status(), 201);
    let got = submit(&gateway, TENANT_KEY, &body(&["oss://d/h/1/a.png"]));
    assert_eq!(got.status(), 200, "{}", got.text());
    assert_eq!(submit(&gateway, OTHER_KEY, &body(&["oss://d/h/1/a.png"])).status(), 400);
}

#[test]
fn a_websocket_cannot_name_files() {
    let (gateway, simulators) = three();
    let fields = [
        &*format!("Authorization: Bearer {TENANT_KEY}"),
        "Connection: upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        RESOLVE,
    ];
    let mut client = client::Client::connect(gateway.address);
    client.send(message("GET /api-ws/v1/inference", &fields, ""));
    assert_eq!(client.head().status(), 101);
    client.leave();
    let seen: Vec<_> = simulators.iter().flat_map(Simulator::requests).collect();
    assert!(seen.len() == 1 && seen[0].header("x-dashscope-ossresourceresolve").is_none());
}

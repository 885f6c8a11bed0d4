//! Simulated OSS: uploads under a policy, results under a signature.

use std::time::Duration;

use dashgate::sim::{Simulator, SimulatorOptions};
use serde_json::{Value, json};

use super::{ASYNC, Answer, SYNTHESIS, ask, get, image_to_video, post, query, start, submit};

fn policy(simulator: &Simulator, model: &str) -> Value {
    get(simulator, "sk-1", &format!("/api/v1/uploads?action=getPolicy&model={model}")).json()["data"].clone()
}

/// Posts the form of a policy with a file of this length, before or behind the other fields.
fn upload(simulator: &Simulator, policy: &Value, length: usize, file_first: bool) -> Answer {
    let text = |name: &str| policy[name].as_str().unwrap().to_owned();
    let fields = [
        ("OSSAccessKeyId", text("oss_access_key_id")),
        ("Signature", text("signature")),
        ("policy", text("policy")),
        ("key", format!("{}/a.png", text("upload_dir"))),
        ("x-oss-object-acl", text("x_oss_object_acl")),
        ("x-oss-forbid-overwrite", text("x_oss_forbid_overwrite")),
        ("success_action_status", "200".to_owned()),
    ];
    let part = |(name, value): (&str, String)| {
        format!("--B\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
    };
    let fields: String = fields.into_iter().map(part).collect();
    let file = format!(
        "--B\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.png\"\r\nContent-Type: image/png\r\n\r\n{}\r\n",
        "x".repeat(length)
    );
    let body = if file_first { file + &fields } else { fields + &file } + "--B--\r\n";
    ask(
        simulator.oss_address(),
        &format!(
            "POST / HTTP/1.1\r\nhost: oss\r\nconnection: close\r\n\
             content-type: multipart/form-data; boundary=B\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        ),
    )
}

#[test]
fn an_upload_is_an_input_for_its_account_and_model_with_the_header() {
    let keys = ["sk-1", "west=sk-2"].map(|key| key.parse().unwrap()).to_vec();
    let simulator = start(SimulatorOptions { keys, ..SimulatorOptions::default() });
    let policy = policy(&simulator, "wan2.7-i2v");
    assert_eq!(policy["upload_host"], format!("http://{}", simulator.oss_address()));
    // A file larger than the part of a body that the journal keeps.
    let stored = upload(&simulator, &policy, 3 << 20, false);
    assert_eq!(stored.status, 200, "{}", stored.text());
    let object = simulator.uploads().remove(0);
    assert_eq!((object.length, object.account.as_str()), (3 << 20, "main"));
    let mut body = image_to_video();
    body["input"]["media"][0]["url"] = format!("oss://{}", object.key).into();
    let resolving = format!("{ASYNC}X-DashScope-OssResourceResolve: enable\r\n");
    let status =
        |key: &str, headers: &str, body: &Value| post(&simulator, key, SYNTHESIS, headers, body).status;
    assert_eq!(status("sk-1", &resolving, &body), 200);
    assert_eq!(status("sk-1", ASYNC, &body), 400);
    assert_eq!(status("sk-2", &resolving, &body), 400);
    body["model"] = "wan2.7-i2v-2026-04-25".into();
    assert_eq!(status("sk-1", &resolving, &body), 400);
}

#[test]
fn a_form_that_breaks_its_policy_is_refused_in_xml() {
    let simulator = start(SimulatorOptions::default());
    let good = policy(&simulator, "wan2.7-i2v");
    let misplaced = upload(&simulator, &good, 3, true);
    assert_eq!(misplaced.status, 400);
    assert!(misplaced.text().contains("<Code>MalformedPOSTRequest</Code>"));
    let mut forged = good.clone();
    forged["signature"] = "AAAA".into();
    assert!(upload(&simulator, &forged, 3, false).text().contains("SignatureDoesNotMatch"));
    let mut elsewhere = good.clone();
    elsewhere["upload_dir"] = "dashscope-instant/other".into();
    assert_eq!(upload(&simulator, &elsewhere, 3, false).status, 403);
    simulator.advance(Duration::from_secs(300));
    let late = upload(&simulator, &good, 3, false);
    assert_eq!(late.status, 403);
    assert!(late.text().contains("Invalid according to Policy: Policy expired."));
}

/// A finished task's result as host-relative target.
fn result(simulator: &Simulator) -> String {
    let id = submit(simulator, "sk-1");
    simulator.finish(&id);
    let url = query(simulator, "sk-1", &id)["output"]["video_url"].as_str().unwrap().to_owned();
    url.strip_prefix(&format!("http://{}", simulator.oss_address())).unwrap().to_owned()
}

fn fetch(simulator: &Simulator, method: &str, target: &str, headers: &str) -> Answer {
    let head = format!("{method} {target} HTTP/1.1\r\nhost: oss\r\nconnection: close\r\n{headers}\r\n");
    ask(simulator.oss_address(), &head)
}

#[test]
fn a_result_is_a_video_for_those_with_the_signed_url_alone() {
    let simulator = start(SimulatorOptions::default());
    let target = result(&simulator);
    let whole = fetch(&simulator, "GET", &target, "");
    assert_eq!((whole.status, whole.header("content-type")), (200, Some("video/mp4")));
    assert_eq!(&whole.body[4..8], b"ftyp");
    let part = fetch(&simulator, "GET", &target, "range: bytes=4-7\r\n");
    assert_eq!((part.status, part.body.as_slice()), (206, b"ftyp".as_slice()));
    let range = format!("bytes 4-7/{}", whole.body.len());
    assert_eq!(part.header("content-range"), Some(range.as_str()));
    let head = fetch(&simulator, "HEAD", &target, "");
    assert_eq!(head.header("content-length"), Some(whole.body.len().to_string().as_str()));
    assert!(head.body.is_empty());
    assert_eq!(fetch(&simulator, "GET", &target, "authorization: Bearer sk-1\r\n").status, 403);
    assert_eq!(fetch(&simulator, "GET", &target.replace("Expires=", "Expires=9"), "").status, 403);
    assert_eq!(fetch(&simulator, "GET", target.split('?').next().unwrap(), "").status, 403);
    simulator.advance(Duration::from_secs(24 * 3600 + 1));
    let late = fetch(&simulator, "GET", &target, "");
    assert_eq!(late.status, 403);
    assert!(late.text().contains("Request has expired."));
}

#[test]
fn any_number_of_bytes_can_be_had() {
    let simulator = start(SimulatorOptions::default());
    assert_eq!(fetch(&simulator, "GET", "/sim/bytes?size=5000000", "").body.len(), 5_000_000);
    let body =
        json!({"model": "qwen-plus", "input": {"prompt": "p"}, "parameters": {"sim": {"bytes": 3_000_000}}});
    let answer = post(&simulator, "sk-1", super::GENERATION, "", &body);
    assert_eq!(answer.json()["output"]["text"].as_str().unwrap().len(), 3_000_000);
}

//! The specification's own library for Python takes what the gateway signs.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::json;

use super::{SECRETS, configured, endpoint, run_task, upstream, wait_for_ends};
use crate::clients::installed;
use crate::harness::Gateway;

#[test]
fn the_reference_library_verifies_deliveries() {
    let (upstream, endpoint) = (upstream(), endpoint("200 OK", &[]));
    let hook = format!("{{ url = \"http://{}/\", secrets = {SECRETS:?}, private = true }}", endpoint.address);
    let gateway = Gateway::configured(&configured(&upstream, &[hook], ""));
    for id in ["t-1", "failed-1", "t-\u{e9}"] {
        run_task(gateway.address, &id.replace('\u{e9}', "e"));
    }
    wait_for_ends(&gateway);
    let deliveries: Vec<_> = endpoint
        .requests()
        .iter()
        .map(|delivery| {
            let fields = ["webhook-id", "webhook-timestamp", "webhook-signature"];
            let headers: serde_json::Map<_, _> =
                fields.iter().map(|name| ((*name).to_owned(), json!(delivery.field(name)))).collect();
            json!({ "headers": headers, "body": delivery.text() })
        })
        .collect();
    assert_eq!(deliveries.len(), 3);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/webhooks.py");
    let mut python = Command::new(installed("python/bin/python"));
    let mut python = python.arg(script).stdin(Stdio::piped()).spawn().expect("python");
    let input = json!({ "secrets": SECRETS, "deliveries": deliveries }).to_string();
    python.stdin.take().expect("its input").write_all(input.as_bytes()).expect("written");
    assert!(python.wait().expect("its end").success());
}
